// SPDX-License-Identifier: GPL-2.0

//! How long it takes from the last unpin of unmapped memory until that can be had again.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::stats::Spread;
use crate::bench::timing::timed;
use crate::bench::MUCH;
use crate::mapping::{free_address, HUGE};
use crate::verbs::Rdma;
use anyhow::{Context, Result};
use std::thread::sleep;
use std::time::Duration;

/// Unpins for one sample: how long one takes depends on how soon the module looks after it.
const UNPINS: usize = 16;

/// Longer than the module's pauses between two looks, in microseconds.
const LONGEST_WAIT: usize = 20_000;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let times = unpins(memory, sheet, HUGE)?;
    let spread = Spread::of(&times).context("no unpin")?;
    let worst = times.iter().copied().fold(0.0, f64::max);
    sheet.add(Quantity::Unpin, spread.median);
    sheet.add(Quantity::UnpinWorst, worst);
    Ok(())
}

/// How that grows with what drains.
pub fn measure_much(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let times = unpins(memory, sheet, MUCH)?;
    let spread = Spread::of(&times).context("no unpin")?;
    sheet.add(Quantity::UnpinMuch, spread.median);
    Ok(())
}

fn unpins(memory: &Memory, sheet: &mut Sheet, len: usize) -> Result<Vec<f64>> {
    let rdma = Rdma::open()?;
    let source = memory.open()?;
    let mut unpin = || -> Result<f64> {
        let mapping = source.map_at(len, Some(free_address(len, 0)?))?;
        let region = rdma.register(&mapping)?;
        drop(mapping);
        memory.wait_draining(len)?;
        // The unpin may come at any moment between two looks.
        let pause = sheet.random.below(LONGEST_WAIT);
        sleep(Duration::from_micros(pause as u64));
        drop(region);
        let (time, result) = timed(|| memory.settle());
        result?;
        Ok(time.as_secs_f64())
    };
    // To warm up.
    unpin()?;
    (0..UNPINS).map(|_| unpin()).collect()
}
