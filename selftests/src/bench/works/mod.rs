// SPDX-License-Identifier: GPL-2.0

//! What is measured: each file is one way to use memory, whoever's it is.

mod crowd;
mod map;
mod register;
mod reuse;
mod thp;
mod threads;
mod unpin;

use super::contestant::Contestant::{self, *};
use super::memory::Memory;
use super::record::{Quantity, Record};
use crate::random::Random;
use anyhow::Result;

pub use crowd::CROWDS;

/// Something to do with a contestant's memory.
pub struct Work {
    pub name: &'static str,
    /// Who does it.
    pub contestants: &'static [Contestant],
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
    fn add(&mut self, quantity: Quantity, seconds: f64) {
        self.record.add(quantity, self.who, seconds);
    }
}

pub const WORKS: &[Work] = &[
    Work {
        name: "map-much",
        contestants: &[Kernel, P2pmem, P2pmemRam, Anonymous, Hugetlb, Tmpfs],
        measure: map::measure_much,
    },
    Work {
        name: "map-aligned",
        contestants: &[Kernel, P2pmem, P2pmemRam],
        measure: map::measure_much_aligned,
    },
    Work {
        name: "map-page",
        contestants: &[Kernel, P2pmem, P2pmemRam, Anonymous, Tmpfs],
        measure: map::measure_pages,
    },
    Work {
        name: "register",
        contestants: &[P2pmem, P2pmemRam, Anonymous, Hugetlb],
        measure: register::measure,
    },
    Work {
        name: "register-aligned",
        contestants: &[P2pmemRam],
        measure: register::measure_aligned,
    },
    Work {
        name: "reuse",
        contestants: &[P2pmem, P2pmemRam],
        measure: reuse::measure,
    },
    Work {
        name: "unpin",
        contestants: &[P2pmemRam, P2pmemSmall],
        measure: unpin::measure,
    },
    Work {
        name: "crowd",
        contestants: &[Kernel, P2pmemRam],
        measure: crowd::measure,
    },
    Work {
        name: "threads",
        contestants: &[Kernel, P2pmemRam, Tmpfs],
        measure: threads::measure,
    },
    Work {
        name: "thp",
        contestants: &[P2pmemRam],
        measure: thp::measure,
    },
];
