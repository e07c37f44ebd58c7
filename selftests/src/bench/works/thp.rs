// SPDX-License-Identifier: GPL-2.0

//! What the machine's setting for transparent huge pages changes.

use super::{map, register, Sheet};
use crate::bench::memory::Memory;
use crate::bench::record::{Quantity, Thp};
use crate::setting::{Setting, THP};
use anyhow::Result;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let mut left = vec![Thp::Always, Thp::Never, Thp::Madvise];
    // In any order, for each leaves memory and processors as the next finds them.
    while !left.is_empty() {
        let thp = left.swap_remove(sheet.random.below(left.len()));
        let _setting = Setting::set(THP, thp.value())?;
        let map = map::much(memory, sheet.random)?;
        let verbs = register::verbs(memory, sheet.random)?;
        sheet.add(Quantity::MapMuchThp(thp), map);
        sheet.add(Quantity::RegisterVerbsThp(thp), verbs);
    }
    Ok(())
}
