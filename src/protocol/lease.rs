// SPDX-License-Identifier: GPL-2.0

//! The memory behind one mapping, which faults make visible until it is taken away: by the last
//! unmapping or by unbind, whichever comes first.
//!
//! One lock decides. Who takes the memory takes it out under the lock, so that only one does. A
//! fault inserts its entry under the lock: either it finds the memory, and then unbind, which
//! zaps after it took, removes that entry; or it finds none. So does a fault on a VMA that is
//! linked to the file after the zap.

use super::Lock;

/// Runs `insert`, which makes an entry for the memory, unless that has been taken.
pub(crate) fn fault<T, R>(
    lease: &impl Lock<Option<T>>,
    insert: impl FnOnce(&mut T) -> R,
) -> Option<R> {
    lease.with(|memory| memory.as_mut().map(insert))
}

/// The last mapping is gone: takes the memory.
pub(crate) fn release<T>(lease: &impl Lock<Option<T>>) -> Option<T> {
    lease.with(Option::take)
}

/// Takes the memory from whoever still maps it; `zap` removes every entry. No entry is left, and
/// none can come, when this returns.
pub(crate) fn revoke<T>(lease: &impl Lock<Option<T>>, zap: impl FnOnce()) -> Option<T> {
    let memory = lease.with(Option::take);
    zap();
    memory
}
