// SPDX-License-Identifier: GPL-2.0

//! What has been measured: samples, by quantity and contestant.

use super::contestant::Contestant;
use std::collections::BTreeMap;

/// Something that takes time, or memory. In the order in which results are shown.
///
/// Memory that is mapped gets all its page table entries at once unless it says otherwise, and what
/// is registered is populated. Aligned mappings begin at a multiple of 2 MiB; the others wherever
/// the kernel puts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    MapMuch,
    MapMuchAligned,
    MapPage,
    Write,
    Reuse,
    Unpin,
    UnpinWorst,
    UnpinMuch,
    RegisterVerbs,
    RegisterVerbsAligned,
    RegisterUring,
    RegisterUringAligned,
    AllocateAmong(Crowd),
    /// So many threads do.
    AllocateBy(Filled, usize),
    Read(Transfer),
    Bind,
    Unbind,
    BindMemory,
    MapLarge(Extent),
    ReserveFirst(Extent),
    ReserveAgain(Extent),
}

/// How a sample counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Bytes,
    /// Where the clock counts them instead.
    Instructions,
}

/// How much is read from a disk at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transfer {
    /// 4 KiB.
    Small,
    /// 128 KiB.
    Large,
}

/// What is mapped already while a page is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crowd {
    /// So many pages, each a mapping of its own.
    Pages(usize),
    /// So many, of which a half, chosen at random, has been unmapped again.
    HalfOf(usize),
}

/// How much of a device of 16 GiB is mapped at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Extent {
    /// 1 GiB.
    Part,
    /// All of it.
    Whole,
}

/// How a mapping gets its page table entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filled {
    /// By a fault for each page table.
    ByTouch,
    /// By MAP_POPULATE.
    AtOnce,
}

impl Transfer {
    pub fn bytes(self) -> usize {
        match self {
            Transfer::Small => 4 << 10,
            Transfer::Large => 128 << 10,
        }
    }
}

impl Extent {
    pub fn bytes(self) -> usize {
        match self {
            Extent::Part => 1 << 30,
            Extent::Whole => 16 << 30,
        }
    }

    fn name(self) -> String {
        format!("{} GiB", self.bytes() >> 30)
    }
}

impl Unit {
    pub fn symbol(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Bytes => "bytes",
            Unit::Instructions => "instructions",
        }
    }
}

impl Crowd {
    pub fn name(self) -> String {
        match self {
            Crowd::Pages(0) => "none".to_owned(),
            Crowd::Pages(count) => with_thousands(count),
            Crowd::HalfOf(count) => format!("half of {}", with_thousands(count)),
        }
    }
}

fn with_thousands(count: usize) -> String {
    match count {
        0..1000 => count.to_string(),
        _ => format!("{},{:03}", with_thousands(count / 1000), count % 1000),
    }
}

impl Quantity {
    pub fn name(self) -> String {
        let map = "map and unmap 64 MiB";
        let reserve = |extent: Extent| format!("mmap of {}, per 2 MiB", extent.name());
        let verbs = "ibv_reg_mr 64 MiB";
        let uring = "io_uring buffer of 64 MiB";
        match self {
            Quantity::MapMuch => map.to_owned(),
            Quantity::MapMuchAligned => format!("{map}, aligned"),
            Quantity::MapPage => "map and unmap 4 KiB".to_owned(),
            Quantity::Write => "write 64 MiB".to_owned(),
            Quantity::Reuse => "unmap 64 MiB until available".to_owned(),
            Quantity::Unpin => "unpin 2 MiB until available".to_owned(),
            Quantity::UnpinWorst => "unpin 2 MiB until available, longest of 16".to_owned(),
            Quantity::UnpinMuch => "unpin 64 MiB until available".to_owned(),
            Quantity::RegisterVerbs => verbs.to_owned(),
            Quantity::RegisterVerbsAligned => format!("{verbs}, aligned"),
            Quantity::RegisterUring => uring.to_owned(),
            Quantity::RegisterUringAligned => format!("{uring}, aligned"),
            Quantity::AllocateAmong(crowd) => format!("map 4 KiB among {}", crowd.name()),
            Quantity::AllocateBy(filled, threads) => {
                let how = match filled {
                    Filled::ByTouch => "map and touch",
                    Filled::AtOnce => "map",
                };
                let by = if threads == 1 { "thread" } else { "threads" };
                format!("{how} 2 MiB, {threads} {by}")
            }
            Quantity::Read(transfer) => {
                format!("read {} KiB from a disk (fio)", transfer.bytes() >> 10)
            }
            Quantity::Bind => "bind, per GiB".to_owned(),
            Quantity::Unbind => "unbind, per GiB".to_owned(),
            Quantity::BindMemory => "memory to bind, per GiB".to_owned(),
            Quantity::MapLarge(extent) => {
                format!("map and unmap {}, per 64 MiB", extent.name())
            }
            Quantity::ReserveFirst(extent) => format!("{}, the first", reserve(extent)),
            Quantity::ReserveAgain(extent) => format!("{}, again", reserve(extent)),
        }
    }

    pub fn unit(self) -> Unit {
        match self {
            Quantity::BindMemory => Unit::Bytes,
            _ => Unit::Seconds,
        }
    }
}

/// What is measured, and of whom.
pub type Series = (Quantity, Contestant);

/// A round, and which of a series' samples in it.
type Moment = (u64, usize);

/// All samples, in seconds (or bytes) for one operation.
#[derive(Default)]
pub struct Record {
    round: u64,
    samples: BTreeMap<Series, BTreeMap<Moment, f64>>,
}

impl Record {
    /// What is added from now on is of that round.
    pub fn set_round(&mut self, round: u64) {
        self.round = round;
    }

    pub fn add(&mut self, series: Series, value: f64) {
        let samples = self.samples.entry(series).or_default();
        let number = samples.range((self.round, 0)..).count();
        samples.insert((self.round, number), value);
    }

    /// In the order of the rounds.
    pub fn samples(&self, series: Series) -> Vec<f64> {
        let samples = self.samples.get(&series).into_iter();
        samples.flat_map(BTreeMap::values).copied().collect()
    }

    /// That of each sample.
    pub fn rounds(&self, series: Series) -> Vec<u64> {
        let samples = self.samples.get(&series).into_iter();
        let rounds = samples.flat_map(BTreeMap::keys);
        rounds.map(|&(round, _)| round).collect()
    }

    /// Sample by sample: those of one round were taken soon after each other, so that a machine that
    /// is slower for a while slows down both.
    pub fn ratios(&self, over: Series, under: Series) -> Vec<f64> {
        let (Some(over), Some(under)) = (self.samples.get(&over), self.samples.get(&under)) else {
            return Vec::new();
        };
        let ratio = |(moment, over): (_, &f64)| Some(over / under.get(moment)?);
        over.iter().filter_map(ratio).collect()
    }

    pub fn series(&self) -> impl Iterator<Item = Series> + '_ {
        self.samples.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_counts_are_grouped() {
        assert_eq!(with_thousands(0), "0");
        assert_eq!(with_thousands(999), "999");
        assert_eq!(with_thousands(10_000), "10,000");
        assert_eq!(with_thousands(1_000_050), "1,000,050");
    }

    #[test]
    fn samples_stay_in_their_series() {
        let mut record = Record::default();
        record.add((Quantity::MapPage, Contestant::Kernel), 2.0);
        record.add((Quantity::MapMuch, Contestant::Tmpfs), 3.0);
        record.add((Quantity::MapPage, Contestant::Kernel), 1.0);
        let of = |quantity, who| record.samples((quantity, who));
        assert_eq!(of(Quantity::MapPage, Contestant::Kernel), [2.0, 1.0]);
        assert_eq!(of(Quantity::MapMuch, Contestant::Kernel), [0.0; 0]);
        assert_eq!(record.series().count(), 2);
    }

    #[test]
    fn a_ratio_is_of_two_samples_of_the_same_round() {
        let (kernel, p2pmem) = [Contestant::Kernel, Contestant::P2pmem]
            .map(|who| (Quantity::MapPage, who))
            .into();
        let mut record = Record::default();
        // A machine of half the speed in the second round does not show.
        for (round, speed) in [(0, 1.0), (1, 2.0)] {
            record.set_round(round);
            record.add(kernel, 6.0 * speed);
            record.add(p2pmem, 2.0 * speed);
        }
        assert_eq!(record.ratios(kernel, p2pmem), [3.0, 3.0]);
        // Nor does it matter who has no sample in some round, and who has two.
        record.set_round(2);
        record.add(kernel, 100.0);
        record.set_round(3);
        for (over, under) in [(8.0, 2.0), (15.0, 3.0)] {
            record.add(kernel, over);
            record.add(p2pmem, under);
        }
        assert_eq!(record.ratios(kernel, p2pmem), [3.0, 3.0, 4.0, 5.0]);
        assert_eq!(record.rounds(p2pmem), [0, 1, 3, 3]);
    }
}
