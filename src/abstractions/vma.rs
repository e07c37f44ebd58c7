// SPDX-License-Identifier: GPL-2.0

//! What `kernel::mm::virt` does not tell of a VMA.
//!
//! C header: [`include/linux/mm.h`](srctree/include/linux/mm.h)

use crate::bindings as helpers;
use kernel::mm::virt::VmaRef;

/// Additions to [`VmaRef`].
pub(crate) trait VmaExt {
    /// Whether the mapping was asked for with `MAP_SHARED`. (`VM_SHARED` is not set for one of a
    /// file that was opened read-only.)
    fn may_share(&self) -> bool;

    /// Offset of the mapping in its file, in pages.
    fn pgoff(&self) -> usize;
}

impl VmaExt for VmaRef {
    fn may_share(&self) -> bool {
        self.flags() & helpers::HELPER_VM_MAYSHARE != 0
    }

    fn pgoff(&self) -> usize {
        // SAFETY: By its type invariant `self` is a valid VMA under the mmap or VMA lock.
        unsafe { (*self.as_ptr()).vm_pgoff }
    }
}
