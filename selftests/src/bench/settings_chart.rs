// SPDX-License-Identifier: GPL-2.0

//! What the machine's setting for transparent huge pages changes, as a chart.

use super::contestant::Thp;
use super::goal::Bound;
use super::goals;
use super::record::Record;
use super::stats::Spread;
use super::svg::{at, Anchor, Drawing, Scale};

/// Further from 1 than so many times is drawn as this.
const FURTHEST: f64 = 2.0;

const SETTINGS: [(Thp, &str, &str); 2] = [
    (Thp::Never, "good", "good-line"),
    (Thp::Madvise, "bad", "other-line"),
];

/// Each quantity under the other settings, in times of what it is with `always`.
pub fn settings(record: &Record) -> String {
    const ROW: f64 = 30.0;
    const TOP: f64 = 84.0;
    const WIDTH: f64 = 1020.0;
    const MIDDLE: f64 = 690.0;
    const HALF: f64 = 230.0;

    let rows: Vec<_> = goals::settings()
        .into_iter()
        .filter_map(|series| {
            let goals = SETTINGS.map(|(thp, ..)| goals::same_under(thp, series));
            let values = goals.map(|goal| goal.subject.value(record));
            let (quantity, base) = series;
            let what = format!("{}, {}", quantity.name(), base.contestant().name());
            let known = values.iter().any(Option::is_some);
            known.then_some((what, goals[0].bound, values))
        })
        .collect();
    let bottom = TOP + ROW * rows.len() as f64;
    let title = "Times under other settings of transparent_hugepage/enabled, in times of `always`";
    let mut drawing = Drawing::new(WIDTH, bottom + 32.0, title);
    let scale = Scale {
        middle: MIDDLE,
        half: HALF,
        furthest: FURTHEST,
    };
    let x = |ratio| scale.x(ratio);

    for (number, (thp, dots, _)) in SETTINGS.into_iter().enumerate() {
        let legend = 22.0 + 180.0 * number as f64;
        drawing.dot(at(legend, 54.0), dots);
        drawing.text(at(legend + 12.0, 58.0), Anchor::Start, "", thp.value());
    }
    for ratio in [0.5, 1.0, 2.0] {
        drawing.line(at(x(ratio), TOP), at(x(ratio), bottom), "grid");
        let position = at(x(ratio), bottom + 18.0);
        drawing.text(position, Anchor::Middle, "quiet", &format!("{ratio}x"));
    }
    for (row, (what, bound, values)) in rows.iter().enumerate() {
        let y = TOP + ROW * row as f64;
        drawing.text(at(16.0, y + 19.0), Anchor::Start, "", what);
        if let Bound::AtMost(most) = bound {
            drawing.line(at(x(*most), y), at(x(*most), y + ROW), "goal");
        }
        for (number, (value, (_, dots, lines))) in values.iter().zip(SETTINGS).enumerate() {
            if let Some(Spread { q1, median, q3 }) = *value {
                let y = y + 10.0 + 10.0 * number as f64;
                drawing.line(at(x(q1), y), at(x(q3), y), lines);
                drawing.dot(at(x(median), y), dots);
            }
        }
    }
    drawing.finish()
}

#[cfg(test)]
mod tests {
    use super::super::contestant::{Base, Contestant::Under};
    use super::super::record::Quantity::MapPage;
    use super::*;

    #[test]
    fn each_quantity_has_a_dot_for_each_setting() {
        let mut record = Record::default();
        assert_eq!(settings(&record).matches("<circle").count(), 2);
        for thp in Thp::ALL {
            record.add((MapPage, Under(thp, Base::P2pmemRam)), 1.0);
        }
        assert_eq!(settings(&record).matches("<circle").count(), 4);
        assert_eq!(
            settings(&record)
                .matches("map and unmap 4 KiB, p2pmem-ram")
                .count(),
            1
        );
    }
}
