// SPDX-License-Identifier: GPL-2.0

//! Whether the machine's setting for transparent huge pages changes anything: the other works, under
//! each setting in turn.

use super::{bind, crowd, fio, map, register, reuse, threads, unpin, whole, Measure, Sheet};
use crate::bench::contestant::Thp;
use crate::bench::memory::Memory;
use crate::setting::{Setting, THP};
use anyhow::{Context, Result};

/// Samples in a round of what takes no second, but is not measured in each.
const TIMES: usize = 3;

/// What is quick and has no part that waits.
pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    const WORKS: [Measure; 5] = [
        map::measure_much,
        map::measure_much_aligned,
        map::measure_pages,
        register::measure,
        register::measure_aligned,
    ];
    under_each(memory, sheet, &WORKS)
}

pub fn measure_more(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    const WORKS: [Measure; 4] = [
        reuse::measure,
        unpin::measure,
        unpin::measure_much,
        threads::measure,
    ];
    for _ in 0..TIMES {
        under_each(memory, sheet, &WORKS)?;
    }
    under_each(memory, sheet, &[crowd::measure, fio::measure])
}

pub fn measure_bind(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    for _ in 0..TIMES {
        under_each(memory, sheet, &[bind::measure])?;
    }
    Ok(())
}

pub fn measure_whole(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    under_each(memory, sheet, &[whole::measure_used])
}

/// In any order, for each setting leaves memory and processors as the next finds them.
fn under_each(memory: &Memory, sheet: &mut Sheet, works: &[Measure]) -> Result<()> {
    let who = sheet.who;
    let mut left = Thp::ALL.to_vec();
    while !left.is_empty() {
        let thp = left.swap_remove(sheet.random.below(left.len()));
        let _setting = Setting::set(THP, thp.value())?;
        sheet.who = who.under(thp).context("it is not measured so")?;
        for work in works {
            work(memory, sheet)?;
        }
    }
    sheet.who = who;
    Ok(())
}
