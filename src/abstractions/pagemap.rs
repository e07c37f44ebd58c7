// SPDX-License-Identifier: GPL-2.0

//! Struct pages for device memory.
//!
//! C header: [`include/linux/memremap.h`](srctree/include/linux/memremap.h)

use super::pci::Region;
use core::ops::Range;
use kernel::{bindings, error::from_err_ptr, page::PAGE_SIZE, prelude::*, types::Opaque};

/// Boundary that `memremap_pages` wants a range to begin and end on: a memory subsection
/// (`memremap_compat_align`), in bytes.
pub(crate) const ALIGN: u64 = 2 << 20;

/// A pgmap: `MEMORY_DEVICE_GENERIC` pages for a part of a PCI device's BAR.
///
/// Dropping it waits for every folio that was made from its pages, takes the pages away and
/// releases the BAR.
///
/// # Invariants
///
/// `inner` is a pgmap of `pages` pages from page frame `first_pfn` on, which lie in `_region`, and
/// `memremap_pages` has succeeded for it.
#[pin_data(PinnedDrop)]
pub(crate) struct Pagemap {
    #[pin]
    inner: Opaque<bindings::dev_pagemap>,
    first_pfn: usize,
    pages: usize,
    // Dropped, and so released, after the pages are gone.
    _region: Region,
}

impl Pagemap {
    /// Makes pages for `range`, a range of offsets in `region` in bytes. `EINVAL` unless it lies
    /// in the region and begins and ends on multiples of [`ALIGN`] of physical address. May sleep.
    pub(crate) fn new(region: Region, range: Range<u64>) -> impl PinInit<Self, Error> {
        let bar = region.addresses();
        let node = region.node();
        let start = bar.start.wrapping_add(range.start);
        let end = bar.start.wrapping_add(range.end);

        try_pin_init!(Self {
            inner <- Opaque::try_ffi_init(move |slot: *mut bindings::dev_pagemap| {
                if start >= end || start < bar.start || end > bar.end || (start | end) % ALIGN != 0
                {
                    return Err(EINVAL);
                }
                // SAFETY: `slot` is valid for writes; zero is a valid value of all its fields; the
                // reference made of its union field does not outlive the block.
                unsafe {
                    slot.write_bytes(0, 1);
                    (*slot).type_ = bindings::memory_type_MEMORY_DEVICE_GENERIC;
                    (*slot).nr_range = 1;
                    *(*slot).__bindgen_anon_1.range.as_mut() = bindings::range {
                        start,
                        end: end - 1,
                    };
                }
                // SAFETY: `slot` is a pgmap of one range that the caller owns exclusively by its
                // `Region`. It is pinned, and stays valid until `memunmap_pages` in `drop`.
                from_err_ptr(unsafe { bindings::memremap_pages(slot, node) })?;
                Ok(())
            }),
            first_pfn: start as usize / PAGE_SIZE,
            pages: (end.wrapping_sub(start)) as usize / PAGE_SIZE,
            _region: region,
        }? Error)
    }

    /// Returns the C pgmap.
    pub(super) fn as_raw(&self) -> *mut bindings::dev_pagemap {
        self.inner.get()
    }

    /// Page frame number of the first page.
    pub(super) fn first_pfn(&self) -> usize {
        self.first_pfn
    }

    /// Number of pages.
    pub(crate) fn pages(&self) -> usize {
        self.pages
    }
}

#[pinned_drop]
impl PinnedDrop for Pagemap {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: By the type invariant `memremap_pages` has succeeded. The call waits for the
        // references that live folios hold on the pgmap.
        unsafe { bindings::memunmap_pages(self.inner.get()) };
    }
}

// SAFETY: A pgmap belongs to no thread.
unsafe impl Send for Pagemap {}
// SAFETY: Shared access only reads fields that do not change, and the percpu reference count.
unsafe impl Sync for Pagemap {}
