// SPDX-License-Identifier: GPL-2.0

//! Whether the machine's setting for transparent huge pages changes anything: other works, under each
//! setting in turn.

use super::{crowd, Measure, Sheet};
use crate::bench::contestant::Thp;
use crate::bench::memory::Memory;
use crate::setting::{Setting, THP};
use anyhow::{Context, Result};

/// Each of `works` under all settings before the next, so that a machine that is slower for a while is so
/// for all of them.
pub fn under_each(memory: &Memory, sheet: &mut Sheet, works: &[Measure]) -> Result<()> {
    works
        .iter()
        .try_for_each(|work| each_setting(sheet, |sheet| work(memory, sheet)))
}

/// Allocating among others. To map those takes longer than that: here is the measurement under the
/// machine's own setting, too.
pub fn measure_crowd(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    crowd::among_each(memory, sheet, |memory, sheet, source, crowd| {
        crowd::allocate(memory, sheet, source, crowd)?;
        each_setting(sheet, |sheet| crowd::allocate(memory, sheet, source, crowd))
    })
}

/// In any order, for each leaves memory and processors as the next finds them.
fn each_setting(
    sheet: &mut Sheet,
    mut measure: impl FnMut(&mut Sheet) -> Result<()>,
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
