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
    folio::{Folio, Shape, PMD_ORDER},
    pagemap::Pagemap,
};
use crate::bindings as helpers;
use core::{pin::Pin, ptr::NonNull};
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc, Mutex,
    },
};

const _: () = assert!(buddy::MAX_ORDER == PMD_ORDER);

/// What the pages of a [`FolioPool`] are taken from.
type SharedBuddy = Arc<Mutex<Buddy<KVVec<u64>>>>;

/// A block that is given back to its buddy on drop, which may sleep.
///
/// # Invariants
///
/// `block` was taken from `buddy`, which stays alive with it.
pub(super) struct OwnedBlock {
    buddy: SharedBuddy,
    // None only while it is being dropped.
    block: Option<Block>,
}

impl Drop for OwnedBlock {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.buddy.lock().free(block);
        }
    }
}

/// The pool.
///
/// # Invariants
///
/// `whole[i]` is true only if the 2 MiB of pages from page `512 * i` on form one folio, in use or
/// not, and no smaller folio has been made of them since.
pub(crate) struct FolioPool {
    // Blocks that live longer than the pool keep it alive, not the pages.
    buddy: SharedBuddy,
    whole: KVVec<Atomic<bool>>,
    pagemap: Pin<KBox<Pagemap>>,
}

impl FolioPool {
    /// Makes a pool of all pages of `pagemap`. May sleep.
    pub(crate) fn new(pagemap: Pin<KBox<Pagemap>>) -> Result<Arc<Self>> {
        let chunks = pagemap.pages() >> PMD_ORDER;
        let mut whole = KVVec::with_capacity(chunks, GFP_KERNEL)?;
        for _ in 0..chunks {
            whole.push(Atomic::new(false), GFP_KERNEL)?;
        }
        let zeroes = |len| KVVec::from_elem(0, len, GFP_KERNEL);
        let buddy = Buddy::new(chunks.try_into()?, zeroes)?;
        let buddy = Arc::pin_init(new_mutex!(buddy, "FolioPool::buddy"), GFP_KERNEL)?;
        Ok(Arc::new(
            Self {
                buddy,
                whole,
                pagemap,
            },
            GFP_KERNEL,
        )?)
    }

    /// Takes a folio of `1 << order` pages. `ENOSPC` if no block of that order is free. May sleep.
    pub(crate) fn alloc(&self, order: u8) -> Result<Folio> {
        let block = self.buddy.lock().alloc(order).ok_or(ENOSPC)?;
        let first = block.page();
        // INVARIANT: It has just been taken from there.
        let block = OwnedBlock {
            buddy: self.buddy.clone(),
            block: Some(block),
        };

        let whole = self.whole.get(first >> PMD_ORDER).ok_or(EINVAL)?;
        let fits = order == PMD_ORDER && whole.load(Relaxed);
        if !fits {
            // A block smaller than 2 MiB ends the larger folio even where its own pages do not show
            // it. If two tasks make smaller folios of the same 2 MiB, both store the same value,
            // and the buddy's lock orders them before whoever gets the 2 MiB in one piece.
            whole.store(false, Relaxed);
        }

        let pfn = self.pagemap.first_pfn() + first;
        // SAFETY: The buddy manages exactly the pages of `pagemap`.
        let page = NonNull::new(unsafe { helpers::helper_pfn_to_page(pfn) }).ok_or(EINVAL)?;
        let shape = if fits { Shape::Fits } else { Shape::Unknown };
        // SAFETY: The buddy has given this block to nobody else, and aligns it to its size. Its
        // pages are as the invariant of the pool says. `Fits` by the invariant of `whole`: the
        // block was allocated in one piece before and has come back frozen.
        let folio = unsafe { Folio::from_block(&self.pagemap, page, order, shape, block) }?;
        // INVARIANT: The pages have this shape now.
        whole.store(order == PMD_ORDER, Relaxed);
        Ok(folio)
    }
}
