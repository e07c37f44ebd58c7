// SPDX-License-Identifier: GPL-2.0

//! p2pmem measured side by side with what else there is.
//!
//! Contestants take turns, round by round, and each time do all works (those that take long, now and
//! then) on their memory: what the machine does meanwhile hits all of them alike. Works leave samples
//! of quantities in the record, and goals are asked of those.

pub mod chart;
pub mod contestant;
pub mod environment;
pub mod goal;
pub mod goals;
mod memory;
pub mod record;
pub mod report;
pub mod results;
mod room;
pub mod settings_chart;
mod source;
pub mod stats;
mod svg;
mod table;
pub mod timing;
mod venue;
pub mod works;

use crate::random::Random;
use anyhow::Result;
use contestant::Contestant;
use goal::Subject;
use memory::Memory;
use record::{Record, Series};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use venue::Venue;
use works::{Sheet, Work, WORKS};

/// What is called much.
pub const MUCH: usize = 64 << 20;

/// Rounds in which what is in doubt is measured again, at most.
const AGAIN: u64 = 4;

pub struct Options {
    pub rounds: u64,
    /// There are two rounds, and what is slow is done in one of them.
    pub quick: bool,
    pub seed: u64,
    /// Only these.
    pub works: Vec<String>,
}

/// What came of a run.
#[derive(Default)]
pub struct Outcome {
    pub record: Record,
    /// What could not be measured, and why, and what else went wrong.
    pub problems: Vec<String>,
}

struct Bench {
    options: Options,
    venue: Venue,
    random: Random,
    outcome: Outcome,
    /// What failed once is not tried again.
    given_up: BTreeSet<(Contestant, &'static str)>,
    /// In whose turn, and by which work, what was measured.
    origins: BTreeMap<Series, (Contestant, &'static str)>,
    /// If not all is to be measured: what is.
    only: Option<BTreeSet<(Contestant, &'static str)>>,
}

/// Measures. Few rounds say little, and a machine may be slow for longer than one of them: what is in
/// `doubt` after all of them gets more, until nothing is or there have been enough. Two at once, for
/// one may be as lucky as another was unlucky.
pub fn run(options: Options, doubt: impl Fn(&Record) -> Vec<Subject>) -> Result<Outcome> {
    let mut bench = Bench {
        venue: Venue::new(MUCH)?,
        random: Random::new(options.seed),
        outcome: Outcome::default(),
        given_up: BTreeSet::new(),
        origins: BTreeMap::new(),
        only: None,
        options,
    };
    let rounds = bench.options.rounds;
    for round in 0..rounds {
        bench.round(round, &format!("round {} of {rounds}", round + 1));
    }
    for again in 0..AGAIN {
        if again % 2 == 0 {
            let doubtful = doubt(&bench.outcome.record);
            if doubtful.is_empty() {
                break;
            }
            bench.restrict_to(&doubtful);
        }
        bench.round(rounds + again, &format!("again, {} of {AGAIN}", again + 1));
    }
    Ok(bench.outcome)
}

impl Bench {
    /// From now on only what those are made of is measured.
    fn restrict_to(&mut self, subjects: &[Subject]) {
        let series = subjects.iter().flat_map(|subject| subject.series());
        let only: BTreeSet<_> = series
            .filter_map(|series| self.origins.get(&series).copied())
            .collect();
        for (who, work) in &only {
            eprintln!("in doubt: {}, {work}", who.name());
        }
        self.only = Some(only);
    }

    fn round(&mut self, round: u64, name: &str) {
        self.outcome.record.set_round(round);
        let mut order = Contestant::ALL;
        // So that nobody always comes after the same.
        if round % 2 == 1 {
            order.reverse();
        }
        for who in order {
            let works = self.works_of(who, round);
            if works.is_empty() {
                continue;
            }
            let start = Instant::now();
            if let Err(error) = self.turn(who, &works) {
                self.give_up(who, &works, &error);
            }
            eprintln!(
                "{name}: {}, {:.1} s",
                who.name(),
                start.elapsed().as_secs_f64()
            );
        }
    }

    fn works_of(&self, who: Contestant, round: u64) -> Vec<&'static Work> {
        let wanted = |name: &str| self.options.works.iter().any(|work| work == name);
        WORKS
            .iter()
            .filter(|work| work.contestants.contains(&who) && wanted(work.name))
            .filter(|work| match &self.only {
                Some(only) => only.contains(&(who, work.name)),
                None => work.pace.is_due(round, self.options.quick),
            })
            .filter(|work| !self.given_up.contains(&(who, work.name)))
            .collect()
    }

    fn turn(&mut self, who: Contestant, works: &[&'static Work]) -> Result<()> {
        let memory = Memory::set_up(who, &self.venue)?;
        for work in works {
            let mut sheet = Sheet {
                who,
                origin: (who, work.name),
                record: &mut self.outcome.record,
                origins: &mut self.origins,
                random: &mut self.random,
            };
            let result = (work.measure)(&memory, &mut sheet);
            if let Err(error) = result {
                self.give_up(who, &[work], &error);
            }
        }
        memory.tear_down()
    }

    fn give_up(&mut self, who: Contestant, works: &[&'static Work], error: &anyhow::Error) {
        let names: Vec<&str> = works.iter().map(|work| work.name).collect();
        let problem = format!("{}, {}: {error:#}", who.name(), names.join(" "));
        eprintln!("{problem}");
        self.outcome.problems.push(problem);
        self.given_up.extend(names.iter().map(|&name| (who, name)));
    }
}
