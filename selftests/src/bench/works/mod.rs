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
use super::record::{Quantity, Record, Series};
use crate::random::Random;
use anyhow::Result;
use std::collections::BTreeMap;

pub use crowd::CROWDS;
pub use fio::TRANSFERS;

/// Something to do with a contestant's memory.
pub struct Work {
    pub name: &'static str,
    /// Who does it.
    pub contestants: &'static [Contestant],
    /// One round in so many has it, the last of them.
    pub every: u64,
    /// Takes one sample of each of its quantities. Nothing is mapped before and after.
    pub measure: Measure,
}

type Measure = fn(&Memory, &mut Sheet) -> Result<()>;

impl Work {
    const fn each_round(
        name: &'static str,
        contestants: &'static [Contestant],
        measure: Measure,
    ) -> Work {
        Work {
            name,
            contestants,
            every: 1,
            measure,
        }
    }
}

/// Where one contestant's samples go.
pub struct Sheet<'a> {
    pub who: Contestant,
    /// In whose turn, and by which work.
    pub origin: (Contestant, &'static str),
    pub record: &'a mut Record,
    pub origins: &'a mut BTreeMap<Series, (Contestant, &'static str)>,
    pub random: &'a mut Random,
}

impl Sheet<'_> {
    fn add(&mut self, quantity: Quantity, value: f64) {
        self.record.add((quantity, self.who), value);
        self.origins.insert((quantity, self.who), self.origin);
    }
}

pub const WORKS: &[Work] = &[
    Work::each_round(
        "map-much",
        &[Kernel, P2pmem, P2pmemRam, Anonymous, Hugetlb, Tmpfs],
        map::measure_much,
    ),
    Work::each_round(
        "map-aligned",
        &[Kernel, P2pmem, P2pmemRam],
        map::measure_much_aligned,
    ),
    Work::each_round(
        "map-page",
        &[Kernel, P2pmem, P2pmemRam, Anonymous, Tmpfs],
        map::measure_pages,
    ),
    Work::each_round(
        "register",
        &[P2pmem, P2pmemRam, Anonymous, Hugetlb],
        register::measure,
    ),
    Work::each_round("register-aligned", &[P2pmemRam], register::measure_aligned),
    Work::each_round("reuse", &[P2pmem, P2pmemRam], reuse::measure),
    Work::each_round(
        "unpin",
        &[P2pmemRam, P2pmemSmall, P2pmem16G],
        unpin::measure,
    ),
    Work::each_round("unpin-much", &[P2pmemRam], unpin::measure_much),
    Work::each_round("crowd", &[Kernel, P2pmemRam], crowd::measure),
    Work::each_round("threads", &[Kernel, P2pmemRam, Tmpfs], threads::measure),
    Work::each_round("thp", &[P2pmemRam], thp::measure),
    Work {
        every: 4,
        ..Work::each_round("thp-more", &[P2pmemRam], thp::measure_more)
    },
    Work::each_round("fio", &[Kernel, P2pmem, P2pmemRam, Anonymous], fio::measure),
    Work::each_round(
        "bind",
        &[Kernel8G, P2pmem8G, P2pmem16G, P2pmem64G],
        bind::measure,
    ),
    Work {
        every: 4,
        ..Work::each_round("thp-bind", &[P2pmem16G, P2pmem64G], thp::measure_bind)
    },
    Work {
        every: 4,
        ..Work::each_round("map-whole", &[P2pmem16G], whole::measure)
    },
    // On memory that has been in use.
    Work {
        every: 4,
        ..Work::each_round("thp-whole", &[P2pmem16G], thp::measure_whole)
    },
];
