// SPDX-License-Identifier: GPL-2.0

//! A pool of folios of different orders over one pgmap.
//!
//! The buddy says which pages are free. It counts from the pgmap's first page, which is aligned to
//! 2 MiB ([`pagemap::ALIGN`]), so that up to [`PMD_ORDER`] a block is aligned to its own size in
//! physical memory too, as a folio has to be.
//!
//! # Invariant of the pool
//!
//! A page in the buddy has a count of 0 and zeroed memory, or has never been handed out and has
//! the count of 1 that `memremap_pages` gave it. A grace period has passed since it was last
//! mapped. ([`Folio`] and [`FrozenFolio`] give blocks back in no other state.)
//!
//! [`FrozenFolio`]: super::folio::FrozenFolio

use super::{
    folio::{Folio, Shape, PMD_ORDER},
    pagemap::{self, Pagemap},
};
use crate::bindings as helpers;
use core::{pin::Pin, ptr::NonNull};
use kernel::{
    gpu::buddy::{GpuBuddy, GpuBuddyAllocFlags, GpuBuddyAllocMode, GpuBuddyParams},
    page::PAGE_SIZE,
    prelude::*,
    ptr::Alignment,
    sync::{
        atomic::{Atomic, Relaxed},
        Arc,
    },
};

/// The pool.
///
/// # Invariants
///
/// `whole[i]` is true only if the 2 MiB of pages from page `512 * i` on form one folio, in use or
/// not, and no smaller folio has been made of them since.
pub(crate) struct FolioPool {
    // The buddy first: blocks that live longer than the pool keep it alive, not the pages.
    buddy: GpuBuddy,
    whole: KVVec<Atomic<bool>>,
    pagemap: Pin<KBox<Pagemap>>,
}

impl FolioPool {
    /// Makes a pool of all pages of `pagemap`. May sleep.
    pub(crate) fn new(pagemap: Pin<KBox<Pagemap>>) -> Result<Arc<Self>> {
        let bytes = pagemap.pages() * PAGE_SIZE;
        let chunks = bytes / pagemap::ALIGN as usize;
        let mut whole = KVVec::with_capacity(chunks, GFP_KERNEL)?;
        for _ in 0..chunks {
            whole.push(Atomic::new(false), GFP_KERNEL)?;
        }
        let buddy = GpuBuddy::new(GpuBuddyParams {
            base_offset: 0,
            size: bytes as u64,
            chunk_size: Alignment::new::<PAGE_SIZE>(),
        })?;
        Ok(Arc::new(
            Self {
                buddy,
                whole,
                pagemap,
            },
            GFP_KERNEL,
        )?)
    }

    /// Takes a folio of `1 << order` pages, `order` at most [`PMD_ORDER`]. `ENOSPC` if no block of
    /// that order is free. May sleep.
    pub(crate) fn alloc(&self, order: u8) -> Result<Folio> {
        let bytes = PAGE_SIZE << order;
        let align = Alignment::new_checked(bytes).ok_or(EINVAL)?;
        if order > PMD_ORDER {
            return Err(EINVAL);
        }
        let block = KBox::pin_init(
            self.buddy.alloc_blocks(
                GpuBuddyAllocMode::Simple,
                bytes as u64,
                align,
                GpuBuddyAllocFlags::default(),
            ),
            GFP_KERNEL,
        )?;
        let offset = block.iter().next().ok_or(ENOSPC)?.offset() as usize;

        let whole = self
            .whole
            .get(offset / pagemap::ALIGN as usize)
            .ok_or(EINVAL)?;
        let fits = order == PMD_ORDER && whole.load(Relaxed);
        if !fits {
            // A block smaller than 2 MiB ends the larger folio even where its own pages do not show
            // it. If two tasks make smaller folios of the same 2 MiB, both store the same value,
            // and the buddy's lock orders them before whoever gets the 2 MiB in one piece.
            whole.store(false, Relaxed);
        }

        let pfn = self.pagemap.first_pfn() + offset / PAGE_SIZE;
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
