// SPDX-License-Identifier: GPL-2.0

//! An allocation that needs what may still be pinned, and the worker that looks.
//!
//! - The allocation asks for a look and begins to wait without leaving the account's lock in
//!   between. So it misses neither bytes that move nor the end of a look, which are announced after
//!   they have been accounted.
//! - Under the same lock the worker sees whether a look is due, before it sleeps and before it stops
//!   (`handover::work`). It must not stop while one is, even with nothing left to look at: the
//!   memory may have become another allocation's.
//! - It does stop with bytes still retired that are about to be pushed; whoever does so kicks it.

use super::{
    account::{Account, Attempt, Denied},
    Lock,
};
use core::ops::{Deref, DerefMut};

/// Takes `len` bytes for a mapping. Waits for what is sure to come, and else for looks of the
/// worker, but never for a pin.
///
/// `account` is locked. `wake` wakes the worker if it pauses; `wait` leaves the lock until bytes
/// have moved or a look has ended.
pub(crate) fn reserve<G, E>(
    mut account: G,
    len: usize,
    wake: impl Fn(),
    mut wait: impl FnMut(G) -> Result<G, E>,
) -> Result<(), E>
where
    G: DerefMut<Target = Account>,
    E: From<Denied>,
{
    let mut look = None;
    loop {
        look = match account.reserve(len, look)? {
            Attempt::Done => return Ok(()),
            Attempt::NotYet => None,
            Attempt::Unseen(number) => {
                wake();
                Some(number)
            }
        };
        account = wait(account)?;
    }
}

/// One look of the worker: `look` looks at all that it has in hand, and `announce` wakes the
/// allocations that wait.
pub(crate) fn look<R>(
    account: &impl Lock<Account>,
    look: impl FnOnce() -> R,
    announce: impl FnOnce(),
) -> R {
    account.with(Account::begin_look);
    let seen = look();
    account.with(Account::end_look);
    announce();
    seen
}

/// The worker's pause between two looks. `account` is locked; `sleep` leaves the lock until an
/// allocation wakes the worker, or for as long as it likes.
pub(crate) fn pause<G: Deref<Target = Account>>(account: G, sleep: impl FnOnce(G)) {
    if !account.is_look_due() {
        sleep(account);
    }
}
