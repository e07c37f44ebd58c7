// SPDX-License-Identifier: GPL-2.0

//! Mapping all of a large device at once.

use super::{map, Sheet};
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::timing::{sample, timed};
use crate::bench::MUCH;
use crate::mapping::{free_address, HUGE};
use anyhow::Result;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    // So that nobody has used any of it: the first mapping gives all its pages their shape.
    memory.unbind()?;
    memory.bind()?;
    let source = memory.open()?;
    let len = memory.size()?;
    let (first, mapping) = timed(|| source.reserve(len));
    drop(mapping?);
    memory.settle()?;

    // What the device held before is zeroed once.
    let at = Some(free_address(len, 0)?);
    let mapping = source.map_at(len, at)?;
    source.check(&mapping)?;
    drop(mapping);
    memory.settle()?;

    let per = HUGE as f64 / len as f64;
    sheet.add(Quantity::ReserveFirst, first.as_secs_f64() * per);
    measure_used(memory, sheet)?;
    // In the same rounds, on the same memory.
    map::measure_much_aligned(memory, sheet)
}

/// The same of memory that has been in use.
pub fn measure_used(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let source = memory.open()?;
    let len = memory.size()?;
    let at = Some(free_address(len, 0)?);
    let (map, result) = timed(|| source.map_at(len, at).map(drop));
    result?;
    memory.settle()?;
    let again = sample(|| {
        let (time, mapping) = timed(|| source.reserve(len));
        drop(mapping?);
        memory.settle()?;
        Ok((time, 1))
    })?;
    let per = |bytes: usize| bytes as f64 / len as f64;
    sheet.add(Quantity::MapWhole, map.as_secs_f64() * per(MUCH));
    sheet.add(Quantity::ReserveAgain, again * per(HUGE));
    Ok(())
}
