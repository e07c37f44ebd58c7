// SPDX-License-Identifier: GPL-2.0

//! A pool whose mappings have one folio each, and what its worker does with those.

use super::protocol::account::{Account, Attempt, Share};
use super::protocol::handover::{self, Inbox};
use super::protocol::Lock;
use super::{Folio, Workqueue};
use loom::sync::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;

/// Bytes of a folio.
pub const LEN: usize = 4096;

/// What one mapping had.
pub struct Batch {
    folio: Arc<Folio>,
    share: Share,
    is_frozen: bool,
}

impl Batch {
    pub fn new(folio: &Arc<Folio>) -> Self {
        Self {
            folio: folio.clone(),
            share: Share::new(LEN),
            is_frozen: false,
        }
    }
}

pub struct Pool {
    pub account: Mutex<Account>,
    pub moved: Condvar,
    pub asked: Condvar,
    pub inbox: Mutex<Inbox<Vec<Batch>, Arc<Workqueue>>>,
    pub queue: Arc<Workqueue>,
}

impl Pool {
    /// A pool of so many folios, all of which mappings have.
    pub fn new(folios: usize, work: impl Fn(&Pool) + 'static) -> Arc<Self> {
        let queue = Workqueue::new();
        let mut account = Account::new(folios * LEN);
        assert_eq!(account.reserve(folios * LEN, None), Ok(Attempt::Done));
        let pool = Arc::new(Self {
            account: Mutex::new(account),
            moved: Condvar::new(),
            asked: Condvar::new(),
            inbox: Mutex::new(Inbox::new(queue.clone())),
            queue: queue.clone(),
        });
        queue.start({
            let pool = pool.clone();
            move || work(&pool)
        });
        pool
    }

    pub fn hand_over(&self, batch: Batch) {
        handover::hand_over(
            &self.account,
            &self.inbox,
            LEN,
            |waiting| waiting.push(batch),
            |queue| queue.enqueue(),
        );
    }

    /// Looks whether anybody refers to the folios.
    pub fn look(&self, batches: &mut [Batch]) {
        for batch in batches.iter_mut() {
            batch.is_frozen = batch.folio.try_freeze();
        }
        self.account.with(|account| {
            for batch in batches {
                let free = if batch.is_frozen { LEN } else { 0 };
                account.looked(&mut batch.share, free, LEN - free);
            }
        });
    }

    /// Zeroes and frees what the last look found free of references.
    pub fn free(&self, batches: &mut Vec<Batch>) {
        batches.retain(|batch| {
            if batch.is_frozen {
                batch.folio.zero();
                self.account.with(|account| account.free(LEN));
                self.moved.notify_all();
            }
            !batch.is_frozen
        });
    }

    pub fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().expect("a panic ends the model")
    }
}

/// Leaves the lock until `event` is signalled.
pub fn wait<'a>(event: &Condvar, account: MutexGuard<'a, Account>) -> MutexGuard<'a, Account> {
    event.wait(account).expect("a panic ends the model")
}
