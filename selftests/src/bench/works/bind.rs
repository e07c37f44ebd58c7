// SPDX-License-Identifier: GPL-2.0

//! Binding a device with much memory to its driver, and unbinding it.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::timing::timed;
use crate::poll;
use anyhow::{Context, Result};
use std::fs;
use std::thread::sleep;
use std::time::Duration;

const GIB: f64 = (1 << 30) as f64;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let gib = memory.size()? as f64 / GIB;
    let (unbind, result) = timed(|| memory.unbind());
    result?;
    let free = free_memory()?;
    let (bind, result) = timed(|| memory.bind());
    result?;
    memory.settle()?;
    let taken = free - free_memory()?;
    sheet.add(Quantity::Unbind, unbind.as_secs_f64() / gib);
    sheet.add(Quantity::Bind, bind.as_secs_f64() / gib);
    sheet.add(Quantity::BindMemory, taken / gib);
    Ok(())
}

/// Of the guest, in bytes, once nothing is freed or taken in the background any more.
fn free_memory() -> Result<f64> {
    /// What comes and goes in between is hardly ever more.
    const NOISE: f64 = (128 << 10) as f64;
    const PAUSE: Duration = Duration::from_millis(100);

    let mut last = read_free_memory()?;
    poll::until_some("an end of the changes in MemFree", || {
        sleep(PAUSE);
        let now = read_free_memory()?;
        let settled = (now - last).abs() < NOISE;
        last = now;
        Ok(settled.then_some(now))
    })
}

fn read_free_memory() -> Result<f64> {
    const FILE: &str = "/proc/meminfo";
    let text = fs::read_to_string(FILE).context(FILE)?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kib.context("no MemFree")?.parse::<f64>()? * 1024.0)
}
