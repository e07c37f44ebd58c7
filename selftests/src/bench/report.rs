// SPDX-License-Identifier: GPL-2.0

//! The results as text for people, and as JSON.

use super::environment::{Clock, Environment};
use super::goal::{Bound, Goal, Subject, Verdict};
use super::record::{Record, Unit};
use super::results::Results;
use super::stats::Spread;
use super::table::{self, Align};
use super::Outcome;
use serde_json::{json, Value};

/// Three digits that mean something.
pub fn digits(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A time in the unit that suits it.
pub fn time(seconds: f64) -> String {
    match seconds {
        1.0.. => format!("{} s", digits(seconds)),
        1e-3.. => format!("{} ms", digits(seconds * 1e3)),
        _ => format!("{} us", digits(seconds * 1e6)),
    }
}

/// A sample in the unit that suits it.
fn sample(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Seconds => time(value),
        Unit::Bytes => format!("{} MiB", digits(value / (1 << 20) as f64)),
        Unit::Instructions if value < 1e6 => format!("{} thousand", digits(value / 1e3)),
        Unit::Instructions => format!("{} million", digits(value / 1e6)),
    }
}

fn between(spread: Spread, format: impl Fn(f64) -> String) -> String {
    format!("{} to {}", format(spread.q1), format(spread.q3))
}

/// What is asked, row by row; beside each ratio that of the instructions executed, where they have
/// been counted.
pub fn goals(goals: &[Goal], record: &Record, instructions: Option<&Results>) -> String {
    let columns = [
        ("ratio", Align::Right),
        ("quartiles", Align::Left),
        ("instructions", Align::Right),
        ("goal", Align::Left),
        ("", Align::Left),
        ("of", Align::Left),
        ("who", Align::Left),
    ];
    let rows: Vec<Vec<String>> = goals
        .iter()
        .map(|goal| {
            let value = goal.subject.value(record);
            let counted = instructions.and_then(|counted| counted.median(goal.subject));
            let unit = goal.subject.unit();
            let (what, who) = goal.subject.text();
            vec![
                value.map_or("-".to_owned(), |value| digits(value.median) + unit),
                value.map_or(String::new(), |value| between(value, digits)),
                counted.map_or(String::new(), digits),
                goal.bound.text(unit),
                goal.verdict(value).text().to_owned(),
                what,
                who,
            ]
        })
        .collect();
    table::layout(&columns, &rows)
}

/// What was measured, row by row.
pub fn medians(record: &Record, clock: Clock) -> String {
    let columns = [
        (clock.heading(), Align::Right),
        ("quartiles", Align::Left),
        ("of", Align::Left),
        ("who", Align::Left),
    ];
    let rows: Vec<Vec<String>> = record
        .series()
        .filter_map(|(quantity, who)| {
            let samples = record.samples((quantity, who));
            let (unit, samples) = clock.reading(quantity.unit(), &samples);
            let spread = Spread::of(&samples)?;
            Some(vec![
                sample(unit, spread.median),
                between(spread, |value| sample(unit, value)),
                quantity.name(),
                who.name(),
            ])
        })
        .collect();
    table::layout(&columns, &rows)
}

/// How many of them there are, in a line.
pub fn summary(goals: &[Goal], outcome: &Outcome) -> String {
    let count = |wanted: Verdict| {
        let verdicts = goals
            .iter()
            .map(|goal| goal.verdict(goal.subject.value(&outcome.record)));
        verdicts.filter(|&verdict| verdict == wanted).count()
    };
    format!(
        "{} goals met, {} missed, {} not measured, {} problems",
        count(Verdict::Met),
        count(Verdict::Missed),
        count(Verdict::NotMeasured),
        outcome.problems.len()
    )
}

fn spread_json(spread: Option<Spread>) -> Value {
    match spread {
        Some(spread) => json!({
            "q1": spread.q1,
            "median": spread.median,
            "q3": spread.q3,
        }),
        None => Value::Null,
    }
}

/// Everything, raw samples included.
pub fn json(goals: &[Goal], outcome: &Outcome, environment: &Environment, seed: u64) -> Value {
    let record = &outcome.record;
    let goals: Vec<Value> = goals
        .iter()
        .map(|goal| {
            let value = goal.subject.value(record);
            let (what, who) = goal.subject.text();
            let (at_least, at_most) = match goal.bound {
                Bound::AtLeast(least) => (Some(least), None),
                Bound::AtMost(most) => (None, Some(most)),
                Bound::More | Bound::Less | Bound::Any => (None, None),
            };
            json!({
                "of": what,
                "who": who,
                "unit": match goal.subject {
                    Subject::Ratio(..) => "ratio",
                    Subject::Time(_) => "ms",
                },
                "value": spread_json(value),
                "at_least": at_least,
                "at_most": at_most,
                "verdict": match goal.verdict(value) {
                    Verdict::Met => "met",
                    Verdict::Missed => "missed",
                    Verdict::Told => "told",
                    Verdict::NotMeasured => "not measured",
                },
            })
        })
        .collect();
    let series: Vec<Value> = record
        .series()
        .map(|(quantity, who)| {
            let samples = record.samples((quantity, who));
            let (unit, samples) = environment.clock.reading(quantity.unit(), &samples);
            json!({
                "of": quantity.name(),
                "who": who.name(),
                "unit": unit.symbol(),
                "spread": spread_json(Spread::of(&samples)),
                "rounds": record.rounds((quantity, who)),
                "samples": samples,
            })
        })
        .collect();
    json!({
        "kernel": environment.kernel,
        "revision": environment.revision,
        "processor": environment.processor,
        "processors": environment.processors,
        "transparent_hugepage": environment.transparent_hugepage,
        "seed": seed,
        "problems": outcome.problems,
        "goals": goals,
        "series": series,
    })
}

#[cfg(test)]
mod tests {
    use super::super::contestant::Contestant::{Kernel, P2pmem};
    use super::super::record::Quantity::MapPage;
    use super::*;

    fn example() -> (Vec<Goal>, Outcome) {
        let mut outcome = Outcome::default();
        for (kernel, p2pmem) in [(3e-3, 1e-3), (4e-3, 2e-3), (8e-3, 2e-3)] {
            outcome.record.add((MapPage, Kernel), kernel);
            outcome.record.add((MapPage, P2pmem), p2pmem);
        }
        let goal = |over, under, bound| Goal {
            subject: Subject::Ratio((MapPage, over), (MapPage, under)),
            bound,
        };
        let goals = vec![
            goal(Kernel, P2pmem, Bound::AtLeast(2.0)),
            goal(P2pmem, Kernel, Bound::AtMost(0.1)),
        ];
        (goals, outcome)
    }

    #[test]
    fn numbers_have_three_digits_that_mean_something() {
        let texts = [1234.5, 123.4, 99.94, 9.994, 0.9994].map(digits);
        assert_eq!(texts, ["1234", "123", "99.9", "9.99", "0.999"]);
    }

    #[test]
    fn times_have_a_unit_that_suits_them() {
        let texts = [12.0, 0.0123, 0.00000123].map(time);
        assert_eq!(texts, ["12.0 s", "12.3 ms", "1.23 us"]);
    }

    #[test]
    fn a_goal_is_a_row_with_its_ratio_first() {
        let (wanted, outcome) = example();
        let text = goals(&wanted, &outcome.record, None);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with(" 3.00  2.50 to 3.50"), "{text}");
        assert!(lines[1].contains("≥ 2"), "{text}");
        assert!(lines[1].ends_with("kernel / p2pmem"), "{text}");
        assert!(lines[2].contains("MISSED"), "{text}");
    }

    #[test]
    fn the_summary_counts_verdicts() {
        let (mut wanted, mut outcome) = example();
        assert_eq!(
            summary(&wanted, &outcome),
            "1 goals met, 1 missed, 0 not measured, 0 problems"
        );
        outcome.record = Record::default();
        outcome.problems.push("x".to_owned());
        wanted.truncate(1);
        assert_eq!(
            summary(&wanted, &outcome),
            "0 goals met, 0 missed, 1 not measured, 1 problems"
        );
    }
}
