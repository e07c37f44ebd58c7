// SPDX-License-Identifier: GPL-2.0

//! Mapping all of a large device at once.

use super::{map, Sheet};
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::room::Ceiling;
use crate::bench::timing::timed;
use crate::bench::MUCH;
use crate::mapping::HUGE;
use anyhow::Result;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let source = memory.open()?;
    let len = memory.size()?;
    // What the device held before is zeroed now, and all of it gets the shape that it keeps.
    drop(source.map(len)?);
    memory.settle()?;
    let _ceiling = Ceiling::new(memory, &source, len, sheet.random)?;

    let (map, result) = timed(|| source.map(len).map(drop));
    result?;
    memory.settle()?;
    let (reserve, mapping) = timed(|| source.reserve(len));
    drop(mapping?);
    memory.settle()?;
    sheet.add(
        Quantity::MapWhole,
        map.as_secs_f64() * MUCH as f64 / len as f64,
    );
    // In the same rounds, on the same memory.
    let much = map::much(memory, sheet.random)?;
    sheet.add(Quantity::MapMuch, much);
    let blocks = (len / HUGE) as f64;
    sheet.add(Quantity::ReserveWhole, reserve.as_secs_f64() / blocks);
    Ok(())
}
