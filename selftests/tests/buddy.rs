// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/abstractions/buddy.rs`, held against a model that keeps a list of pages.

#[path = "../../src/abstractions/buddy.rs"]
mod buddy;

use buddy::{Block, Buddy, MAX_ORDER};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::Range;

const CHUNK: usize = 1 << MAX_ORDER;

fn new(chunks: usize) -> Buddy<Vec<u64>> {
    let Ok(buddy) = Buddy::new(chunks as u32, |len| Ok::<_, Infallible>(vec![0; len]));
    buddy
}

#[derive(Clone, Debug)]
enum Step {
    Alloc(u8),
    Free(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        // One too large, too, which there never is.
        3 => (0..=MAX_ORDER + 1).prop_map(Step::Alloc),
        // As many small ones as it takes to be fragmented.
        2 => (0..=2u8).prop_map(Step::Alloc),
        4 => any::<prop::sample::Index>().prop_map(Step::Free),
    ]
}

/// The block of that order that has the page.
fn block(page: usize, order: u8) -> Range<usize> {
    let start = page >> order << order;
    start..start + (1 << order)
}

/// Whether each page is free.
struct Naive(Vec<bool>);

impl Naive {
    fn is_free(&self, pages: Range<usize>) -> bool {
        self.0[pages].iter().all(|&is_free| is_free)
    }

    /// Free blocks of that order.
    fn free(&self, order: u8) -> impl Iterator<Item = usize> + '_ {
        let starts = (0..self.0.len()).step_by(1 << order);
        starts.filter(move |&page| self.is_free(block(page, order)))
    }

    /// Where a block of that order costs the smallest block, and the first such place.
    fn find(&self, order: u8) -> Option<usize> {
        (order..=MAX_ORDER).find_map(|cost| {
            let is_part = |page| cost < MAX_ORDER && self.is_free(block(page, cost + 1));
            self.free(cost).find(|&page| !is_part(page))
        })
    }

    fn set(&mut self, page: usize, order: u8, is_free: bool) {
        self.0[block(page, order)].fill(is_free);
    }
}

proptest! {
    #[test]
    fn every_block_is_the_one_that_a_list_of_pages_gives(
        chunks in 0usize..5,
        steps in prop::collection::vec(step(), 0..120),
        order in prop::collection::vec(any::<prop::sample::Index>(), 120),
    ) {
        let mut buddy = new(chunks);
        let mut naive = Naive(vec![true; chunks * CHUNK]);
        let mut owned: Vec<(Block, u8)> = Vec::new();

        let free = |buddy: &mut Buddy<_>, naive: &mut Naive, (block, order): (Block, u8)| {
            naive.set(block.page(), order, true);
            buddy.free(block);
        };
        for step in steps {
            match step {
                Step::Alloc(order) => {
                    let block = buddy.alloc(order);
                    prop_assert_eq!(block.as_ref().map(Block::page), naive.find(order));
                    if let Some(block) = block {
                        let page = block.page();
                        prop_assert!(naive.free(order).any(|free| free == page), "{page}");
                        naive.set(page, order, false);
                        owned.push((block, order));
                    } else {
                        prop_assert!(order > MAX_ORDER || naive.free(order).next().is_none());
                    }
                }
                Step::Free(index) if !owned.is_empty() => {
                    let taken = owned.swap_remove(index.index(owned.len()));
                    free(&mut buddy, &mut naive, taken);
                }
                Step::Free(_) => {}
            }
        }

        for index in order {
            if !owned.is_empty() {
                let taken = owned.swap_remove(index.index(owned.len()));
                free(&mut buddy, &mut naive, taken);
            }
        }
        for chunk in 0..chunks {
            let block = buddy.alloc(MAX_ORDER);
            prop_assert_eq!(block.as_ref().map(Block::page), Some(chunk * CHUNK));
        }
        prop_assert!(buddy.alloc(0).is_none());
    }

    #[test]
    fn single_pages_come_one_after_the_other_and_go_in_any_order(
        order in (1usize..4).prop_flat_map(|chunks| {
            Just((0..chunks * CHUNK).collect::<Vec<_>>()).prop_shuffle()
        }),
    ) {
        let chunks = order.len() / CHUNK;
        let mut buddy = new(chunks);
        let mut pages = Vec::new();
        while let Some(block) = buddy.alloc(0) {
            prop_assert_eq!(block.page(), pages.len());
            pages.push(Some(block));
        }
        prop_assert_eq!(pages.len(), order.len());
        for page in order {
            buddy.free(pages[page].take().expect("each is given back once"));
        }
        for chunk in 0..chunks {
            let block = buddy.alloc(MAX_ORDER);
            prop_assert_eq!(block.as_ref().map(Block::page), Some(chunk * CHUNK));
        }
    }

    /// With more than one word of summary.
    #[test]
    fn one_free_chunk_is_found_among_many(
        chunks in 1usize..10_000,
        free in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        order in 0..MAX_ORDER,
    ) {
        let mut buddy = new(chunks);
        let mut blocks: Vec<Option<Block>> = (0..chunks).map(|_| buddy.alloc(MAX_ORDER)).collect();
        prop_assert!(buddy.alloc(0).is_none());

        let free: BTreeSet<usize> = free.iter().map(|index| index.index(chunks)).collect();
        for &chunk in free.iter().rev() {
            buddy.free(blocks[chunk].take().expect("each is given back once"));
        }
        // All parts of one before the next is split.
        for page in free.iter().flat_map(|chunk| (chunk * CHUNK..(chunk + 1) * CHUNK).step_by(1 << order)) {
            let block = buddy.alloc(order);
            prop_assert_eq!(block.as_ref().map(Block::page), Some(page));
        }
        prop_assert!(buddy.alloc(0).is_none());
    }
}
