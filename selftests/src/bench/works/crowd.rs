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
        let seconds = allocate(memory, &source, crowd.len())?;
        sheet.add(Quantity::AllocateAmong(step), seconds);
    }
    drop(crowd);
    memory.settle()
}

fn allocate(memory: &Memory, source: &Source, crowd: usize) -> Result<f64> {
    sample(|| {
        let (time, mappings) = timed(|| {
            (0..PAGES)
                .map(|_| source.map(PAGE))
                .collect::<Result<Vec<Mapping>>>()
        });
        drop(mappings?);
        memory.settle_but(crowd * PAGE)?;
        Ok((time, PAGES))
    })
}
