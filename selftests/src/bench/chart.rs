// SPDX-License-Identifier: GPL-2.0

//! The results as charts.

use super::contestant::Contestant;
use super::goal::{Goal, Subject};
use super::record::{Crowd, Quantity, Record};
use super::report::digits;
use super::stats::Spread;
use super::svg::{at, Anchor, Drawing, Scale};
use super::works::CROWDS;

/// Further from a goal than so many times is drawn as this.
const FURTHEST: f64 = 16.0;

/// How good each ratio is, beside what is asked of it.
pub fn goals(goals: &[Goal], record: &Record) -> String {
    const ROW: f64 = 40.0;
    const TOP: f64 = 64.0;
    const WIDTH: f64 = 1020.0;
    const MIDDLE: f64 = 690.0;
    const HALF: f64 = 150.0;

    let rows: Vec<(Goal, Spread, f64)> = goals
        .iter()
        .filter_map(|goal| {
            let value = goal.subject.value(record)?;
            Some((*goal, value, goal.bound.score(value.median)?))
        })
        .collect();
    let bottom = TOP + ROW * rows.len() as f64;
    let title = "How the measurements compare with the goals";
    let mut drawing = Drawing::new(WIDTH, bottom + 32.0, title);
    let scale = Scale {
        middle: MIDDLE,
        half: HALF,
        furthest: FURTHEST,
    };
    let x = |score| scale.x(score);

    for (score, text) in [
        (1.0 / 16.0, "16x short"),
        (0.25, "4x"),
        (1.0, "goal"),
        (4.0, "4x"),
        (16.0, "16x better"),
    ] {
        let class = if score == 1.0 { "goal" } else { "grid" };
        drawing.line(at(x(score), TOP), at(x(score), bottom), class);
        let position = at(x(score), bottom + 18.0);
        drawing.text(position, Anchor::Middle, "quiet", text);
    }
    for (row, (goal, value, score)) in rows.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        let (what, who) = goal.subject.text();
        drawing.text(at(16.0, y + 16.0), Anchor::Start, "", &what);
        drawing.text(at(16.0, y + 32.0), Anchor::Start, "quiet", &who);
        let class = if *score >= 1.0 { "good" } else { "bad" };
        drawing.rectangle(at(MIDDLE, y + 9.0), at(x(*score), y + 29.0), class);
        let unit = goal.subject.unit();
        let text = format!("{}{unit} ({})", digits(value.median), goal.bound.text(unit));
        let position = at(MIDDLE + HALF + 20.0, y + 24.0);
        drawing.text(position, Anchor::Start, "", &text);
    }
    drawing.finish()
}

/// What an allocation costs among many others, in times of what it costs alone.
pub fn crowd(record: &Record) -> String {
    const LEFT: f64 = 64.0;
    const RIGHT: f64 = 640.0;
    const TOP: f64 = 80.0;
    const BOTTOM: f64 = 320.0;
    const GOAL: f64 = 2.0;

    let title = "Time to map 4 KiB, in times of that in an empty pool";
    let mut drawing = Drawing::new(RIGHT + 60.0, BOTTOM + 60.0, title);
    let value = |who, crowd| {
        let series = |crowd| (Quantity::AllocateAmong(crowd), who);
        Subject::Ratio(series(crowd), series(Crowd::Pages(0))).value(record)
    };
    let contestants = [
        (Contestant::P2pmemRam, "good", "good-line"),
        (Contestant::Kernel, "bad", "other-line"),
    ];
    let highest = contestants
        .iter()
        .flat_map(|&(who, ..)| CROWDS.map(|crowd| value(who, crowd)))
        .flatten()
        .fold(GOAL, |highest, spread| highest.max(spread.q3));
    let top = (highest + 0.5).ceil();
    let y = |ratio: f64| BOTTOM - (BOTTOM - TOP) * ratio / top;
    let step = (RIGHT - LEFT) / CROWDS.len() as f64;
    let x = |index: usize| LEFT + step * (index as f64 + 0.5);

    // Whole numbers, and not too many.
    for ratio in (0..=top as usize).step_by(1 + top as usize / 8) {
        let ratio = ratio as f64;
        drawing.line(at(LEFT, y(ratio)), at(RIGHT, y(ratio)), "grid");
        let position = at(LEFT - 8.0, y(ratio) + 4.0);
        drawing.text(position, Anchor::End, "quiet", &format!("{ratio}x"));
    }
    drawing.line(at(LEFT, y(GOAL)), at(RIGHT, y(GOAL)), "goal");
    drawing.text(
        at(RIGHT + 6.0, y(GOAL) + 4.0),
        Anchor::Start,
        "quiet",
        "goal",
    );
    for (index, crowd) in CROWDS.iter().enumerate() {
        let position = at(x(index), BOTTOM + 20.0);
        drawing.text(position, Anchor::Middle, "quiet", &crowd.name());
    }
    let position = at((LEFT + RIGHT) / 2.0, BOTTOM + 42.0);
    drawing.text(position, Anchor::Middle, "", "other mappings of 4 KiB");

    for (number, &(who, dots, lines)) in contestants.iter().enumerate() {
        let legend = LEFT + 180.0 * number as f64;
        drawing.dot(at(legend + 6.0, 54.0), dots);
        drawing.text(at(legend + 18.0, 58.0), Anchor::Start, "", &who.name());
        let points = CROWDS.map(|crowd| value(who, crowd));
        for index in 0..points.len() {
            let Some(spread) = points[index] else {
                continue;
            };
            let centre = at(x(index), y(spread.median));
            // A line from what is less of the same; a pool with holes is something else.
            if let (1.., Crowd::Pages(_)) = (index, CROWDS[index]) {
                if let Some(previous) = points[index - 1] {
                    drawing.line(at(x(index - 1), y(previous.median)), centre, lines);
                }
            }
            drawing.line(
                at(centre.x, y(spread.q1)),
                at(centre.x, y(spread.q3)),
                lines,
            );
            drawing.dot(centre, dots);
        }
    }
    drawing.finish()
}

#[cfg(test)]
mod tests {
    use super::super::goal::Bound;
    use super::*;
    use Contestant::{Kernel, P2pmem};

    #[test]
    fn a_bar_says_whether_its_goal_is_met() {
        let mut record = Record::default();
        record.add((Quantity::MapPage, Kernel), 4.0);
        record.add((Quantity::MapPage, P2pmem), 1.0);
        let subject = Subject::Ratio((Quantity::MapPage, Kernel), (Quantity::MapPage, P2pmem));
        let of = |bound| goals(&[Goal { subject, bound }], &record);
        assert!(of(Bound::AtLeast(3.0)).contains("<rect class=\"good\""));
        assert!(of(Bound::AtLeast(5.0)).contains("<rect class=\"bad\""));
        assert!(of(Bound::AtLeast(5.0)).contains("4.00 (≥ 5)"));
        let told = of(Bound::Any);
        assert!(!told.contains("class=\"good\"") && !told.contains("class=\"bad\""));
    }

    #[test]
    fn the_curve_has_a_dot_for_each_point_and_each_contestant() {
        let mut record = Record::default();
        for crowd in CROWDS {
            record.add((Quantity::AllocateAmong(crowd), Kernel), 1.0);
        }
        // One more in the legend of each.
        assert_eq!(crowd(&record).matches("<circle class=\"bad\"").count(), 6);
        assert_eq!(crowd(&record).matches("<circle class=\"good\"").count(), 1);
    }
}
