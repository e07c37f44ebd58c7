// SPDX-License-Identifier: GPL-2.0

//! A page fault on a file mapping, and entries that answer it.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/huge_mm.h`](srctree/include/linux/huge_mm.h)

#[cfg(doc)]
use super::folio::Readiness;
use super::folio::{Folio, PMD_ORDER};
use crate::bindings as helpers;
use core::{marker::PhantomData, ops::Range, ptr::NonNull};
use kernel::{
    bindings,
    page::{PAGE_SHIFT, PAGE_SIZE},
};

/// Number of entries in a table of any level.
const PTRS_PER_TABLE: usize = 1 << PMD_ORDER;

/// Pages for which entries are made with one call. More would save little: see `insert_pages`,
/// mm/memory.c.
const BATCH: usize = 32;

/// How a fault has been dealt with (`vm_fault_t`).
#[derive(PartialEq)]
pub(crate) struct Outcome(pub(super) bindings::vm_fault_t);

impl Outcome {
    /// There is an entry now.
    pub(crate) const DONE: Self = Self(helpers::HELPER_VM_FAULT_NOPAGE);
    /// There is no memory behind this address (any more).
    pub(crate) const SIGBUS: Self = Self(helpers::HELPER_VM_FAULT_SIGBUS);
    /// No entry of this size; try smaller ones.
    pub(crate) const FALLBACK: Self = Self(helpers::HELPER_VM_FAULT_FALLBACK);
}

/// A fault in progress. The mmap lock or the VMA's lock is held for reading.
///
/// # Invariants
///
/// `vmf` is the argument of a `fault` or `huge_fault` callback that is running.
pub(crate) struct Fault<'a> {
    vmf: NonNull<bindings::vm_fault>,
    _callback: PhantomData<&'a mut bindings::vm_fault>,
}

impl Fault<'_> {
    /// # Safety
    ///
    /// `vmf` must be the argument of a `fault` or `huge_fault` callback that outlives `Self`.
    pub(super) unsafe fn from_raw(vmf: NonNull<bindings::vm_fault>) -> Self {
        // INVARIANT: By the safety requirements.
        Self {
            vmf,
            _callback: PhantomData,
        }
    }

    fn vmf(&self) -> &bindings::vm_fault {
        // SAFETY: By the type invariant.
        unsafe { self.vmf.as_ref() }
    }

    /// Offset in the file of the page that was touched, in pages.
    pub(crate) fn page_offset(&self) -> usize {
        self.vmf().__bindgen_anon_1.pgoff
    }

    /// Address of the page that was touched.
    pub(crate) fn address(&self) -> usize {
        self.vmf().__bindgen_anon_1.address
    }

    /// Addresses of the VMA.
    pub(crate) fn vma(&self) -> Range<usize> {
        // SAFETY: The VMA is valid and cannot change while the fault is handled.
        unsafe {
            let vma = &*self.vmf().__bindgen_anon_1.vma;
            vma.__bindgen_anon_1.__bindgen_anon_1.vm_start
                ..vma.__bindgen_anon_1.__bindgen_anon_1.vm_end
        }
    }

    fn is_write(&self) -> bool {
        self.vmf().flags & helpers::HELPER_FAULT_FLAG_WRITE != 0
    }

    /// Whether there is a 2 MiB entry where a 4 KiB one would go.
    pub(crate) fn is_huge(&self) -> bool {
        // SAFETY: The fault path has set `pmd` before it called back.
        unsafe { helpers::helper_pmd_trans_huge(self.vmf().pmd) }
    }

    /// Answers with an entry for page `index` of `folio`, which must be [`Readiness::Ready`], at the
    /// address touched. May sleep.
    ///
    /// Calls of this and of the other functions that insert must be serialised for a file: the table
    /// may not change its level underneath.
    pub(crate) fn insert_page(&mut self, folio: &mut Folio, index: usize) -> Outcome {
        if index >= folio.nr_pages() {
            return Outcome::SIGBUS;
        }
        // A 2 MiB entry that another fault has put there meanwhile serves this one as well.
        if self.is_huge() {
            return Outcome::DONE;
        }
        let Some(first) = folio.expose() else {
            return Outcome::SIGBUS;
        };
        // Not made writable and dirty by the call, even if this is a write: that is what the VMA's
        // protection says, or else, for soft-dirty, another fault has to find out.
        //
        // SAFETY: `index` is within the folio, on which a reference is held. The VMA takes
        // ordinary pages in its callbacks.
        Outcome(unsafe {
            bindings::vmf_insert_page_mkwrite(self.vmf.as_ptr(), first.as_ptr().add(index), false)
        })
    }

    /// Offsets in the file, in pages, of what the VMA maps through the same table of 4 KiB entries as
    /// the address touched.
    pub(crate) fn around(&self) -> Range<usize> {
        let size = PAGE_SIZE << PMD_ORDER;
        let vma = self.vma();
        let start = (self.address() & !(size - 1)).max(vma.start);
        let end = ((self.address() | (size - 1)) + 1).min(vma.end);
        let first = self.page_offset() - ((self.address() - start) >> PAGE_SHIFT);
        first..first + ((end - start) >> PAGE_SHIFT)
    }

    /// Adds entries for the pages of `folio` from `index` on, the first where page `offsets.start`
    /// of the file is mapped, unless there are entries already or the folio is not ready.
    /// `offsets` must be within [`Self::around`], and [`Self::insert_page`] have answered in the
    /// same critical section. May sleep.
    pub(crate) fn insert_around(&mut self, offsets: Range<usize>, folio: &mut Folio, index: usize) {
        let around = self.around();
        let last = index.saturating_add(offsets.len());
        if offsets.start < around.start
            || offsets.end > around.end
            || last > folio.nr_pages()
            || self.is_huge()
        {
            return;
        }
        let Some(first) = folio.expose() else {
            return;
        };
        let distance = (offsets.start as isize - self.page_offset() as isize) << PAGE_SHIFT;
        let address = self.address().wrapping_add_signed(distance);
        for start in (0..offsets.len()).step_by(BATCH) {
            let len = BATCH.min(offsets.len() - start);
            // SAFETY: `index + offsets.len()` is not beyond the folio.
            let page = unsafe { first.as_ptr().add(index + start) };
            // SAFETY: A reference is held on the folio. By the checks above all of `offsets` is in
            // the VMA, and no huge entry is there.
            unsafe { self.insert_batch(address + (start << PAGE_SHIFT), page, len) };
        }
    }

    /// Adds entries for `len` pages, at most [`BATCH`], from `address` on. Where there is none when
    /// it returns, a fault will see to that.
    ///
    /// # Safety
    ///
    /// - From `first` on there must be that many pages of a folio on which a reference is held.
    /// - The addresses of all of them must be in the VMA, and none have a huge entry.
    unsafe fn insert_batch(&mut self, address: usize, first: *mut bindings::page, len: usize) {
        let mut pages: [_; BATCH] = core::array::from_fn(|i| first.wrapping_add(i));
        let mut action = bindings::mmap_action::default();
        action.__bindgen_anon_1.map_kernel.start = address;
        action.__bindgen_anon_1.map_kernel.pages = pages.as_mut_ptr();
        action.__bindgen_anon_1.map_kernel.nr_pages = len.min(BATCH);
        // Takes the table's lock once for eight pages. That is `vm_insert_pages` without
        // VM_MIXEDMAP, which the VMA could not get in a fault and must not have.
        //
        // SAFETY: By the safety requirements, and `pages` has that many.
        let err = unsafe {
            bindings::map_kernel_pages_complete(
                (*self.vmf.as_ptr()).__bindgen_anon_1.vma,
                &raw mut action,
            )
        };
        if err == 0 {
            return;
        }
        // It has stopped, most likely at an entry that was there.
        //
        // SAFETY: A structure of plain data.
        let mut vmf = unsafe { self.vmf.as_ptr().read() };
        for (i, &page) in pages.iter().take(len).enumerate() {
            vmf.__bindgen_anon_1.address = address + (i << PAGE_SHIFT);
            // SAFETY: By the safety requirements. Of `vmf` the call uses nothing but the VMA and the
            // address.
            unsafe { bindings::vmf_insert_page_mkwrite(&raw mut vmf, page, false) };
        }
    }

    /// Answers with one 2 MiB entry for `folio`, which must be [`Readiness::Ready`] and whose first
    /// page lies at `folio_offset` in the file, or [`Outcome::FALLBACK`] if address, VMA, order or the
    /// page table do not allow one. May sleep. Serialised as [`Self::insert_page`] says.
    pub(crate) fn insert_huge(&mut self, folio: &mut Folio, folio_offset: usize) -> Outcome {
        let size = PAGE_SIZE << PMD_ORDER;
        let start = self.address() & !(size - 1);
        let vma = self.vma();
        let before = (self.address() - start) >> PAGE_SHIFT;

        if folio.order() != PMD_ORDER
            || self.page_offset() != folio_offset + before
            || start < vma.start
            || start + size > vma.end
        {
            return Outcome::FALLBACK;
        }
        // SAFETY: As in `is_huge`.
        let none = unsafe { helpers::helper_pmd_none(self.vmf().pmd) };
        // A table of 4 KiB entries is there: only they can answer now.
        if !none && !self.is_huge() {
            return Outcome::FALLBACK;
        }
        let Some(page) = folio.expose() else {
            return Outcome::SIGBUS;
        };
        // SAFETY: `page` is the head of a folio of order `PMD_ORDER`, on which a reference is
        // held; the entry is empty or maps this very folio.
        unsafe {
            let folio = helpers::helper_page_folio(page.as_ptr());
            Outcome(bindings::vmf_insert_folio_pmd(
                self.vmf.as_ptr(),
                folio,
                self.is_write(),
            ))
        }
    }

    /// Adds a 2 MiB entry for `folio`, whose first page lies at `folio_offset` in the file, at an
    /// address after the one touched. [`Self::insert_huge`] must have answered in the same critical
    /// section. Returns whether it did: not beyond the VMA or the table of 2 MiB entries, not where
    /// there is an entry or a table of smaller ones, nor of a folio that is not ready. May sleep.
    pub(crate) fn insert_huge_after(&mut self, folio: &mut Folio, folio_offset: usize) -> bool {
        let size = PAGE_SIZE << PMD_ORDER;
        let touched = self.address() & !(size - 1);
        let distance = (folio_offset.wrapping_sub(self.page_offset()) << PAGE_SHIFT)
            .wrapping_add(self.address() - touched);
        let address = touched.wrapping_add(distance);
        let table = size * PTRS_PER_TABLE;
        if folio.order() != PMD_ORDER
            || address <= touched
            || address % size != 0
            || address / table != touched / table
            || address + size > self.vma().end
        {
            return false;
        }
        // SAFETY: A structure of plain data.
        let mut vmf = unsafe { self.vmf.as_ptr().read() };
        vmf.__bindgen_anon_1.address = address;
        // SAFETY: `pmd` is the entry for `touched`, and that for `address` is in the same table,
        // which nobody frees as long as the VMA is there.
        unsafe {
            vmf.pmd = vmf.pmd.add(distance / size);
            if !helpers::helper_pmd_none(vmf.pmd) {
                return false;
            }
        }
        let Some(page) = folio.expose() else {
            return false;
        };
        // SAFETY: As in `insert_huge`. If another fault has put something there meanwhile, the call
        // leaves it. Of `vmf` it uses VMA, address and `pmd`.
        unsafe {
            let folio = helpers::helper_page_folio(page.as_ptr());
            bindings::vmf_insert_folio_pmd(&raw mut vmf, folio, false);
        }
        true
    }
}
