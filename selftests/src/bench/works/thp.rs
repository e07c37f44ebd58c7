// SPDX-License-Identifier: GPL-2.0

//! Whether the machine's setting for transparent huge pages changes anything: the other works, under
//! each setting in turn.

use super::{bind, crowd, fio, map, register, reuse, threads, unpin, whole, Measure, Sheet};
use crate::bench::contestant::Thp;
use crate::bench::memory::Memory;
use crate::setting::{Setting, THP};
use anyhow::{Context, Result};

/// Samples in a round of what is not measured in each, but for what takes minutes.
const TIMES: usize = 4;

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
    const WORKS: [Measure; 5] = [
        reuse::measure,
        unpin::measure,
        unpin::measure_much,
        threads::measure,
        fio::measure,
    ];
    for _ in 0..TIMES {
        under_each(memory, sheet, &WORKS)?;
    }
    // To map a crowd takes longer than to allocate in it.
    crowd::among_each(memory, sheet, |memory, sheet, source, crowd| {
        let mut allocate = |sheet: &mut Sheet| crowd::allocate(memory, sheet, source, crowd);
        (0..TIMES).try_for_each(|_| each_setting(sheet, &mut allocate))
    })
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

fn under_each(memory: &Memory, sheet: &mut Sheet, works: &[Measure]) -> Result<()> {
    each_setting(sheet, &mut |sheet| {
        works.iter().try_for_each(|work| work(memory, sheet))
    })
}

/// In any order, for each leaves memory and processors as the next finds them.
fn each_setting(
    sheet: &mut Sheet,
    measure: &mut dyn FnMut(&mut Sheet) -> Result<()>,
) -> Result<()> {
    let who = sheet.who;
    let mut left = Thp::ALL.to_vec();
    while !left.is_empty() {
        let thp = left.swap_remove(sheet.random.below(left.len()));
        let _setting = Setting::set(THP, thp.value())?;
        sheet.who = who.under(thp).context("it is not measured so")?;
        measure(sheet)?;
    }
    sheet.who = who;
    Ok(())
}
