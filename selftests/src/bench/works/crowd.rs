// SPDX-License-Identifier: GPL-2.0

//! Allocating pages while many are mapped, each by itself, and when what is free lies scattered.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::{Crowd, Quantity};
use crate::bench::source::Source;
use crate::bench::timing::{sample, timed};
use crate::mapping::{Mapping, PAGE};
use anyhow::Result;

const MOST: usize = 50_000;

/// What is mapped, one after the other.
pub const CROWDS: [Crowd; 5] = [
    Crowd::Pages(0),
    Crowd::Pages(1_000),
    Crowd::Pages(10_000),
    Crowd::Pages(MOST),
    Crowd::HalfOf(MOST),
];

/// Pages that are mapped for one look at the clock.
const PAGES: usize = 64;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    among_each(memory, sheet, allocate)
}

/// `among` is done among each crowd.
pub fn among_each(
    memory: &Memory,
    sheet: &mut Sheet,
    among: impl Fn(&Memory, &mut Sheet, &Source, Crowd) -> Result<()>,
) -> Result<()> {
    let source = memory.open()?;
    let mut crowd: Vec<Mapping> = Vec::new();
    for step in CROWDS {
        match step {
            Crowd::Pages(count) => {
                while crowd.len() < count {
                    crowd.push(source.map(PAGE)?);
                }
            }
            Crowd::HalfOf(count) => {
                while crowd.len() > count / 2 {
                    crowd.swap_remove(sheet.random.below(crowd.len()));
                }
            }
        }
        memory.settle_but(crowd.len() * PAGE)?;
        among(memory, sheet, &source, step)?;
    }
    drop(crowd);
    memory.settle()
}

/// Allocates some more, and gives them back.
pub fn allocate(memory: &Memory, sheet: &mut Sheet, source: &Source, crowd: Crowd) -> Result<()> {
    let used = PAGE
        * match crowd {
            Crowd::Pages(count) => count,
            Crowd::HalfOf(count) => count / 2,
        };
    let seconds = sample(|| {
        let (time, mappings) = timed(|| {
            (0..PAGES)
                .map(|_| source.map(PAGE))
                .collect::<Result<Vec<Mapping>>>()
        });
        drop(mappings?);
        memory.settle_but(used)?;
        Ok((time, PAGES))
    })?;
    sheet.add(Quantity::AllocateAmong(crowd), seconds);
    Ok(())
}
