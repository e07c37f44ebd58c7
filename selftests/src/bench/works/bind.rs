// SPDX-License-Identifier: GPL-2.0

//! Binding a device with much memory to its driver, and unbinding it.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::timing::timed;
use anyhow::{Context, Result};
use std::fs;

const GIB: f64 = (1 << 30) as f64;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let gib = memory.size()? as f64 / GIB;
    let (unbind, result) = timed(|| memory.unbind());
    result?;
    let free = free_memory()?;
    let (bind, result) = timed(|| memory.bind());
    result?;
    let taken = free.saturating_sub(free_memory()?);
    memory.settle()?;
    sheet.add(Quantity::Unbind, unbind.as_secs_f64() / gib);
    sheet.add(Quantity::Bind, bind.as_secs_f64() / gib);
    sheet.add(Quantity::BindMemory, taken as f64 / gib);
    Ok(())
}

/// Of the guest, in bytes.
fn free_memory() -> Result<usize> {
    const FILE: &str = "/proc/meminfo";
    let text = fs::read_to_string(FILE).context(FILE)?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no MemFree")?.parse::<usize>()? * 1024)
}
