// SPDX-License-Identifier: GPL-2.0

//! What is measured: each file is one way to use memory, whoever's it is.

mod bind;
mod crowd;
mod fio;
mod map;
mod register;
mod reuse;
mod thp;
mod threads;
mod unpin;
mod whole;

use super::contestant::Contestant::{self, *};
use super::memory::Memory;
use super::record::{Quantity, Record};
use crate::random::Random;
use anyhow::Result;

pub use crowd::CROWDS;
pub use fio::TRANSFERS;

/// Something to do with a contestant's memory.
pub struct Work {
    pub name: &'static str,
    /// Who does it.
    pub contestants: &'static [Contestant],
    /// One round in so many has it.
    pub every: u64,
    /// Takes one sample of each of its quantities. Nothing is mapped before and after.
    pub measure: fn(&Memory, &mut Sheet) -> Result<()>,
}

/// Where one contestant's samples go.
pub struct Sheet<'a> {
    pub who: Contestant,
    pub record: &'a mut Record,
    pub random: &'a mut Random,
}

impl Sheet<'_> {
    fn add(&mut self, quantity: Quantity, value: f64) {
        self.record.add(quantity, self.who, value);
    }
}

pub const WORKS: &[Work] = &[
    Work {
        name: "map-much",
        contestants: &[Kernel, P2pmem, P2pmemRam, Anonymous, Hugetlb, Tmpfs],
        every: 1,
        measure: map::measure_much,
    },
    Work {
        name: "map-aligned",
        contestants: &[Kernel, P2pmem, P2pmemRam],
        every: 1,
        measure: map::measure_much_aligned,
    },
    Work {
        name: "map-page",
        contestants: &[Kernel, P2pmem, P2pmemRam, Anonymous, Tmpfs],
        every: 1,
        measure: map::measure_pages,
    },
    Work {
        name: "register",
        contestants: &[P2pmem, P2pmemRam, Anonymous, Hugetlb],
        every: 1,
        measure: register::measure,
    },
    Work {
        name: "register-aligned",
        contestants: &[P2pmemRam],
        every: 1,
        measure: register::measure_aligned,
    },
    Work {
        name: "reuse",
        contestants: &[P2pmem, P2pmemRam],
        every: 1,
        measure: reuse::measure,
    },
    Work {
        name: "unpin",
        contestants: &[P2pmemRam, P2pmemSmall],
        every: 1,
        measure: unpin::measure,
    },
    Work {
        name: "crowd",
        contestants: &[Kernel, P2pmemRam],
        every: 1,
        measure: crowd::measure,
    },
    Work {
        name: "threads",
        contestants: &[Kernel, P2pmemRam, Tmpfs],
        every: 1,
        measure: threads::measure,
    },
    Work {
        name: "thp",
        contestants: &[P2pmemRam],
        every: 1,
        measure: thp::measure,
    },
    Work {
        name: "fio",
        contestants: &[Kernel, P2pmem, P2pmemRam, Anonymous],
        every: 1,
        measure: fio::measure,
    },
    Work {
        name: "bind",
        contestants: &[Kernel8G, P2pmem16G, P2pmem64G],
        every: 1,
        measure: bind::measure,
    },
    Work {
        name: "map-whole",
        contestants: &[P2pmem16G],
        every: 4,
        measure: whole::measure,
    },
];
