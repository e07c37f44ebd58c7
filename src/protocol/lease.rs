// SPDX-License-Identifier: GPL-2.0

//! The memory behind one mapping, which faults make visible until it is taken away: by the last
//! unmapping or by unbind, whichever comes first.
//!
//! One lock decides. Who takes the memory takes it out under the lock, so that only one does. A
//! fault inserts its entry under the lock: either it finds the memory, and then unbind, which
//! zaps after it took, removes that entry; or it finds none. So does a fault on a VMA that is
//! linked to the file after the zap.
//!
//! A part of the memory that still holds what the device did is cleaned by the first fault that
//! comes to it, without the lock: faults on other parts go on meanwhile, those on the same part wait.
//! Unbind does not wait. It may take the memory while a part is being cleaned, which therefore has a
//! reference of its own: to those who wait for pins it is one.

use super::Lock;

/// A [`Lock`] and a condition variable.
pub(crate) trait Monitor<T>: Lock<T> {
    /// Runs `critical` with the lock held until it has an answer; again each time that
    /// [`Self::notify_all`] was called. May sleep.
    fn wait_for<R>(&self, critical: impl FnMut(&mut T) -> Option<R>) -> R;

    /// Wakes all who wait.
    fn notify_all(&self);
}

/// What a fault comes to. `C` cleans a part and returns what notes that it is clean.
pub(crate) enum Found<R, C> {
    /// An answer.
    Done(R),
    /// A part that is not clean. Nobody else comes to it as such.
    Unclean(C),
}

/// Runs `insert`, which makes an entry for the memory, unless that has been taken; again when a part
/// that was not clean is, by this fault or another. `None` from `insert` means that another cleans
/// it. May sleep.
pub(crate) fn fault<T, R, C, N>(
    lease: &impl Monitor<Option<T>>,
    mut insert: impl FnMut(&mut T) -> Option<Found<R, C>>,
) -> Option<R>
where
    C: FnOnce() -> N,
    N: FnOnce(&mut T),
{
    loop {
        let found = lease.wait_for(|memory| match memory {
            Some(memory) => insert(memory).map(Some),
            None => Some(None),
        });
        match found? {
            Found::Done(answer) => return Some(answer),
            Found::Unclean(clean) => {
                let note = clean();
                lease.with(|memory| memory.as_mut().map(note));
                lease.notify_all();
            }
        }
    }
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
