// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/layout.rs`, compiled here and held against naive models.

#[path = "../../src/layout.rs"]
#[allow(dead_code)]
mod layout;

use layout::{locate, whole_chunks, Layout, Misfit, CHUNK, MAX_ORDER};
use proptest::prelude::*;

const CHUNK_PAGES: usize = 1 << MAX_ORDER;

/// Every order that fits at `page`, tried one after the other.
fn naive_order(page: usize, left: usize) -> u8 {
    (0..=MAX_ORDER)
        .rev()
        .find(|&order| page % (1 << order) == 0 && 1 << order <= left)
        .expect("order 0 always fits")
}

/// A mapping of `pages` pages from page number `first` on; often one of whole chunks.
fn mappings() -> impl Strategy<Value = (usize, usize)> {
    let pages = prop_oneof![
        1usize..20_000,
        (1usize..40).prop_map(|chunks| chunks * CHUNK_PAGES)
    ];
    (0usize..1 << 36, pages)
}

fn start_of(block: &(usize, u8)) -> usize {
    block.0
}

fn pages_of(block: &(usize, u8)) -> usize {
    1 << block.1
}

/// The blocks, some of them in halves of halves.
fn fragmented(layout: Layout, mut cuts: u64) -> Vec<(usize, u8)> {
    let mut blocks = Vec::new();
    let mut left: Vec<_> = layout.collect();
    left.reverse();
    while let Some((start, order)) = left.pop() {
        cuts = cuts.rotate_left(1);
        if order > 0 && cuts & 1 == 1 {
            left.push((start + (1 << (order - 1)), order - 1));
            left.push((start, order - 1));
        } else {
            blocks.push((start, order));
        }
    }
    blocks
}

proptest! {
    #[test]
    fn every_page_is_in_one_block((first, pages) in mappings()) {
        let mut times = vec![0; pages];
        for (offset, order) in Layout::new(first, pages) {
            for page in offset..offset + (1 << order) {
                prop_assert!(offset < pages);
                times[page % pages] += 1;
            }
        }
        prop_assert!(times.iter().all(|&times| times == 1));
    }

    #[test]
    fn blocks_are_the_largest_that_address_and_length_allow((first, pages) in mappings()) {
        let mut expected = None;
        for (offset, order) in Layout::new(first, pages) {
            let whole = pages % CHUNK_PAGES == 0;
            let left = if whole { CHUNK_PAGES } else { pages - offset };
            prop_assert_eq!(order, naive_order(first + offset, left));
            prop_assert_eq!(offset, expected.unwrap_or(offset));
            prop_assert!(whole || expected.is_some() || offset == 0);
            expected = Some(offset + (1 << order));
        }
    }

    #[test]
    fn every_whole_aligned_chunk_of_a_mapping_is_one_block((first, pages) in mappings()) {
        let whole: Vec<usize> = (first.div_ceil(CHUNK_PAGES)..(first + pages) / CHUNK_PAGES)
            .map(|number| number * CHUNK_PAGES - first)
            .collect();
        let blocks: Vec<usize> = Layout::new(first, pages)
            .filter(|&(offset, order)| order == MAX_ORDER && offset + CHUNK_PAGES <= pages)
            .map(|(offset, _)| offset)
            .collect();
        prop_assert_eq!(blocks, whole);
    }

    #[test]
    fn every_page_is_found_in_the_block_that_it_is_in(
        (first, pages) in mappings(),
        cuts in any::<u64>(),
    ) {
        let blocks = fragmented(Layout::new(first, pages), cuts);
        for (number, &(start, order)) in blocks.iter().enumerate() {
            for page in 0..1 << order {
                let found = locate(&blocks, start_of, pages_of, (start + page) % pages);
                prop_assert_eq!(found, Some((number, page)));
            }
        }
    }

    #[test]
    fn no_page_is_found_behind_the_last_block(
        (first, pages) in mappings(),
        behind in 0usize..10_000,
    ) {
        let blocks: Vec<_> = Layout::new(first, pages).collect();
        let end = blocks[0].0 + pages;
        prop_assert_eq!(locate(&blocks, start_of, pages_of, end + behind), None);
        prop_assert_eq!(locate(&[], start_of, pages_of, behind), None);
    }

    #[test]
    fn an_extent_keeps_exactly_its_whole_chunks(
        start in 0u64..64,
        len in 0u64..64,
        offset in 0u64..80,
        size in 0u64..80,
    ) {
        // In units of a quarter of a chunk, so that every kind of overlap comes up.
        let unit = CHUNK / 4;
        let bar = start * unit..(start + len) * unit;
        let inside = |address: u64| {
            address >= bar.start + offset * unit
                && address + CHUNK <= bar.end.min(bar.start + (offset + size) * unit)
        };
        let chunks: Vec<u64> = (0..64 * 4).map(|i| i * CHUNK).filter(|&a| inside(a)).collect();
        let expected = chunks.first().zip(chunks.last()).map(|(first, last)| {
            first - bar.start..last + CHUNK - bar.start
        });
        let expected = if start % 4 != 0 && len >= 4 {
            Err(Misfit::Unaligned)
        } else {
            expected.ok_or(Misfit::TooSmall)
        };
        prop_assert_eq!(whole_chunks(bar.clone(), offset * unit, size * unit), expected);
    }

    #[test]
    fn registers_that_tell_nonsense_do_no_harm(
        start in any::<u64>(),
        len in any::<u64>(),
        offset in any::<u64>(),
        size in any::<u64>(),
    ) {
        let bar = start..start.saturating_add(len);
        if let Ok(range) = whole_chunks(bar.clone(), offset, size) {
            prop_assert!(range.start < range.end);
            prop_assert!(bar.start + range.end <= bar.end);
            prop_assert_eq!((bar.start + range.start) % CHUNK, 0);
            prop_assert_eq!((bar.start + range.end) % CHUNK, 0);
        }
    }
}
