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
use memory::Memory;
use record::Record;
use std::collections::BTreeSet;
use std::time::Instant;
use venue::Venue;
use works::{Sheet, Work, WORKS};

/// What is called much.
pub const MUCH: usize = 64 << 20;

pub struct Options {
    pub rounds: u64,
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
    /// What failed once is not tried again: its samples would be of other rounds than they seem.
    given_up: BTreeSet<(Contestant, &'static str)>,
}

pub fn run(options: Options) -> Result<Outcome> {
    let mut bench = Bench {
        venue: Venue::new(MUCH)?,
        random: Random::new(options.seed),
        outcome: Outcome::default(),
        given_up: BTreeSet::new(),
        options,
    };
    for round in 0..bench.options.rounds {
        bench.round(round);
    }
    Ok(bench.outcome)
}

impl Bench {
    fn round(&mut self, round: u64) {
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
                "round {} of {}: {}, {:.1} s",
                round + 1,
                self.options.rounds,
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
            .filter(|work| round % work.every == work.every - 1)
            .filter(|work| !self.given_up.contains(&(who, work.name)))
            .collect()
    }

    fn turn(&mut self, who: Contestant, works: &[&'static Work]) -> Result<()> {
        let memory = Memory::set_up(who, &self.venue)?;
        for work in works {
            let mut sheet = Sheet {
                who,
                record: &mut self.outcome.record,
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
