// SPDX-License-Identifier: GPL-2.0

//! Folios of device memory, and the reference that owns one.
//!
//! A folio of `MEMORY_DEVICE_GENERIC` pages tells nobody when it falls out of use. Its owner
//! therefore keeps one reference, the base reference, and asks: [`Folio::try_freeze`] succeeds
//! only if that reference is the only one, and then nobody can take another.
//!
//! ```text
//!   FolioPool::alloc ──► Folio (count >= 1) ──try_freeze──► FrozenFolio (count 0) ──drop──► pool
//!                          ▲                     │
//!                          └── somebody has it ──┘
//! ```
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/page_ref.h`](srctree/include/linux/page_ref.h)

use super::{folio_pool::OwnedBlock, pagemap::Pagemap, rcu::GracePeriod, task};
use crate::bindings as helpers;
use core::{mem::ManuallyDrop, ptr::NonNull};
use kernel::{bindings, page::PAGE_SIZE, prelude::*};

/// Order of a folio that one PMD entry maps.
pub(crate) const PMD_ORDER: u8 = helpers::HELPER_PMD_ORDER as u8;

/// What a folio's memory holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contents {
    /// What the device held before its first use.
    Foreign,
    /// The same, for a part: a [`Zeroing`] is under way, or ended when the memory had been taken
    /// from the mapping.
    BeingZeroed,
    /// Zeroes.
    Zero,
    /// What the present owner may have written.
    Owner,
}

/// Pages of a block while they are being taken from or given back to a pool: nobody has a
/// reference on any of them.
///
/// # Invariants
///
/// - `page` is the first of `1 << order` pages of one pgmap, aligned to that number; `_block` is
///   the buddy's block for them.
/// - `1 << order` references on the pgmap are held.
struct Pages {
    page: NonNull<bindings::page>,
    order: u8,
    contents: Contents,
    _block: OwnedBlock,
}

impl Pages {
    fn bytes(&self) -> usize {
        PAGE_SIZE << self.order
    }

    /// Overwrites everything with zeroes. May sleep.
    fn zero(&mut self) {
        // SAFETY: By the type invariant these are pages of a live pgmap.
        unsafe { helpers::helper_zero_pages(self.page.as_ptr(), self.bytes()) };
        self.contents = Contents::Zero;
        task::cond_resched();
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: By the type invariant that many references are held.
        unsafe { helpers::helper_zone_device_put_many(self.page.as_ptr(), 1 << self.order) };
    }
}

/// A folio whose base reference this holds.
///
/// # Invariants
///
/// `pages` have the shape of one folio, on which this holds one reference. Memory whose contents
/// are [`Contents::Foreign`] or [`Contents::BeingZeroed`] has been mapped by no process since it left
/// the pool. A folio has at most one [`Zeroing`], which nobody runs unless they are the latter.
pub(crate) struct Folio {
    pages: ManuallyDrop<Pages>,
}

/// Makes the pages one folio with a count of 1, on behalf of [`Folio::from_block`], and returns what
/// they hold: [`Contents::Foreign`] if one of them has never been in use. May sleep.
///
/// # Safety
///
/// As for [`Folio::from_block`].
unsafe fn make_folio(
    pagemap: &Pagemap,
    page: NonNull<bindings::page>,
    order: u8,
) -> Result<Contents> {
    let mut contents = Contents::Zero;
    for i in 0..1 << order {
        // SAFETY: By the safety requirements there are that many pages of a live pgmap. A page of
        // count 0 is nobody else's: its flags may be written.
        unsafe {
            let this = page.as_ptr().add(i);
            if helpers::helper_page_ref_count(this) != 0 {
                contents = Contents::Foreign;
                if !helpers::helper_page_ref_freeze(this, 1) {
                    // The pages before it have count 0, and so must be zero.
                    helpers::helper_zero_pages(page.as_ptr(), i * PAGE_SIZE);
                    return Err(EBUSY);
                }
            }
            // PG_reserved above all, which `memremap_pages` sets: users of GUP take it for a page
            // that they hold no reference on.
            helpers::helper_page_clear_flags(this);
        }
    }
    // SAFETY: The pages belong to `pagemap`, all have count 0, and by the safety requirements no
    // GUP-fast walker can still be looking at an older shape.
    unsafe {
        bindings::zone_device_page_init(page.as_ptr(), pagemap.as_raw(), u32::from(order));
        let folio = helpers::helper_page_folio(page.as_ptr());
        if order > 0 {
            helpers::helper_folio_set_large_rmappable(folio);
        }
        bindings::folio_unlock(folio);
    }
    Ok(contents)
}

impl Folio {
    /// Makes a folio of pages that have been taken from a pool. `EBUSY` if somebody holds a
    /// reference on one of them. May sleep.
    ///
    /// # Safety
    ///
    /// - `page` must be the first of `1 << order` pages of `pagemap`, aligned to that number, and
    ///   `block` the buddy's block for exactly these.
    /// - Each page's count must be 0 and its memory zero, or 1, and the page never have been in
    ///   use since `pagemap` was made.
    /// - A grace period must have passed since a process last had any of them mapped.
    pub(super) unsafe fn from_block(
        pagemap: &Pagemap,
        page: NonNull<bindings::page>,
        order: u8,
        mut block: OwnedBlock,
    ) -> Result<Self> {
        let contents = if block.is_folio() {
            // SAFETY: `pagemap` is live, so the references are to be had.
            if !unsafe { helpers::helper_pgmap_tryget_many(pagemap.as_raw(), 1 << order) } {
                return Err(ENODEV);
            }
            // SAFETY: The pages are a folio of this order. All have been in use, so that by the
            // safety requirements the count is 0.
            unsafe { helpers::helper_page_ref_unfreeze(page.as_ptr(), 1) };
            Contents::Zero
        } else {
            // SAFETY: As required of the caller.
            let contents = unsafe { make_folio(pagemap, page, order) }?;
            // SAFETY: That has just been done.
            unsafe { block.set_folio() };
            contents
        };

        // INVARIANT: The pages form a folio of count 1, and either branch took a reference on the
        // pgmap for each of them. Pages that were in the pool are not mapped.
        Ok(Self {
            pages: ManuallyDrop::new(Pages {
                page,
                order,
                contents,
                _block: block,
            }),
        })
    }

    /// The folio has `1 << order` pages.
    pub(crate) fn order(&self) -> u8 {
        self.pages.order
    }

    /// Number of pages.
    pub(crate) fn nr_pages(&self) -> usize {
        1 << self.pages.order
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.bytes()
    }

    /// Whether a process may see the memory, and if not, why.
    pub(crate) fn readiness(&mut self) -> Readiness {
        match self.pages.contents {
            Contents::Zero | Contents::Owner => Readiness::Ready,
            Contents::BeingZeroed => Readiness::BeingZeroed,
            Contents::Foreign => {
                self.pages.contents = Contents::BeingZeroed;
                // SAFETY: By the type invariant the count is not 0.
                unsafe { helpers::helper_get_page(self.pages.page.as_ptr()) };
                // INVARIANT: The reference has just been taken; there was no other, or the contents
                // would be different.
                Readiness::Foreign(Zeroing {
                    page: self.pages.page,
                    bytes: self.pages.bytes(),
                })
            }
        }
    }

    /// Returns the first page for a process to see, if it may.
    pub(super) fn expose(&mut self) -> Option<NonNull<bindings::page>> {
        match self.pages.contents {
            Contents::Zero | Contents::Owner => {
                self.pages.contents = Contents::Owner;
                Some(self.pages.page)
            }
            Contents::Foreign | Contents::BeingZeroed => None,
        }
    }

    /// Takes the folio out of use if the base reference is the only one; gives it back otherwise:
    /// somebody has it mapped or pinned, zeroes it for a first use, or looks at it in passing. Any
    /// context.
    ///
    /// `unmapped` must have been started after the last process unmapped the folio.
    pub(crate) fn try_freeze(mut self, unmapped: GracePeriod) -> Result<FrozenFolio, Self> {
        let page = self.pages.page.as_ptr();
        // SAFETY: By the type invariant `page` is the head of a folio on which this holds a
        // reference. The count is read first since a failed exchange costs a write.
        let frozen = unsafe {
            helpers::helper_page_ref_count(page) == 1 && helpers::helper_page_ref_freeze(page, 1)
        };
        if !frozen && !cfg!(p2pmem_break = "freeze") {
            return Err(self);
        }
        // SAFETY: The count is 0: nobody else writes the flags. Whoever last used the folio may
        // have left it dirty or referenced, which must not show in its next use. (User space can
        // see the first in smaps; the second only behind the accessed bit, which every new entry
        // has.)
        unsafe { helpers::helper_folio_clear_flags(helpers::helper_page_folio(page)) };

        // SAFETY: `self` is forgotten below, so `pages` is not used again.
        let pages = unsafe { ManuallyDrop::take(&mut self.pages) };
        core::mem::forget(self);
        // INVARIANT: The count has just been frozen at 0.
        Ok(FrozenFolio { pages, unmapped })
    }
}

impl Drop for Folio {
    fn drop(&mut self) {
        let exposed = self.pages.contents == Contents::Owner;
        let page = self.pages.page.as_ptr();
        // SAFETY: By the type invariant this holds a reference on the folio.
        if exposed || !unsafe { helpers::helper_page_ref_freeze(page, 1) } {
            // Freeing memory that may be in use is not an option; losing it is.
            pr_err!("a folio in use was dropped; its memory is lost until the next boot\n");
            return;
        }
        // Nor is there a `Zeroing`, which would have a reference.
        if self.pages.contents != Contents::Zero {
            self.pages.zero();
        }
        // SAFETY: The count is 0 and `pages` is not used again.
        unsafe { ManuallyDrop::drop(&mut self.pages) };
    }
}

// SAFETY: A folio and its block belong to no thread; the buddy is locked when the block is freed.
unsafe impl Send for Folio {}
// SAFETY: Through a shared reference only fields that do not change can be read.
unsafe impl Sync for Folio {}

/// Whether a process may see a folio's memory.
pub(crate) enum Readiness {
    /// It may.
    Ready,
    /// Not what the device held before: this is to be done first.
    Foreign(Zeroing),
    /// That is being done.
    BeingZeroed,
}

/// What has to be done to a folio before its first use. Its contents stay
/// [`Readiness::BeingZeroed`] until [`Zeroed::note`].
///
/// It is a reference on the folio, which therefore does not fall out of use meanwhile.
///
/// # Invariants
///
/// `page` is the first of a folio of `bytes`, on which this holds a reference. No process has it
/// mapped, and nobody else writes to it.
pub(crate) struct Zeroing {
    page: NonNull<bindings::page>,
    bytes: usize,
}

/// A [`Zeroing`] that is over.
pub(crate) struct Zeroed(Zeroing);

impl Zeroing {
    /// Overwrites everything with zeroes. May sleep.
    pub(crate) fn run(self) -> Zeroed {
        // SAFETY: By the type invariant these are pages of a live pgmap that nobody else uses.
        unsafe { helpers::helper_zero_pages(self.page.as_ptr(), self.bytes) };
        task::cond_resched();
        Zeroed(self)
    }
}

impl Zeroed {
    /// Notes in `folio`, if it is the one, that a process may see it. Any context.
    pub(crate) fn note(self, folio: &mut Folio) {
        if folio.pages.page == self.0.page {
            folio.pages.contents = Contents::Zero;
        }
    }
}

impl Drop for Zeroing {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this holds a reference. It is not the last: the base
        // reference goes only when it is the only one.
        unsafe { helpers::helper_put_page(self.page.as_ptr()) };
    }
}

// SAFETY: References on pages belong to no thread.
unsafe impl Send for Zeroing {}

/// A folio that is out of use. Dropping it zeroes what an owner wrote and gives the memory back to
/// the pool; may sleep.
///
/// # Invariants
///
/// The folio's count is 0.
pub(crate) struct FrozenFolio {
    pages: Pages,
    unmapped: GracePeriod,
}

impl FrozenFolio {
    /// Size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.pages.bytes()
    }

    /// Zeroes what an owner wrote. May sleep.
    pub(crate) fn zero(&mut self) {
        if self.pages.contents != Contents::Zero && !cfg!(p2pmem_break = "zeroing") {
            self.pages.zero();
        }
    }

    /// Whether dropping it has to wait for a grace period.
    pub(crate) fn has_to_wait(&self) -> bool {
        !self.unmapped.is_over()
    }
}

impl Drop for FrozenFolio {
    fn drop(&mut self) {
        self.zero();
        // A GUP-fast walker with a stale entry reads the folio's shape before it tries for a
        // reference. It fails at the count of 0, but it must be gone before the pages get another
        // shape. (The selftests race with such walkers, but cannot stop one between two of its
        // instructions: they would seldom see it if this wait were missing.)
        self.unmapped.wait();
    }
}

// SAFETY: As for `Folio`.
unsafe impl Send for FrozenFolio {}
// SAFETY: As for `Folio`.
unsafe impl Sync for FrozenFolio {}
