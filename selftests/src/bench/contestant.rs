// SPDX-License-Identifier: GPL-2.0

//! Whose memory is measured.

use crate::device::{Pci, LARGE, PLAIN};

// What `make bench` adds to the guest's other hardware.

/// The controller whose CMB of 256 MiB two contestants have in turn, behind a PCIe switch: it
/// has room for 50,000 mappings, and is within reach of a disk.
pub const CMB: Pci = Pci("0000:04:00.0");
/// The disk behind the same switch.
pub const SOURCE: Pci = Pci("0000:05:00.0");
/// A controller with a CMB of 8 GiB.
const CMB_8G: Pci = Pci("0000:00:1c.0");
/// Plain BARs of 16 and 64 GiB, with sparse files behind them.
const BAR_16G: Pci = Pci("0000:00:1d.0");
const BAR_64G: Pci = Pci("0000:00:1e.0");

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contestant {
    /// The CMB, by the nvme driver and the kernel's own `p2pmem/allocate`.
    Kernel,
    /// The same CMB, by p2pmem.
    P2pmem,
    /// A BAR of the same size with RAM behind it, by p2pmem.
    P2pmemRam,
    /// Such a BAR of a quarter of the size.
    P2pmemSmall,
    /// Anonymous memory in pages of 4 KiB.
    Anonymous,
    /// Pages of 2 MiB, set aside at the start.
    Hugetlb,
    /// Files of a tmpfs with huge=always. Their memory is there before they are mapped.
    Tmpfs,
    /// A CMB of 8 GiB, by the nvme driver.
    Kernel8G,
    /// The same, by p2pmem.
    P2pmem8G,
    /// A BAR of 16 GiB, by p2pmem.
    P2pmem16G,
    /// A BAR of 64 GiB, by p2pmem.
    P2pmem64G,
    /// One of p2pmem's, with that setting of `transparent_hugepage/enabled`.
    Under(Thp, Base),
}

/// Whose memory is measured under each setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    P2pmemRam,
    P2pmem16G,
    P2pmem64G,
}

/// A setting of `transparent_hugepage/enabled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thp {
    Always,
    Never,
    Madvise,
}

impl Thp {
    pub const ALL: [Thp; 3] = [Thp::Always, Thp::Never, Thp::Madvise];

    pub fn value(self) -> &'static str {
        match self {
            Thp::Always => "always",
            Thp::Never => "never",
            Thp::Madvise => "madvise",
        }
    }
}

impl Base {
    fn of(who: Contestant) -> Option<Base> {
        match who {
            Contestant::P2pmemRam => Some(Base::P2pmemRam),
            Contestant::P2pmem16G => Some(Base::P2pmem16G),
            Contestant::P2pmem64G => Some(Base::P2pmem64G),
            _ => None,
        }
    }

    pub fn contestant(self) -> Contestant {
        match self {
            Base::P2pmemRam => Contestant::P2pmemRam,
            Base::P2pmem16G => Contestant::P2pmem16G,
            Base::P2pmem64G => Contestant::P2pmem64G,
        }
    }
}

impl Contestant {
    /// Those who have a turn.
    pub const ALL: [Contestant; 11] = [
        Contestant::Kernel,
        Contestant::P2pmem,
        Contestant::P2pmemRam,
        Contestant::P2pmemSmall,
        Contestant::Anonymous,
        Contestant::Hugetlb,
        Contestant::Tmpfs,
        Contestant::Kernel8G,
        Contestant::P2pmem8G,
        Contestant::P2pmem16G,
        Contestant::P2pmem64G,
    ];

    /// The same memory with another setting, where that is measured.
    pub fn under(self, thp: Thp) -> Option<Contestant> {
        Base::of(self).map(|base| Contestant::Under(thp, base))
    }

    pub fn name(self) -> String {
        let name = match self {
            Contestant::Kernel => "kernel",
            Contestant::P2pmem => "p2pmem",
            Contestant::P2pmemRam => "p2pmem-ram",
            Contestant::P2pmemSmall => "p2pmem-ram-64M",
            Contestant::Anonymous => "anonymous",
            Contestant::Hugetlb => "hugetlb",
            Contestant::Tmpfs => "tmpfs",
            Contestant::Kernel8G => "kernel-8G",
            Contestant::P2pmem8G => "p2pmem-8G",
            Contestant::P2pmem16G => "p2pmem-16G",
            Contestant::P2pmem64G => "p2pmem-64G",
            Contestant::Under(thp, base) => {
                return format!("{}, THP {}", base.contestant().name(), thp.value())
            }
        };
        name.to_owned()
    }

    /// Where its memory is from.
    pub fn origin(self) -> Origin {
        match self {
            Contestant::Kernel => Origin::Nvme(CMB),
            Contestant::Kernel8G => Origin::Nvme(CMB_8G),
            Contestant::P2pmem => Origin::Module(CMB),
            Contestant::P2pmemRam => Origin::Module(LARGE),
            Contestant::P2pmemSmall => Origin::Module(PLAIN),
            Contestant::P2pmem8G => Origin::Module(CMB_8G),
            Contestant::P2pmem16G => Origin::Module(BAR_16G),
            Contestant::P2pmem64G => Origin::Module(BAR_64G),
            Contestant::Under(_, base) => base.contestant().origin(),
            Contestant::Anonymous => Origin::Anonymous,
            Contestant::Hugetlb => Origin::Hugetlb,
            Contestant::Tmpfs => Origin::Tmpfs,
        }
    }
}

/// A kind of memory.
#[derive(Clone, Copy)]
pub enum Origin {
    /// The device's, by the nvme driver.
    Nvme(Pci),
    /// The device's, by p2pmem.
    Module(Pci),
    Tmpfs,
    Hugetlb,
    Anonymous,
}
