// SPDX-License-Identifier: GPL-2.0

//! Mapping with all page table entries, and unmapping.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::room::Ceiling;
use crate::bench::source::Source;
use crate::bench::timing::{sample, timed};
use crate::bench::MUCH;
use crate::mapping::{free_address, HUGE, PAGE};
use anyhow::Result;
use std::time::Duration;

/// Pages that are mapped before the memory is waited for.
const PAGES: usize = 128;

/// Much at once, wherever the kernel puts it.
pub fn measure_much(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let source = memory.open()?;
    let _ceiling = Ceiling::new(memory, &source, MUCH, sheet.random)?;
    source.check_plain(&source.map(MUCH)?)?;
    memory.settle()?;
    let seconds = sample(|| {
        let (time, result) = timed(|| source.map(MUCH).map(drop));
        result?;
        memory.settle()?;
        Ok((time, 1))
    })?;
    sheet.add(Quantity::MapMuch, seconds);
    Ok(())
}

/// Where no 2 MiB of the mapping need smaller entries.
pub fn measure_much_aligned(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let seconds = sample_aligned(memory, &memory.open()?, MUCH)?;
    sheet.add(Quantity::MapMuchAligned, seconds);
    Ok(())
}

/// The seconds that it takes to map and unmap `len` bytes so.
pub fn sample_aligned(memory: &Memory, source: &Source, len: usize) -> Result<f64> {
    sample(|| {
        let at = Some(free_address(len, 0)?);
        let (time, result) = timed(|| source.map_at(len, at).map(drop));
        result?;
        memory.settle()?;
        Ok((time, 1))
    })
}

pub fn measure_pages(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let source = memory.open()?;
    source.check(&source.map(if source.is_huge() { HUGE } else { PAGE })?)?;
    let seconds = sample(|| {
        let (time, result): (Duration, Result<()>) =
            timed(|| (0..PAGES).try_for_each(|_| source.map(PAGE).map(drop)));
        result?;
        memory.settle()?;
        Ok((time, PAGES))
    })?;
    sheet.add(Quantity::MapPage, seconds);
    Ok(())
}
