// SPDX-License-Identifier: GPL-2.0

//! The way of memory without an owner to the worker, and how unbind comes to an end.
//!
//! - Memory is pushed, and the worker kicked, under one lock. Whoever does so is through with the
//!   workqueue before the worker finds the memory.
//! - So when all memory is back, nobody uses the workqueue any more, not even a task that took the
//!   memory of a mapping before unbind could. Unbind then takes it away.
//! - The worker stops when it has nothing in hand and nobody waits for a look (`look.rs`). What was
//!   pushed meanwhile is kicked after that, and work that is queued while it runs is run once more
//!   (`queue_work`).

use super::{account::Account, Lock};

/// What waits for the worker, `T`, and the workqueue that it runs on.
pub(crate) struct Inbox<T, Q> {
    waiting: T,
    // None once the pool is closed.
    queue: Option<Q>,
}

impl<T: Default, Q> Inbox<T, Q> {
    /// Empty, with a workqueue.
    pub(crate) fn new(queue: Q) -> Self {
        Self {
            waiting: T::default(),
            queue: Some(queue),
        }
    }
}

/// Gives `len` bytes to the worker: `push` adds them to what waits, `kick` queues the work.
pub(crate) fn hand_over<T, Q>(
    account: &impl Lock<Account>,
    inbox: &impl Lock<Inbox<T, Q>>,
    len: usize,
    push: impl FnOnce(&mut T),
    kick: impl FnOnce(&Q),
) {
    // First: the worker may free them as soon as they are pushed.
    account.with(|account| account.retire(len));
    inbox.with(|inbox| {
        push(&mut inbox.waiting);
        if let Some(queue) = &inbox.queue {
            kick(queue);
        }
    });
}

/// The work. `look` gets what is new, and returns whether anything is left to look at again.
pub(crate) fn work<T: Default, Q>(
    account: &impl Lock<Account>,
    inbox: &impl Lock<Inbox<T, Q>>,
    mut look: impl FnMut(T) -> bool,
) {
    while look(inbox.with(|inbox| core::mem::take(&mut inbox.waiting)))
        || account.with(|account| account.is_look_due())
    {}
}

/// Waits until all memory is back, calling `pause` between two looks, and takes the workqueue
/// away. It must be destroyed outside the lock, which the worker takes.
///
/// Nothing may be reserved any more, and what mappings have must be on its way.
pub(crate) fn close<T, Q>(
    account: &impl Lock<Account>,
    inbox: &impl Lock<Inbox<T, Q>>,
    mut pause: impl FnMut(Account),
) -> Option<Q> {
    loop {
        let account = account.with(|account| *account);
        if account.is_whole() {
            return inbox.with(|inbox| inbox.queue.take());
        }
        pause(account);
    }
}
