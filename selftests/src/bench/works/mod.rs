// SPDX-License-Identifier: GPL-2.0

//! What is measured: each file is one way to use memory, whoever's it is.

mod bind;
mod crowd;
mod fio;
mod large;
mod map;
mod register;
mod reuse;
mod thp;
mod threads;
mod unpin;

use super::contestant::Contestant::{self, *};
use super::memory::Memory;
use super::record::{Quantity, Record, Series};
use crate::random::Random;
use anyhow::Result;
use std::collections::BTreeMap;
use Pace::*;

pub use crowd::CROWDS;
pub use fio::TRANSFERS;

/// Something to do with a contestant's memory.
pub struct Work {
    pub name: &'static str,
    /// Who does it.
    pub contestants: &'static [Contestant],
    pub pace: Pace,
    /// Takes samples, each time as many. Nothing is mapped before and after.
    pub measure: Measure,
}

/// In which rounds something is done.
#[derive(Clone, Copy)]
pub enum Pace {
    Always,
    /// Not in the first of a short run.
    Slow,
    /// In one round of four, the last of them.
    Minutes,
}

type Measure = fn(&Memory, &mut Sheet) -> Result<()>;

impl Pace {
    /// Rounds are counted from 0.
    pub fn is_due(self, round: u64, quick: bool) -> bool {
        match self {
            Pace::Always => true,
            Pace::Slow => !quick || round > 0,
            Pace::Minutes => round % 4 == 3,
        }
    }
}

const fn work(
    name: &'static str,
    contestants: &'static [Contestant],
    pace: Pace,
    measure: Measure,
) -> Work {
    Work {
        name,
        contestants,
        pace,
        measure,
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
        let series = (quantity, self.who);
        self.record.add(series, value);
        self.origins.insert(series, self.origin);
    }
}

pub const WORKS: &[Work] = &[
    work(
        "map-much",
        &[Kernel, P2pmem, P2pmemRam, Anonymous, Hugetlb, Tmpfs],
        Always,
        map::measure_much,
    ),
    work(
        "map-aligned",
        &[Kernel, P2pmem, P2pmemRam],
        Always,
        map::measure_much_aligned,
    ),
    work(
        "map-page",
        &[Kernel, P2pmem, P2pmemRam, Anonymous, Tmpfs],
        Always,
        map::measure_pages,
    ),
    work(
        "register",
        &[P2pmem, P2pmemRam, Anonymous, Hugetlb],
        Always,
        register::measure,
    ),
    work(
        "register-aligned",
        &[P2pmemRam],
        Always,
        register::measure_aligned,
    ),
    work("reuse", &[P2pmem, P2pmemRam], Always, reuse::measure),
    work(
        "unpin",
        &[P2pmemRam, P2pmemSmall, P2pmem16G],
        Always,
        unpin::measure,
    ),
    work("unpin-much", &[P2pmemRam], Always, unpin::measure_much),
    work("crowd", &[Kernel], Slow, crowd::measure),
    // Under the machine's own setting, too.
    work("thp-crowd", &[P2pmemRam], Slow, thp::measure_crowd),
    work(
        "threads",
        &[Kernel, P2pmemRam, Tmpfs],
        Always,
        threads::measure,
    ),
    work(
        "fio",
        &[Kernel, P2pmem, P2pmemRam, Anonymous],
        Always,
        fio::measure,
    ),
    work("thp", &[P2pmemRam], Always, |memory, sheet| {
        let works: &[Measure] = &[
            map::measure_much,
            map::measure_much_aligned,
            map::measure_pages,
            register::measure,
            register::measure_aligned,
        ];
        thp::under_each(memory, sheet, works)
    }),
    work("thp-reuse", &[P2pmemRam], Slow, |memory, sheet| {
        thp::under_each(memory, sheet, &[reuse::measure])
    }),
    work("thp-unpin", &[P2pmemRam], Slow, |memory, sheet| {
        thp::under_each(memory, sheet, &[unpin::measure, unpin::measure_much])
    }),
    work("thp-threads", &[P2pmemRam], Slow, |memory, sheet| {
        thp::under_each(memory, sheet, &[threads::measure])
    }),
    work("thp-fio", &[P2pmemRam], Slow, |memory, sheet| {
        thp::under_each(memory, sheet, &[fio::measure])
    }),
    work(
        "bind",
        &[Kernel8G, P2pmem8G, P2pmem16G, P2pmem64G],
        Always,
        bind::measure,
    ),
    work(
        "thp-bind",
        &[P2pmem16G, P2pmem64G],
        Slow,
        |memory, sheet| thp::under_each(memory, sheet, &[bind::measure]),
    ),
    work("map-whole", &[P2pmem16G], Minutes, large::measure_whole),
    // After it, for here is what that is compared with.
    work("map-part", &[P2pmem16G], Always, large::measure_part),
    // On memory that has been in use, as whatever follows finds it.
    work("thp-part", &[P2pmem16G], Slow, |memory, sheet| {
        thp::under_each(memory, sheet, &[large::measure_used_part])
    }),
    work("thp-whole", &[P2pmem16G], Minutes, |memory, sheet| {
        thp::under_each(memory, sheet, &[large::measure_used_whole])
    }),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = WORKS.iter().map(|work| work.name).collect();
        assert_eq!(names.len(), WORKS.len());
    }

    #[test]
    fn what_is_slow_is_in_the_second_round_of_a_short_run() {
        let due = |quick| [0, 1, 2].map(|round| Slow.is_due(round, quick));
        assert_eq!(due(true), [false, true, true]);
        assert_eq!(due(false), [true, true, true]);
    }

    #[test]
    fn a_short_run_leaves_out_16_gib_and_nothing_else() {
        let never = |work: &&Work| !(0..2).any(|round| work.pace.is_due(round, true));
        let names: Vec<_> = WORKS.iter().filter(never).map(|work| work.name).collect();
        assert_eq!(names, ["map-whole", "thp-whole"]);
    }

    #[test]
    fn what_takes_minutes_is_in_each_fourth_round() {
        let due: Vec<u64> = (0..11)
            .filter(|&round| Minutes.is_due(round, false))
            .collect();
        assert_eq!(due, [3, 7]);
    }
}
