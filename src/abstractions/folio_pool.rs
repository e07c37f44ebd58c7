// SPDX-License-Identifier: GPL-2.0

//! A pool of folios of different orders over one pgmap.
//!
//! The buddy ([`Buddy`]) says which pages are free. It counts from the pgmap's first page, which is
//! aligned to 2 MiB ([`ALIGN`]), so that a block is aligned to its own size in physical memory too,
//! as a folio has to be.
//!
//! # Invariant of the pool
//!
//! A page in the buddy has a count of 0 and zeroed memory, or has never been handed out and has
//! the count of 1 that `memremap_pages` gave it. A grace period has passed since it was last
//! mapped. ([`Folio`] and [`FrozenFolio`] give blocks back in no other state.)
//!
//! [`ALIGN`]: super::pagemap::ALIGN
//! [`FrozenFolio`]: super::folio::FrozenFolio

use super::{
    buddy::{self, Block, Buddy},
    folio::{Folio, PMD_ORDER},
    pagemap::Pagemap,
    shapes::Shapes,
};
use crate::bindings as helpers;
use core::{pin::Pin, ptr::NonNull};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{Arc, Mutex},
};

const _: () = assert!(buddy::MAX_ORDER == PMD_ORDER);

/// The blocks of a pool's pages.
///
/// # Invariants
///
/// A block that is a folio by `shapes` has been made one by [`Folio::from_block`], and nobody has
/// made another of any of its pages since.
struct Blocks {
    buddy: Buddy<KVVec<u64>>,
    shapes: Shapes<KVVec<u64>>,
}

/// What folios are made of: a block that is given back on drop, which may sleep.
///
/// # Invariants
///
/// - `block` was taken from `pool`, which stays alive with it.
/// - If `is_folio`, its pages form one folio of its order. If not, [`Blocks::shapes`] says so of all
///   blocks that have a page in common with it.
pub(super) struct OwnedBlock {
    pool: Arc<Mutex<Blocks>>,
    // None only while it is being dropped.
    block: Option<Block>,
    is_folio: bool,
}

impl OwnedBlock {
    /// Whether its pages, all of which have been in use before then, form one folio.
    pub(super) fn is_folio(&self) -> bool {
        self.is_folio
    }

    /// Notes that they have been made one.
    ///
    /// # Safety
    ///
    /// They must have been, by the owner of this block.
    pub(super) unsafe fn set_folio(&mut self) {
        // INVARIANT: By the safety requirements.
        self.is_folio = true;
    }
}

impl Drop for OwnedBlock {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            let mut pool = self.pool.lock();
            if self.is_folio {
                // INVARIANT: Nobody else has had any of its pages since they were made one.
                pool.shapes.note(&block);
            }
            pool.buddy.free(block);
        }
    }
}

/// The pool.
pub(crate) struct FolioPool {
    // Folios that live longer than the pool keep it alive, not the pages.
    blocks: Arc<Mutex<Blocks>>,
    pagemap: Pin<KBox<Pagemap>>,
}

impl FolioPool {
    /// Makes a pool of all pages of `pagemap`. May sleep.
    pub(crate) fn new(pagemap: Pin<KBox<Pagemap>>) -> Result<Arc<Self>> {
        let chunks = (pagemap.pages() >> PMD_ORDER).try_into()?;
        let zeroes = |len| KVVec::from_elem(0, len, GFP_KERNEL);
        // INVARIANT: No block is a folio yet.
        let blocks = Blocks {
            buddy: Buddy::new(chunks, zeroes)?,
            shapes: Shapes::new(chunks, zeroes)?,
        };
        let blocks = Arc::pin_init(new_mutex!(blocks, "FolioPool::blocks"), GFP_KERNEL)?;
        Ok(Arc::new(Self { blocks, pagemap }, GFP_KERNEL)?)
    }

    /// Takes a folio of `1 << order` pages. `ENOSPC` if no block of that order is free. May sleep.
    pub(crate) fn alloc(&self, order: u8) -> Result<Folio> {
        let (block, is_folio) = {
            let mut blocks = self.blocks.lock();
            let block = blocks.buddy.alloc(order).ok_or(ENOSPC)?;
            let is_folio = blocks.shapes.claim(&block);
            (block, is_folio)
        };
        let pfn = self.pagemap.first_pfn() + block.page();
        // INVARIANT: The block has just been taken from there, and is a folio by the invariant of
        // `Blocks`.
        let block = OwnedBlock {
            pool: self.blocks.clone(),
            block: Some(block),
            is_folio,
        };
        // SAFETY: The buddy manages exactly the pages of `pagemap`.
        let page = NonNull::new(unsafe { helpers::helper_pfn_to_page(pfn) }).ok_or(EINVAL)?;
        // SAFETY: The buddy has given this block to nobody else, and aligns it to its size. Its
        // pages are as the invariant of the pool says.
        unsafe { Folio::from_block(&self.pagemap, page, order, block) }
    }
}
