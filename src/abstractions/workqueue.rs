// SPDX-License-Identifier: GPL-2.0

//! Workqueues of one's own, which `kernel::workqueue` cannot make.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use core::{ops::Deref, ptr::NonNull};
use kernel::{bindings, prelude::*, str::CStr, workqueue::Queue};

/// A workqueue. Dropping it waits for all work that was queued on it.
///
/// # Invariants
///
/// `0` points to a live workqueue that this owns.
pub(crate) struct OwnedQueue(NonNull<bindings::workqueue_struct>);

impl OwnedQueue {
    /// Makes an unbound workqueue. May sleep.
    pub(crate) fn new(name: &'static CStr) -> Result<Self> {
        // SAFETY: The format takes one string, which is nul-terminated.
        let wq = unsafe {
            bindings::alloc_workqueue_noprof(
                c"%s".as_char_ptr(),
                bindings::wq_flags_WQ_UNBOUND,
                0,
                name.as_char_ptr(),
            )
        };
        // INVARIANT: A non-null return is a new workqueue, owned by the caller.
        NonNull::new(wq).map(Self).ok_or(ENOMEM)
    }
}

impl Deref for OwnedQueue {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        // SAFETY: By the type invariant the workqueue lives as long as `self`.
        unsafe { Queue::from_raw(self.0.as_ptr()) }
    }
}

impl Drop for OwnedQueue {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this owns the workqueue, and it is not used again.
        unsafe { bindings::destroy_workqueue(self.0.as_ptr()) };
    }
}

// SAFETY: A workqueue may be used and destroyed from any thread.
unsafe impl Send for OwnedQueue {}
// SAFETY: `Queue` is `Sync`, and nothing else is reachable through a shared reference.
unsafe impl Sync for OwnedQueue {}
