// SPDX-License-Identifier: GPL-2.0

//! How long it takes until freed memory can be had again, beside what it takes to write it once.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::Quantity;
use crate::bench::room::Ceiling;
use crate::bench::timing::timed;
use crate::bench::MUCH;
use anyhow::Result;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let source = memory.open()?;
    let _ceiling = Ceiling::new(memory, &source, MUCH, sheet.random)?;
    // To warm up.
    drop(source.map(MUCH)?);
    memory.settle()?;

    let mapping = source.map(MUCH)?;
    source.check_plain(&mapping)?;
    let (write, ()) = timed(|| mapping.overwrite(u64::MAX));
    let (reuse, result) = timed(|| {
        drop(mapping);
        memory.settle()
    });
    result?;
    sheet.add(Quantity::Write, write.as_secs_f64());
    sheet.add(Quantity::Reuse, reuse.as_secs_f64());
    Ok(())
}
