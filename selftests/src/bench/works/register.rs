// SPDX-License-Identifier: GPL-2.0

//! Registering populated memory, which pins it for long, and giving that up again.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::room::Ceiling;
use crate::bench::timing::{sample, timed};
use crate::bench::MUCH;
use crate::mapping::{free_address, Mapping};
use crate::random::Random;
use crate::uring::Ring;
use crate::verbs::Rdma;
use anyhow::Result;

fn verbs_of(mapping: &Mapping) -> Result<f64> {
    let rdma = Rdma::open()?;
    sample(|| {
        let (time, result) = timed(|| rdma.register(mapping).map(drop));
        result?;
        Ok((time, 1))
    })
}

fn uring_of(mapping: &Mapping) -> Result<f64> {
    let mut ring = Ring::with_buffer(mapping)?;
    sample(|| {
        let (time, result) = timed(|| ring.register_again());
        result?;
        Ok((time, 1))
    })
}

/// `body` with much memory, wherever the kernel puts it.
fn with_much<T>(
    memory: &Memory,
    random: &mut Random,
    body: impl FnOnce(&Mapping) -> Result<T>,
) -> Result<T> {
    let source = memory.open()?;
    let _ceiling = Ceiling::new(memory, &source, MUCH, random)?;
    let mapping = source.map(MUCH)?;
    source.check_plain(&mapping)?;
    let result = body(&mapping)?;
    drop(mapping);
    memory.settle()?;
    Ok(result)
}

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let (verbs, uring) = with_much(memory, sheet.random, |mapping| {
        Ok((verbs_of(mapping)?, uring_of(mapping)?))
    })?;
    sheet.add(Quantity::RegisterVerbs, verbs);
    sheet.add(Quantity::RegisterUring, uring);
    Ok(())
}

/// Where no 2 MiB of the mapping need smaller entries.
pub fn measure_aligned(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let source = memory.open()?;
    let mapping = source.map_at(MUCH, Some(free_address(MUCH, 0)?))?;
    source.check(&mapping)?;
    sheet.add(Quantity::RegisterVerbsAligned, verbs_of(&mapping)?);
    sheet.add(Quantity::RegisterUringAligned, uring_of(&mapping)?);
    drop(mapping);
    memory.settle()
}
