// SPDX-License-Identifier: GPL-2.0

//! Whose memory is measured.

use crate::device::{Pci, LARGE, PLAIN};

/// The controller whose CMB of 256 MiB two contestants have in turn. `make bench` adds it to the
/// guest's other hardware, whose CMBs are too small for 50,000 mappings.
pub const CMB: Pci = Pci("0000:00:1b.0");

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
}

impl Contestant {
    pub const ALL: [Contestant; 7] = [
        Contestant::Kernel,
        Contestant::P2pmem,
        Contestant::P2pmemRam,
        Contestant::P2pmemSmall,
        Contestant::Anonymous,
        Contestant::Hugetlb,
        Contestant::Tmpfs,
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
        }
    }

    /// The device that p2pmem gets for it.
    pub fn device(self) -> Option<Pci> {
        match self {
            Contestant::P2pmem => Some(CMB),
            Contestant::P2pmemRam => Some(LARGE),
            Contestant::P2pmemSmall => Some(PLAIN),
            _ => None,
        }
    }
}
