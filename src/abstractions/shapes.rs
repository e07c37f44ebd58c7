// SPDX-License-Identifier: GPL-2.0

//! Which blocks of a buddy form a folio already, from the last time that they were in use.
//!
//! To make a folio of a block takes something for each of its pages, and is needless where the
//! block was one before and nobody has made other folios of its pages since.
//!
//! A bit for each block of each chunk, in the numbers that `buddy.rs` gives them. It is set if the
//! block is a folio, from the time that it was first given back as one. A page is in one folio: of
//! the blocks that contain it, at most one has its bit set. The bit stays as long as the block is
//! taken as a whole; to take a part of it, or what it is a part of, ends it.
//!
//! Pure: needs nothing but `core`, so that the host's tests compile this very file.

#![forbid(unsafe_code)]

use super::buddy::{is_set, put, Block, BITS, PAGES, TREE};
use core::ops::DerefMut;

/// The blocks that are folios. `S` is something like a vector.
pub(crate) struct Shapes<S>(S);

impl<S: DerefMut<Target = [u64]>> Shapes<S> {
    /// No block is one. `zeroes` allocates that many words of 0.
    pub(crate) fn new<E>(count: u32, zeroes: impl Fn(usize) -> Result<S, E>) -> Result<Self, E> {
        // No overflow: `count` has 32 bits, `usize` has 64.
        Ok(Self(zeroes(count as usize * TREE)?))
    }

    /// Whether `block`, which has just been taken, is a folio. If not, the blocks that have a page in
    /// common with it are none either from here on: a folio is going to be made of it.
    pub(crate) fn claim(&mut self, block: &Block) -> bool {
        let tree = block.chunk() * TREE * BITS;
        let number = block.number();
        if is_set(&self.0, tree + number) {
            return true;
        }
        let mut larger = number / 2;
        while larger > 0 {
            put(&mut self.0, tree + larger, false);
            larger /= 2;
        }
        let (mut smaller, mut count) = (2 * number, 2);
        while smaller < 2 * PAGES {
            self.clear(tree + smaller, count);
            smaller *= 2;
            count *= 2;
        }
        false
    }

    /// `block` has been made a folio since it was taken.
    pub(crate) fn note(&mut self, block: &Block) {
        put(
            &mut self.0,
            block.chunk() * TREE * BITS + block.number(),
            true,
        );
    }

    /// Clears `count` bits from bit `from` on: a power of two, and a multiple of it. So they are
    /// either in one word or whole words.
    fn clear(&mut self, from: usize, count: usize) {
        if count < BITS {
            if let Some(word) = self.0.get_mut(from / BITS) {
                *word &= !(((1 << count) - 1) << (from % BITS));
            }
        } else if let Some(words) = self.0.get_mut(from / BITS..(from + count) / BITS) {
            words.fill(0);
        }
    }
}
