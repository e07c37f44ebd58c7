// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/abstractions/shapes.rs`, held against a model that keeps, for each page, the
//! folio that it is in.

#![allow(dead_code, reason = "the buddy is for other tests")]

#[path = "../../src/abstractions/buddy.rs"]
mod buddy;
#[path = "../../src/abstractions/shapes.rs"]
mod shapes;

use buddy::{Block, Buddy, MAX_ORDER};
use proptest::prelude::*;
use shapes::Shapes;
use std::convert::Infallible;

const CHUNK: usize = 1 << MAX_ORDER;

fn zeroes(len: usize) -> Result<Vec<u64>, Infallible> {
    Ok(vec![0; len])
}

#[derive(Clone, Debug)]
enum Step {
    /// Takes a block, and makes a folio of it unless that fails.
    Alloc {
        order: u8,
        fails: bool,
    },
    Free(prop::sample::Index),
}

fn alloc(order: impl Strategy<Value = u8>) -> impl Strategy<Value = Step> {
    (order, prop::bool::weighted(0.1)).prop_map(|(order, fails)| Step::Alloc { order, fails })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => alloc(0..=MAX_ORDER),
        // Often enough the same one at the same place.
        3 => alloc(prop::sample::select(vec![0, 1, 3, MAX_ORDER - 1, MAX_ORDER])),
        4 => any::<prop::sample::Index>().prop_map(Step::Free),
    ]
}

/// The folio that each page was made a part of last, by a number of its own, and its order.
struct Naive {
    pages: Vec<Option<(usize, u8)>>,
    made: usize,
}

impl Naive {
    /// Whether the pages from `page` on, and only they, are a folio of that order.
    fn is_folio(&self, page: usize, order: u8) -> bool {
        let pages = &self.pages[page..page + (1 << order)];
        pages[0].is_some_and(|(_, of)| of == order) && pages.iter().all(|of| *of == pages[0])
    }

    fn make(&mut self, page: usize, order: u8) {
        self.made += 1;
        self.pages[page..page + (1 << order)].fill(Some((self.made, order)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_block_is_a_folio_exactly_if_it_was_made_one_and_is_whole(
        chunks in 1usize..4,
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let Ok(mut buddy) = Buddy::new(chunks as u32, zeroes);
        let Ok(mut shapes) = Shapes::new(chunks as u32, zeroes);
        let mut naive = Naive { pages: vec![None; chunks * CHUNK], made: 0 };
        let mut owned: Vec<(Block, bool)> = Vec::new();

        for step in steps {
            match step {
                Step::Alloc { order, fails } => {
                    let Some(block) = buddy.alloc(order) else { continue };
                    let page = block.page();
                    let mut is_folio = shapes.claim(&block);
                    prop_assert_eq!(is_folio, naive.is_folio(page, order), "{} {}", page, order);
                    if !is_folio && fails {
                        // Half of its pages may have been touched.
                        naive.pages[page..page + (1 << order)].fill(None);
                    } else if !is_folio {
                        naive.make(page, order);
                        is_folio = true;
                    }
                    owned.push((block, is_folio));
                }
                Step::Free(index) if !owned.is_empty() => {
                    let (block, is_folio) = owned.swap_remove(index.index(owned.len()));
                    if is_folio {
                        shapes.note(&block);
                    }
                    buddy.free(block);
                }
                Step::Free(_) => {}
            }
        }
    }
}

/// All kinds of blocks of one chunk, one kind after the other.
#[test]
fn each_order_ends_all_others() {
    for first in 0..=MAX_ORDER {
        for second in 0..=MAX_ORDER {
            let Ok(mut buddy) = Buddy::new(1, zeroes);
            let Ok(mut shapes) = Shapes::new(1, zeroes);
            // Each order of the two is new at first, then known; and new again after the other.
            for (order, known) in [first, first, second, second, first].into_iter().zip([
                false,
                true,
                first == second,
                true,
                first == second,
            ]) {
                let blocks: Vec<Block> = std::iter::from_fn(|| buddy.alloc(order)).collect();
                assert_eq!(blocks.len(), CHUNK >> order);
                for block in blocks {
                    assert_eq!(shapes.claim(&block), known, "{first} {second} {block:?}");
                    shapes.note(&block);
                    buddy.free(block);
                }
            }
        }
    }
}
