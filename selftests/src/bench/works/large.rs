// SPDX-License-Identifier: GPL-2.0

//! Mapping much of a large device at once, or all of it.

use super::{map, Sheet};
use crate::bench::memory::Memory;
use crate::bench::record::{Extent, Quantity};
use crate::bench::timing::{sample, timed};
use crate::bench::MUCH;
use crate::mapping::{free_address, HUGE};
use anyhow::Result;

/// A part of it, and what that is to be compared with.
pub fn measure_part(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    measure(memory, sheet, Extent::Part)?;
    map::measure_much_aligned(memory, sheet)
}

pub fn measure_whole(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    measure(memory, sheet, Extent::Whole)
}

fn measure(memory: &Memory, sheet: &mut Sheet, extent: Extent) -> Result<()> {
    // So that nobody has used any of it: the first mapping gives all its pages their shape.
    memory.unbind()?;
    memory.bind()?;
    let source = memory.open()?;
    let len = extent.bytes();
    let (first, mapping) = timed(|| source.reserve(len));
    drop(mapping?);
    // What the device held before is zeroed once.
    memory.settle()?;
    source.check(&source.map_at(len, Some(free_address(len, 0)?))?)?;
    memory.settle()?;

    let per = HUGE as f64 / len as f64;
    sheet.add(Quantity::ReserveFirst(extent), first.as_secs_f64() * per);
    measure_used(memory, sheet, extent)
}

pub fn measure_used_part(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    measure_used(memory, sheet, Extent::Part)
}

pub fn measure_used_whole(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    measure_used(memory, sheet, Extent::Whole)
}

/// The same of memory that has been in use.
fn measure_used(memory: &Memory, sheet: &mut Sheet, extent: Extent) -> Result<()> {
    let source = memory.open()?;
    let len = extent.bytes();
    let map = map::sample_aligned(memory, &source, len)?;
    let again = sample(|| {
        let (time, mapping) = timed(|| source.reserve(len));
        drop(mapping?);
        memory.settle()?;
        Ok((time, 1))
    })?;
    let per = |bytes: usize| bytes as f64 / len as f64;
    sheet.add(Quantity::MapLarge(extent), map * per(MUCH));
    sheet.add(Quantity::ReserveAgain(extent), again * per(HUGE));
    Ok(())
}
