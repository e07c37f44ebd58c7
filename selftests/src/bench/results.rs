// SPDX-License-Identifier: GPL-2.0

//! The results of another run.

use super::goal::{Bound, Goal, Subject};
use super::record::Record;
use super::report::digits;
use super::stats::Spread;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub struct Results {
    /// What was measured on, and what.
    pub processor: String,
    pub revision: String,
    /// Of each subject, by what it says of itself.
    spreads: BTreeMap<(String, String), Spread>,
}

impl Results {
    /// Of the JSON that a run has written.
    pub fn read(path: &Path) -> Result<Results> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let results = Results::parse(&text);
        results.with_context(|| format!("{} has no results of a bench", path.display()))
    }

    fn parse(text: &str) -> Option<Results> {
        let json: Value = serde_json::from_str(text).ok()?;
        let mut spreads = BTreeMap::new();
        for goal in json["goals"].as_array()? {
            // Not everything can be measured in every run.
            if let Value::Object(value) = &goal["value"] {
                let key = (goal["of"].as_str()?.into(), goal["who"].as_str()?.into());
                let number = |name| value.get(name)?.as_f64();
                let spread = Spread {
                    q1: number("q1")?,
                    median: number("median")?,
                    q3: number("q3")?,
                };
                spreads.insert(key, spread);
            }
        }
        Some(Results {
            processor: json["processor"].as_str()?.to_owned(),
            revision: json["revision"].as_str()?.to_owned(),
            spreads,
        })
    }

    fn spread(&self, subject: Subject) -> Option<Spread> {
        self.spreads.get(&subject.text()).copied()
    }

    pub fn median(&self, subject: Subject) -> Option<f64> {
        Some(self.spread(subject)?.median)
    }

    /// The ratios that [`Results::regressions`] would look at and cannot, for these have none of them.
    pub fn lacks(&self, goals: &[Goal], now: &Record) -> Vec<Subject> {
        let subjects = comparable(goals).map(|goal| goal.subject);
        subjects
            .filter(|subject| subject.value(now).is_some() && self.spread(*subject).is_none())
            .collect()
    }

    /// The ratios that are now more than `margin` times worse than the worse quartile was, with a
    /// line each: a median of few rounds varies as those do. (Times depend on the machine.)
    pub fn regressions(&self, goals: &[Goal], now: &Record, margin: f64) -> Vec<(Subject, String)> {
        let regression = |goal: &Goal| {
            let (before, now) = (self.spread(goal.subject)?, goal.subject.value(now)?.median);
            let better = |quartile| goal.bound.better(quartile, now);
            let worse = better(before.q1)?.min(better(before.q3)?);
            let (what, who) = goal.subject.text();
            let was = [before.q1, before.q3].map(digits).join(" to ");
            let line = format!("{what}, {who}: {}, was {was}", digits(now));
            (worse > margin).then_some((goal.subject, line))
        };
        comparable(goals).filter_map(regression).collect()
    }
}

/// Those of which one value may be better than another, whatever the machine.
fn comparable(goals: &[Goal]) -> impl Iterator<Item = &Goal> {
    let is_ratio = |goal: &&Goal| matches!(goal.subject, Subject::Ratio(..));
    goals
        .iter()
        .filter(is_ratio)
        .filter(|goal| goal.bound != Bound::Any)
}

#[cfg(test)]
mod tests {
    use super::super::contestant::Contestant::{Kernel, P2pmem, Tmpfs};
    use super::super::record::Quantity::MapPage;
    use super::*;

    const JSON: &str = r#"{"processor": "one", "revision": "abc", "goals": [
        {"of": "map and unmap 4 KiB", "who": "kernel / p2pmem",
            "value": {"q1": 3.0, "median": 4.0, "q3": 6.0}},
        {"of": "another", "who": "p2pmem", "value": null},
        {"of": "map and unmap 4 KiB", "who": "kernel",
            "value": {"q1": 1.0, "median": 1.0, "q3": 1.0}}
    ]}"#;

    fn regressions(kernel: f64, bound: Bound) -> usize {
        let mut record = Record::default();
        record.add((MapPage, Kernel), kernel);
        record.add((MapPage, P2pmem), 1.0);
        let subject = Subject::Ratio((MapPage, Kernel), (MapPage, P2pmem));
        let goals = [Goal { subject, bound }];
        let results = Results::parse(JSON).unwrap();
        results.regressions(&goals, &record, 1.5).len()
    }

    #[test]
    fn worse_by_more_than_the_margin_is_a_regression() {
        assert_eq!(regressions(2.1, Bound::AtLeast(9.0)), 0);
        assert_eq!(regressions(1.9, Bound::AtLeast(9.0)), 1);
        assert_eq!(regressions(1.9, Bound::AtLeast(1.0)), 1);
        assert_eq!(regressions(1.9, Bound::More), 1);
        assert_eq!(regressions(8.9, Bound::AtMost(9.0)), 0);
        assert_eq!(regressions(9.1, Bound::AtMost(9.0)), 1);
    }

    #[test]
    fn a_longer_time_is_no_regression() {
        let mut record = Record::default();
        record.add((MapPage, Kernel), 9.0);
        let goals = [Goal {
            subject: Subject::Time((MapPage, Kernel)),
            bound: Bound::AtMost(20.0),
        }];
        let results = Results::parse(JSON).unwrap();
        assert!(results.median(goals[0].subject).is_some());
        assert!(results.regressions(&goals, &record, 1.5).is_empty());
    }

    #[test]
    fn better_is_no_regression() {
        assert_eq!(regressions(30.0, Bound::AtLeast(9.0)), 0);
        assert_eq!(regressions(0.3, Bound::AtMost(9.0)), 0);
        assert_eq!(regressions(0.3, Bound::Any), 0);
    }

    #[test]
    fn what_is_not_in_the_file_cannot_be_compared() {
        let mut record = Record::default();
        for who in [Kernel, P2pmem] {
            record.add((MapPage, who), 1.0);
        }
        let of = |over, under, bound| Goal {
            subject: Subject::Ratio((MapPage, over), (MapPage, under)),
            bound,
        };
        let lacks = |goal| Results::parse(JSON).unwrap().lacks(&[goal], &record).len();
        assert_eq!(lacks(of(Kernel, P2pmem, Bound::Less)), 0);
        assert_eq!(lacks(of(P2pmem, Kernel, Bound::Less)), 1);
        // Nobody would.
        assert_eq!(lacks(of(P2pmem, Kernel, Bound::Any)), 0);
        assert_eq!(lacks(of(P2pmem, Tmpfs, Bound::Less)), 0);
    }

    #[test]
    fn other_files_are_no_results() {
        assert!(Results::parse("{}").is_none());
        assert!(Results::parse("not JSON").is_none());
    }
}
