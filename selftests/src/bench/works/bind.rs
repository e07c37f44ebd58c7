// SPDX-License-Identifier: GPL-2.0

//! Binding a device with much memory to its driver, and unbinding it.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::timing::timed;
use crate::mapping::PAGE;
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
    poll::until_some("an end of the changes in free memory", || {
        sleep(PAUSE);
        let now = read_free_memory()?;
        let settled = (now - last).abs() < NOISE;
        last = now;
        Ok(settled.then_some(now))
    })
}

/// With what processors keep at hand: after much has been freed, MemFree lacks several MiB of that.
fn read_free_memory() -> Result<f64> {
    const FILE: &str = "/proc/zoneinfo";
    let text = fs::read_to_string(FILE).context(FILE)?;
    Ok((free_pages(&text) * PAGE) as f64)
}

/// Of all zones, in their lists and in those of the processors.
fn free_pages(zoneinfo: &str) -> usize {
    let number = |line: &str| {
        let line = line.trim_start();
        let number = line
            .strip_prefix("pages free ")
            .or(line.strip_prefix("count: "))?;
        number.trim_start().parse::<usize>().ok()
    };
    zoneinfo.lines().filter_map(number).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_pages_are_in_zones_and_at_processors() {
        let text = "Node 0, zone    DMA32\n  per-node stats\n      nr_inactive_anon 7\n  pages free     1000\n        \
                    boost    1\n  pagesets\n    cpu: 0\n              count:    30\n              high:     80\n    \
                    cpu: 1\n              count:    4\nNode 0, zone   Normal\n  pages free     200\n";
        assert_eq!(free_pages(text), 1234);
    }
}
