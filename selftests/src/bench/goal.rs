// SPDX-License-Identifier: GPL-2.0

//! What is asked of the measurements, and whether they are it.

use super::record::{Record, Series};
use super::stats::Spread;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Subject {
    /// The first over the second.
    Ratio(Series, Series),
    /// In milliseconds. Under emulation that says little, but then it is on the safe side.
    Time(Series),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Only to be told; more is better.
    More,
    /// Only to be told; less is better.
    Less,
    /// Only to be told, of others.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Goal {
    pub subject: Subject,
    pub bound: Bound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    Told,
    NotMeasured,
}

impl Bound {
    /// How many times as good as asked for; less than 1 is not good enough.
    pub fn score(self, value: f64) -> Option<f64> {
        match self {
            Bound::AtLeast(least) => Some(value / least),
            Bound::AtMost(most) => Some(most / value),
            Bound::More | Bound::Less | Bound::Any => None,
        }
    }

    /// How many times better the first of two values is than the second.
    pub fn better(self, value: f64, other: f64) -> Option<f64> {
        match self {
            Bound::AtLeast(_) | Bound::More => Some(value / other),
            Bound::AtMost(_) | Bound::Less => Some(other / value),
            Bound::Any => None,
        }
    }

    pub fn text(self, unit: &str) -> String {
        match self {
            Bound::AtLeast(least) => format!("≥ {least}{unit}"),
            Bound::AtMost(most) => format!("≤ {most}{unit}"),
            Bound::More | Bound::Less | Bound::Any => String::new(),
        }
    }
}

impl Subject {
    pub fn unit(self) -> &'static str {
        match self {
            Subject::Ratio(..) => "",
            Subject::Time(_) => " ms",
        }
    }

    /// What it is made of.
    pub fn series(self) -> Vec<Series> {
        match self {
            Subject::Ratio(over, under) => vec![over, under],
            Subject::Time(series) => vec![series],
        }
    }

    /// What is measured, and of whom.
    pub fn text(self) -> (String, String) {
        match self {
            Subject::Ratio((over, a), (under, b)) if over == under => {
                (over.name(), format!("{} / {}", a.name(), b.name()))
            }
            Subject::Ratio((over, a), (under, b)) if a == b => {
                (format!("{} / {}", over.name(), under.name()), a.name())
            }
            Subject::Ratio((over, a), (under, b)) => (
                format!("{} / {}", over.name(), under.name()),
                format!("{} / {}", a.name(), b.name()),
            ),
            Subject::Time((quantity, who)) => (quantity.name(), who.name().to_owned()),
        }
    }

    /// Of the ratios of the rounds, not the ratio of medians: see [`Record::ratios`].
    pub fn value(self, record: &Record) -> Option<Spread> {
        let values = match self {
            Subject::Ratio(over, under) => record.ratios(over, under),
            Subject::Time(series) => {
                let samples = record.samples(series).into_iter();
                samples.map(|time| time * 1e3).collect()
            }
        };
        Spread::of(&values)
    }
}

impl Goal {
    pub fn verdict(self, value: Option<Spread>) -> Verdict {
        let Some(value) = value else {
            return Verdict::NotMeasured;
        };
        match self.bound.score(value.median) {
            None => Verdict::Told,
            Some(score) if score >= 1.0 => Verdict::Met,
            Some(_) => Verdict::Missed,
        }
    }
}

impl Verdict {
    pub fn text(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "MISSED",
            Verdict::Told => "",
            Verdict::NotMeasured => "NOT MEASURED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::contestant::Contestant::{Kernel, P2pmem};
    use super::super::record::Quantity::{self, MapPage};
    use super::*;

    const RATIO: Subject = Subject::Ratio((MapPage, Kernel), (MapPage, P2pmem));

    fn verdict(bound: Bound, median: f64) -> Verdict {
        let goal = Goal {
            subject: RATIO,
            bound,
        };
        goal.verdict(Spread::of(&[median]))
    }

    #[test]
    fn a_bound_itself_is_good_enough() {
        assert_eq!(verdict(Bound::AtLeast(20.0), 20.0), Verdict::Met);
        assert_eq!(verdict(Bound::AtLeast(20.0), 19.9), Verdict::Missed);
        assert_eq!(verdict(Bound::AtMost(1.5), 1.5), Verdict::Met);
        assert_eq!(verdict(Bound::AtMost(1.5), 1.51), Verdict::Missed);
        assert_eq!(verdict(Bound::Any, 7.0), Verdict::Told);
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let goal = Goal {
            subject: RATIO,
            bound: Bound::AtLeast(0.0),
        };
        assert_eq!(
            goal.verdict(RATIO.value(&Record::default())),
            Verdict::NotMeasured
        );
    }

    #[test]
    fn a_ratio_is_the_first_over_the_second() {
        let mut record = Record::default();
        for (kernel, p2pmem) in [(40.0, 2.0), (66.0, 3.0), (21.0, 1.0)] {
            record.add((MapPage, Kernel), kernel);
            record.add((MapPage, P2pmem), p2pmem);
        }
        assert_eq!(RATIO.value(&record).unwrap().median, 21.0);
    }

    #[test]
    fn a_time_is_in_milliseconds() {
        let mut record = Record::default();
        record.add((Quantity::Unpin, P2pmem), 0.25);
        let time = Subject::Time((Quantity::Unpin, P2pmem));
        assert_eq!(time.value(&record).unwrap().median, 250.0);
    }

    #[test]
    fn a_score_is_how_many_times_as_good_as_asked_for() {
        assert_eq!(Bound::AtLeast(20.0).score(40.0), Some(2.0));
        assert_eq!(Bound::AtMost(1.5).score(3.0), Some(0.5));
        assert_eq!(Bound::Less.score(3.0), None);
    }

    #[test]
    fn what_is_only_told_may_be_better_or_worse_all_the_same() {
        assert_eq!(Bound::AtLeast(20.0).better(6.0, 3.0), Some(2.0));
        assert_eq!(Bound::More.better(6.0, 3.0), Some(2.0));
        assert_eq!(Bound::AtMost(1.5).better(6.0, 3.0), Some(0.5));
        assert_eq!(Bound::Less.better(6.0, 3.0), Some(0.5));
        assert_eq!(Bound::Any.better(6.0, 3.0), None);
    }

    #[test]
    fn what_both_sides_share_is_said_once() {
        let (what, who) = RATIO.text();
        assert_eq!(
            (what.as_str(), who.as_str()),
            ("map and unmap 4 KiB", "kernel / p2pmem")
        );
        let (what, who) =
            Subject::Ratio((Quantity::Reuse, P2pmem), (Quantity::Write, P2pmem)).text();
        assert_eq!(what, "unmap 64 MiB until available / write 64 MiB");
        assert_eq!(who, "p2pmem");
    }
}
