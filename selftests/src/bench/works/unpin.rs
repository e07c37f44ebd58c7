// SPDX-License-Identifier: GPL-2.0

//! How long it takes from the last unpin of unmapped memory until that can be had again.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::timing::{sample, timed};
use crate::mapping::{free_address, HUGE};
use crate::verbs::Rdma;
use anyhow::Result;
use std::thread::sleep;
use std::time::Duration;

/// Unpins in a row: how long one takes depends on how soon the module looks after it.
const UNPINS: usize = 8;

/// Longer than the module's pauses between two looks, in microseconds.
const LONGEST_WAIT: usize = 20_000;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let rdma = Rdma::open()?;
    let source = memory.open()?;
    let seconds = sample(|| {
        let mut total = Duration::ZERO;
        for _ in 0..UNPINS {
            let mapping = source.map_at(HUGE, Some(free_address(HUGE, 0)?))?;
            let region = rdma.register(&mapping)?;
            drop(mapping);
            memory.wait_draining(HUGE)?;
            // The unpin may come at any moment between two looks.
            sleep(Duration::from_micros(
                sheet.random.below(LONGEST_WAIT) as u64
            ));
            drop(region);
            let (time, result) = timed(|| memory.settle());
            result?;
            total += time;
        }
        Ok((total, UNPINS))
    })?;
    sheet.add(Quantity::Unpin, seconds);
    Ok(())
}
