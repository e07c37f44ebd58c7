// SPDX-License-Identifier: GPL-2.0

//! Arithmetic of addresses, orders and extents.
//!
//! Pure: needs nothing but `core`, so that the host's tests compile this very file.

use core::ops::Range;

/// Largest order of a block: 2 MiB, what one PMD entry maps.
pub(crate) const MAX_ORDER: u8 = 9;

/// Size of a block of [`MAX_ORDER`] in bytes, and what a donated extent begins and ends on.
pub(crate) const CHUNK: u64 = 4096 << MAX_ORDER;

/// Pages of such a chunk.
const CHUNK_PAGES: usize = 1 << MAX_ORDER;

/// Orders of the blocks that suit a mapping.
///
/// A block's order is the largest whose alignment the address has, so that every whole aligned
/// 2 MiB of the mapping is one block, wherever the mapping begins.
///
/// A mapping of so many whole chunks that begins within 2 MiB ends within 2 MiB, and what it has of
/// the first and of the last make one chunk together. That is one block too: the last, from which
/// the mapping goes on at its beginning. So memory of such a size has no small blocks, which cost
/// time wherever it is pinned, and none that are left when it is freed.
///
/// ```text
///   2 MiB of address:  |           |           |           |           |
///   mapping:                   |CCC|AAAAAAAAAAA|BBBBBBBBBBB|CCCCCCC|
///   blocks:                        |     A     |     B     |     C     |
/// ```
///
/// Yields pairs of the block's offset in the mapping in pages, and its order.
pub(crate) struct Layout {
    first: usize,
    offset: usize,
    end: usize,
}

impl Layout {
    /// The layout of `pages` pages from page number `first` (address divided by the page size) on.
    pub(crate) fn new(first: usize, pages: usize) -> Self {
        let offset = match pages % CHUNK_PAGES {
            0 => first.wrapping_neg() % CHUNK_PAGES,
            _ => 0,
        };
        Self {
            first,
            offset,
            end: offset + pages,
        }
    }
}

impl Iterator for Layout {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.end.checked_sub(self.offset)?.checked_ilog2()?;
        let aligned = self.first.wrapping_add(self.offset).trailing_zeros();
        let order = left.min(aligned).min(u32::from(MAX_ORDER)) as u8;
        let item = (self.offset, order);
        self.offset += 1 << order;
        Some(item)
    }
}

/// Where page `offset` of a mapping is: the number of its block, and of the page in that.
///
/// `blocks` are those of a [`Layout`] or, where memory is fragmented, pieces of them; `start` and
/// `pages` tell a block's offset and size, in pages.
pub(crate) fn locate<B>(
    blocks: &[B],
    start: impl Fn(&B) -> usize,
    pages: impl Fn(&B) -> usize,
    offset: usize,
) -> Option<(usize, usize)> {
    let (first, last) = (blocks.first()?, blocks.last()?);
    // What is before the first block is where the blocks end.
    let len = start(last) + pages(last) - start(first);
    let offset = offset + if offset < start(first) { len } else { 0 };
    let number = blocks
        .partition_point(|block| start(block) <= offset)
        .checked_sub(1)?;
    let block = blocks.get(number)?;
    let page = offset - start(block);
    (page < pages(block)).then_some((number, page))
}

/// Why an extent of a BAR cannot be donated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Misfit {
    /// The BAR has room for a chunk but does not begin on a multiple of [`CHUNK`].
    Unaligned,
    /// Not a single whole chunk is in the extent.
    TooSmall,
}

/// The whole chunks in an extent of a BAR.
///
/// `bar` are the BAR's addresses; the extent is given by its offset in it and its size, and is cut
/// where it goes beyond the BAR. Returns offsets in the BAR that begin and end on a multiple of
/// [`CHUNK`] of address.
pub(crate) fn whole_chunks(bar: Range<u64>, offset: u64, size: u64) -> Result<Range<u64>, Misfit> {
    let chunks = || {
        let start = bar.start.checked_add(offset)?;
        let end = start.saturating_add(size).min(bar.end);
        let start = start.checked_next_multiple_of(CHUNK)?;
        let end = end - end % CHUNK;
        (start < end).then(|| start - bar.start..end - bar.start)
    };
    if bar.start % CHUNK != 0 && bar.end.saturating_sub(bar.start) >= CHUNK {
        return Err(Misfit::Unaligned);
    }
    chunks().ok_or(Misfit::TooSmall)
}
