// SPDX-License-Identifier: GPL-2.0

//! Whose memory is measured.

use crate::device::{Pci, LARGE, PLAIN};

// What `make bench` adds to the guest's other hardware.

/// The controller whose CMB of 256 MiB two contestants have in turn, behind a PCIe switch. (The
/// other CMBs are too small for 50,000 mappings.)
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
}

impl Contestant {
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

    pub fn name(self) -> &'static str {
        match self {
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
        }
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
