// SPDX-License-Identifier: GPL-2.0

//! A buddy allocator of pages that allocates nothing after it has been made.
//!
//! (The kernel's own, `drivers/gpu/buddy.c`, allocates a descriptor for each block that it makes by
//! splitting another, and corrupts its trees when it gets none.)
//!
//! # Blocks
//!
//! Memory is chunks of `1 << MAX_ORDER` pages. A block of order `n` is `1 << n` pages of a chunk,
//! aligned to that number. The blocks of a chunk have the numbers of a heap: 1 is the chunk, and
//! the halves of block `i` are `2 * i` and `2 * i + 1`, each other's buddies.
//!
//! ```text
//!   order 9                1                    A bit is set if the block is free and its
//!   order 8        2               3            buddy is not: of free pages only the largest
//!   order 7    4       5       6       7        block that has them. Every page that is free is
//!     ...                                       in exactly one such block; the others have owners.
//!   order 0  512  ...                   1023
//! ```
//!
//! `chunks` has a bit for each order and chunk: there is such a block in it. `summary` has a bit for
//! each word of that: it is not 0. So a search looks at 8 words of summary an order for 64 GiB of
//! memory, and at a few others.
//!
//! Pure: needs nothing but `core`, so that the host's tests compile this very file.

#![forbid(unsafe_code)]

use core::ops::DerefMut;

/// Order of the largest blocks.
pub(crate) const MAX_ORDER: u8 = 9;

/// Pages of a chunk.
pub(super) const PAGES: usize = 1 << MAX_ORDER;

/// Bits of a word.
pub(super) const BITS: usize = u64::BITS as usize;

/// Words with a bit for each number of a block of a chunk, and for 0, which is none's.
pub(super) const TREE: usize = 2 * PAGES / BITS;

/// Sets or clears a bit.
pub(super) fn put(words: &mut [u64], bit: usize, value: bool) {
    if let Some(word) = words.get_mut(bit / BITS) {
        let mask = 1 << (bit % BITS);
        *word = if value { *word | mask } else { *word & !mask };
    }
}

/// Whether a bit is set.
pub(super) fn is_set(words: &[u64], bit: usize) -> bool {
    (words.get(bit / BITS)).is_some_and(|word| (word >> (bit % BITS)) & 1 != 0)
}

/// The first bit that is set from bit `from` on.
fn first(words: &[u64], from: usize) -> Option<usize> {
    let mut mask = u64::MAX << (from % BITS);
    for (index, word) in words.iter().enumerate().skip(from / BITS) {
        let word = word & mask;
        if word != 0 {
            return Some(index * BITS + word.trailing_zeros() as usize);
        }
        mask = u64::MAX;
    }
    None
}

/// Row number `row` of a table whose rows have `len` words.
fn row(words: &[u64], row: usize, len: usize) -> Option<&[u64]> {
    words.get(row * len..(row + 1) * len)
}

/// A block that has been taken from a [`Buddy`]. Not to be copied, so that its pages have one owner
/// and are given back once.
#[must_use = "without it nobody can give the pages back"]
#[derive(Debug)]
pub(crate) struct Block {
    chunk: u32,
    number: u16,
    order: u8,
}

impl Block {
    /// Its first page, counted from the first of the memory.
    pub(crate) fn page(&self) -> usize {
        self.chunk() * PAGES + ((self.number() << self.order) % PAGES)
    }

    /// Which chunk it is in.
    pub(super) fn chunk(&self) -> usize {
        self.chunk as usize
    }

    /// Its number in that chunk.
    pub(super) fn number(&self) -> usize {
        usize::from(self.number)
    }
}

/// The allocator. `S` is something like a vector.
pub(crate) struct Buddy<S> {
    blocks: S,
    chunks: S,
    summary: S,
    // Lengths of a row, which is for one order.
    chunks_row: usize,
    summary_row: usize,
}

impl<S: DerefMut<Target = [u64]>> Buddy<S> {
    /// All of the memory is free. `zeroes` allocates that many words of 0.
    pub(crate) fn new<E>(count: u32, zeroes: impl Fn(usize) -> Result<S, E>) -> Result<Self, E> {
        // No product here or below overflows: `count` has 32 bits, `usize` has 64.
        let orders = usize::from(MAX_ORDER) + 1;
        let chunks_row = (count as usize).div_ceil(BITS);
        let summary_row = chunks_row.div_ceil(BITS);
        let mut buddy = Self {
            blocks: zeroes(count as usize * TREE)?,
            chunks: zeroes(chunks_row * orders)?,
            summary: zeroes(summary_row * orders)?,
            chunks_row,
            summary_row,
        };
        for chunk in 0..count as usize {
            buddy.mark(chunk, MAX_ORDER, 1, true);
        }
        Ok(buddy)
    }

    /// Takes a block of `order`, if one is free; from the smallest that is large enough, and of
    /// these from the first.
    pub(crate) fn alloc(&mut self, order: u8) -> Option<Block> {
        let (found, chunk) = (order..=MAX_ORDER)
            .find_map(|order| self.first_chunk(order).map(|chunk| (order, chunk)))?;
        let mut number = self.first_block(chunk, found)?;

        self.mark(chunk, found, number, false);
        // Keeps the first half each time.
        for order in (order..found).rev() {
            number *= 2;
            self.mark(chunk, order, number + 1, true);
        }
        Some(Block {
            chunk: chunk as u32,
            number: number as u16,
            order,
        })
    }

    /// Gives back a block, which must have been taken from this allocator.
    pub(crate) fn free(&mut self, block: Block) {
        let chunk = block.chunk();
        let mut number = block.number();
        let mut order = block.order;

        let tree = chunk * TREE * BITS;
        while order < MAX_ORDER && is_set(&self.blocks, tree + (number ^ 1)) {
            self.mark(chunk, order, number ^ 1, false);
            number /= 2;
            order += 1;
        }
        self.mark(chunk, order, number, true);
    }

    /// The first chunk with a free block of exactly that order.
    fn first_chunk(&self, order: u8) -> Option<usize> {
        let order = usize::from(order);
        let word = first(row(&self.summary, order, self.summary_row)?, 0)?;
        first(row(&self.chunks, order, self.chunks_row)?, word * BITS)
    }

    /// The number of the chunk's first free block of exactly that order.
    fn first_block(&self, chunk: usize, order: u8) -> Option<usize> {
        let lowest = PAGES >> order;
        first(row(&self.blocks, chunk, TREE)?, lowest).filter(|&number| number < 2 * lowest)
    }

    /// Notes that a block is free, or is not any more.
    fn mark(&mut self, chunk: usize, order: u8, number: usize, is_free: bool) {
        put(&mut self.blocks, chunk * TREE * BITS + number, is_free);

        let has_any = self.first_block(chunk, order).is_some();
        let order = usize::from(order);
        put(
            &mut self.chunks,
            order * self.chunks_row * BITS + chunk,
            has_any,
        );

        let word = chunk / BITS;
        let has_any =
            (self.chunks.get(order * self.chunks_row + word)).is_some_and(|&word| word != 0);
        put(
            &mut self.summary,
            order * self.summary_row * BITS + word,
            has_any,
        );
    }
}
