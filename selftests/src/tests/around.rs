// SPDX-License-Identifier: GPL-2.0

//! What one touch maps: all that the same table has room for, unless that took long.

use super::OURS;
use crate::device::{Bound, PLAIN};
use crate::mapping::{free_address, Mapping, Request, HUGE, PAGE};
use crate::pagemap;
use anyhow::Result;
use std::ops::Range;

fn map(bound: &Bound, len: usize, misalignment: usize) -> Result<Mapping> {
    let request = Request {
        at: Some(free_address(len, misalignment)?),
        ..Request::shared(len)
    };
    Ok(request.map(&bound.open()?)?)
}

/// Offsets of the pages that have an entry.
fn present(mapping: &Mapping) -> Result<Vec<usize>> {
    let addresses = pagemap::physical_addresses(mapping)?;
    let with_entry = addresses.iter().zip((0..).step_by(PAGE));
    Ok(with_entry
        .filter_map(|(address, offset)| address.map(|_| offset))
        .collect())
}

fn pages(offsets: Range<usize>) -> Vec<usize> {
    offsets.step_by(PAGE).collect()
}

/// A table of 4 KiB entries, as far as the mapping reaches.
pub fn a_touch_fills_a_table_of_small_entries() -> Result<()> {
    const LEN: usize = 3 * HUGE + 3 * PAGE;
    let bound = Bound::new(PLAIN)?;
    for misalignment in [0, PAGE, HUGE / 2, HUGE - PAGE] {
        let mapping = map(&bound, LEN, misalignment)?;
        mapping.advise(0..LEN, libc::MADV_NOHUGEPAGE)?;
        let mut expected = Vec::new();
        for touched in [LEN - PAGE, HUGE + 5 * PAGE, 0] {
            mapping.read(touched);
            let table = (misalignment + touched) & !(HUGE - 1);
            let start = table.saturating_sub(misalignment);
            let end = (table + HUGE - misalignment).min(LEN);
            expected.extend(pages(start..end));
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(
                present(&mapping)?,
                expected,
                "{misalignment:#x} {touched:#x}"
            );
        }
        mapping.fill(OURS);
        mapping.check(OURS)?;
    }
    Ok(())
}

/// What has an entry keeps it, and what other processes wrote through theirs is to be seen.
pub fn a_touch_fills_gaps_only() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = map(&bound, HUGE, PAGE)?;
    mapping.fill(OURS);
    let pages = pagemap::physical_addresses(&mapping)?;
    for page in (0..HUGE).step_by(3 * PAGE) {
        mapping.advise(page..page + PAGE, libc::MADV_DONTNEED)?;
    }
    mapping.protect(7 * PAGE..8 * PAGE, libc::PROT_NONE)?;
    mapping.read(0);
    mapping.protect(7 * PAGE..8 * PAGE, libc::PROT_READ)?;
    mapping.check(OURS)?;
    assert_eq!(pagemap::physical_addresses(&mapping)?, pages);
    Ok(())
}

/// Memory that only has to be mapped is, in 2 MiB entries, from the one touched to the end.
pub fn a_touch_maps_the_large_blocks_behind_it() -> Result<()> {
    const LEN: usize = 6 * HUGE;
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    // What the device held has to be zeroed first, 2 MiB at a touch.
    let fresh = map(&bound, size, 0)?;
    fresh.read(HUGE);
    assert_eq!(pagemap::huge_ranges(&fresh)?, vec![HUGE..2 * HUGE]);
    fresh.touch();
    drop(fresh);
    bound.wait_all_free()?;

    for touched in [0, 2 * HUGE + PAGE, LEN - PAGE] {
        let mapping = map(&bound, LEN, 0)?;
        mapping.read(touched);
        let start = touched & !(HUGE - 1);
        assert_eq!(pagemap::huge_ranges(&mapping)?, vec![start..LEN]);
        mapping.fill(OURS);
        mapping.check(OURS)?;
    }
    // Not in another VMA, and no further than to what has entries.
    let mapping = map(&bound, LEN, 0)?;
    mapping.advise(0..LEN, libc::MADV_NOHUGEPAGE)?;
    mapping.read(2 * HUGE);
    mapping.advise(0..LEN, libc::MADV_HUGEPAGE)?;
    mapping.protect(4 * HUGE + PAGE..LEN, libc::PROT_READ)?;
    mapping.read(3 * HUGE);
    mapping.read(0);
    assert_eq!(
        pagemap::huge_ranges(&mapping)?,
        vec![0..2 * HUGE, 3 * HUGE..4 * HUGE]
    );
    assert_eq!(present(&mapping)?, pages(0..4 * HUGE));
    Ok(())
}

/// The ends of a mapping of whole chunks are one block, wherever it begins.
pub fn the_ends_of_whole_chunks_make_one_block() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for chunks in [1, 2, 5] {
        let len = chunks * HUGE;
        for misalignment in [PAGE, 7 * PAGE, HUGE / 2, HUGE - PAGE] {
            bound.wait_all_free()?;
            let mapping = map(&bound, len, misalignment)?;
            mapping.fill(OURS);
            mapping.check(OURS)?;
            let addresses = pagemap::physical_addresses(&mapping)?;
            let at = |offset: usize| addresses[offset / PAGE].map(|address| address as usize);
            // The physical address of what the mapping would go on with at its end.
            assert_eq!(at(len - PAGE).map(|address| address + PAGE), at(0));
            let tail = len - misalignment;
            assert_eq!(at(tail).map(|address| address % HUGE), Some(0));
            assert_eq!(bound.available()?, bound.size()? - len);

            // Each end by itself, moved to where it fits a 2 MiB entry.
            let (mut head, tail) = mapping.split(HUGE - misalignment);
            head.move_to(free_address(head.len(), 0)?)?;
            head.check_range(0..head.len(), OURS)?;
            drop(head);
            assert_eq!(tail.read(tail.len() - 8), OURS.word(len / 8 - 1));
        }
    }
    Ok(())
}
