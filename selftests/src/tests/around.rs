// SPDX-License-Identifier: GPL-2.0

//! What one touch maps: what is around it in the same table, as long as that takes little time; and
//! which blocks there are for it.

use super::{OURS, THEIRS};
use crate::child::Child;
use crate::device::{Bound, PLAIN};
use crate::mapping::{free_address, free_table, Mapping, GIB, HUGE, PAGE};
use crate::pagemap;
use anyhow::Result;
use std::ops::Range;

/// What a touch maps at most.
const MOST: usize = 16 * HUGE;

fn map(bound: &Bound, len: usize, misalignment: usize) -> Result<Mapping> {
    bound.map_at(len, free_address(len, misalignment)?)
}

/// The device with all of its memory zeroed, as it is once it has been used.
fn used() -> Result<Bound> {
    let bound = Bound::new(PLAIN)?;
    map(&bound, bound.size()?, 0)?.touch();
    bound.wait_all_free()?;
    Ok(bound)
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
    let bound = used()?;
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

/// So does one at an end of a mapping whose other entries are to be large.
pub fn a_touch_fills_an_end_with_small_entries() -> Result<()> {
    const LEN: usize = 2 * HUGE + 3 * PAGE;
    let bound = used()?;
    for misalignment in [PAGE, HUGE / 2, HUGE - PAGE] {
        let mapping = map(&bound, LEN, misalignment)?;
        let first = pages(0..HUGE - misalignment);
        let last = pages(((LEN + misalignment) & !(HUGE - 1)) - misalignment..LEN);
        mapping.read(LEN - PAGE);
        assert_eq!(present(&mapping)?, last, "{misalignment:#x}");
        mapping.write(0, 1);
        assert_eq!(
            present(&mapping)?,
            [first, last].concat(),
            "{misalignment:#x}"
        );
        mapping.fill(OURS);
        mapping.check(OURS)?;
    }
    Ok(())
}

/// What has an entry keeps it, another VMA gets none, and what another process wrote is to be seen.
pub fn a_touch_fills_gaps_only() -> Result<()> {
    let bound = used()?;
    let mapping = map(&bound, HUGE, PAGE)?;
    mapping.fill(OURS);
    let addresses = pagemap::physical_addresses(&mapping)?;
    for page in (0..HUGE).step_by(3 * PAGE) {
        mapping.advise(page..page + PAGE, libc::MADV_DONTNEED)?;
    }
    Child::start(|| {
        mapping.fill(THEIRS);
        Ok(())
    })?
    .succeed()?;
    // The VMA of the page touched ends before that page.
    mapping.protect(7 * PAGE..8 * PAGE, libc::PROT_NONE)?;
    mapping.read(0);
    let gaps = |page: &usize| *page > 7 * PAGE && page % (3 * PAGE) == 0;
    let expected: Vec<_> = pages(0..HUGE)
        .into_iter()
        .filter(|page| !gaps(page))
        .collect();
    assert_eq!(present(&mapping)?, expected);
    mapping.protect(7 * PAGE..8 * PAGE, libc::PROT_READ)?;
    mapping.check(THEIRS)?;
    assert_eq!(pagemap::physical_addresses(&mapping)?, addresses);
    Ok(())
}

/// What the device held has to be zeroed, which takes time for each block.
pub fn a_touch_maps_no_more_that_was_never_used() -> Result<()> {
    const LEN: usize = 3 * HUGE;
    let bound = Bound::new(PLAIN)?;
    let large = map(&bound, LEN, 0)?;
    large.read(HUGE);
    assert_eq!(present(&large)?, pages(HUGE..2 * HUGE));
    let small = map(&bound, 5 * PAGE, PAGE)?;
    small.read(PAGE);
    // At that address its second block is two pages.
    assert_eq!(present(&small)?, pages(PAGE..3 * PAGE));
    large.check_zero()?;
    small.check_zero()
}

/// Memory that only has to be mapped is, in 2 MiB entries, from the one touched on.
pub fn a_touch_maps_large_blocks_behind_it() -> Result<()> {
    const LEN: usize = MOST + 4 * HUGE;
    let bound = used()?;
    for touched in [0, 2 * HUGE + PAGE, 5 * HUGE, LEN - PAGE] {
        bound.wait_all_free()?;
        let mapping = bound.map_at(LEN, free_table()?)?;
        mapping.read(touched);
        let start = touched & !(HUGE - 1);
        let end = LEN.min(start + MOST);
        assert_eq!(pagemap::huge_ranges(&mapping)?, vec![start..end]);
        assert_eq!(present(&mapping)?, pages(start..end));
    }
    Ok(())
}

/// Not in another table or VMA, and no further than to what has entries.
pub fn a_touch_maps_large_blocks_up_to_a_border() -> Result<()> {
    const LEN: usize = 6 * HUGE;
    let bound = used()?;
    let mapping = bound.map_at(LEN, free_table()? + GIB - 2 * HUGE)?;
    mapping.read(HUGE);
    assert_eq!(pagemap::huge_ranges(&mapping)?, vec![HUGE..2 * HUGE]);
    mapping.read(0);
    assert_eq!(pagemap::huge_ranges(&mapping)?, vec![0..2 * HUGE]);
    mapping.read(2 * HUGE);
    assert_eq!(pagemap::huge_ranges(&mapping)?, vec![0..LEN]);
    mapping.fill(OURS);
    mapping.check(OURS)?;

    let mapping = bound.map_at(LEN, free_table()?)?;
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
    mapping.check_zero()
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

            // At other addresses other entries suit.
            let mut mapping = mapping;
            for misalignment in [0, 3 * PAGE, HUGE / 2] {
                mapping.move_to(free_address(len, misalignment)?)?;
                mapping.advise(0..len, libc::MADV_DONTNEED)?;
                mapping.check(OURS)?;
            }
            let (head, tail) = mapping.split(len - PAGE);
            drop(head);
            tail.advise(0..PAGE, libc::MADV_DONTNEED)?;
            assert_eq!(tail.read(PAGE - 8), OURS.word(len / 8 - 1));
        }
    }
    Ok(())
}

/// Where there is no block of 2 MiB, smaller ones take its place, one of which may be half at the
/// end and half at the beginning.
pub fn the_ends_are_whole_in_a_fragmented_pool() -> Result<()> {
    const PIECE: usize = HUGE / 2;
    let bound = Bound::new(PLAIN)?;
    let pieces = bound.size()? / PIECE;
    let mut kept: Vec<Mapping> = Vec::new();
    for _ in 0..pieces {
        kept.push(map(&bound, PIECE, 0)?);
    }
    assert_eq!(bound.available()?, 0);
    // Of each 2 MiB one half.
    let half = |mapping: &Mapping| -> Result<bool> {
        mapping.touch();
        let address = pagemap::physical_address(mapping, 0)?;
        Ok(address.is_some_and(|address| address as usize % HUGE == 0))
    };
    let mut rest = Vec::new();
    for mapping in kept {
        if half(&mapping)? {
            rest.push(mapping);
        }
    }
    let free = bound.size()? - rest.len() * PIECE;
    bound.wait_available(free)?;

    for misalignment in [PAGE, HUGE / 4, HUGE - PAGE] {
        let mapping = map(&bound, 4 * HUGE, misalignment)?;
        mapping.check_zero()?;
        mapping.fill(OURS);
        mapping.advise(0..4 * HUGE, libc::MADV_DONTNEED)?;
        mapping.check(OURS)?;
        let mut addresses = pagemap::physical_addresses(&mapping)?;
        addresses.sort_unstable();
        addresses.dedup();
        assert_eq!(addresses.iter().flatten().count(), 4 * HUGE / PAGE);
        assert!(addresses
            .iter()
            .flatten()
            .all(|&address| address as usize % HUGE >= PIECE));
    }
    Ok(())
}
