// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/protocol/`: memory on its way to the worker while unbind waits for it.

#![allow(
    clippy::arc_with_non_send_sync,
    reason = "loom runs its threads in turn, on one"
)]

mod model;

use loom::sync::{Condvar, Mutex};
use loom::thread;
use model::protocol::handover::{self, Inbox};
use model::protocol::{account::Account, lease, Lock};
use model::{check, Folio, Mapping, Vma, Workqueue};
use std::mem;
use std::sync::Arc;

/// Bytes of a folio.
const LEN: usize = 4096;

/// What one mapping had.
struct Batch {
    folio: Arc<Folio>,
    draining: bool,
}

struct Pool {
    account: Mutex<Account>,
    // The module looks every few milliseconds. loom would try how often it can look in vain.
    freed: Condvar,
    inbox: Mutex<Inbox<Vec<Batch>, Arc<Workqueue>>>,
    folios: Vec<Arc<Folio>>,
}

/// The rules that the tests break.
#[derive(Clone, Copy)]
struct Rules {
    hand_over: fn(&Pool, Batch),
    work: fn(&Pool),
    close: fn(&Pool),
}

/// As the module does it.
const RULES: Rules = Rules {
    hand_over: |pool, batch| {
        handover::hand_over(
            &pool.account,
            &pool.inbox,
            LEN,
            |waiting| waiting.push(batch),
            |queue| queue.enqueue(),
        );
    },
    work: |pool| {
        let mut in_hand = Vec::new();
        handover::work(&pool.inbox, |new| {
            in_hand.extend(new);
            in_hand.retain_mut(|batch| !pool.collect(batch));
            if in_hand.is_empty() {
                return false;
            }
            thread::yield_now();
            true
        });
    },
    close: |pool| {
        let queue = handover::close(&pool.account, &pool.inbox, |seen| pool.wait(seen));
        queue.expect("closed once").destroy();
    },
};

impl Pool {
    /// A pool of `folios`, all of which mappings have.
    fn new(folios: &[Arc<Folio>], work: fn(&Pool)) -> Arc<Self> {
        let queue = Workqueue::new();
        let mut account = Account::new(folios.len() * LEN);
        account.reserve(account.size()).expect("all is available");
        account.refuse();
        let pool = Arc::new(Self {
            account: Mutex::new(account),
            freed: Condvar::new(),
            inbox: Mutex::new(Inbox::new(queue.clone())),
            folios: folios.to_vec(),
        });
        queue.start({
            let pool = pool.clone();
            move || work(&pool)
        });
        pool
    }

    /// Frees `batch` if nobody refers to it any more.
    fn collect(&self, batch: &mut Batch) -> bool {
        if batch.folio.try_freeze() {
            batch.folio.zero();
            self.account
                .with(|account| account.free(LEN, batch.draining));
            self.freed.notify_one();
            return true;
        }
        if !mem::replace(&mut batch.draining, true) {
            self.account.with(|account| account.drain(LEN));
        }
        false
    }

    /// Waits until more is available than was `seen`.
    fn wait(&self, seen: Account) {
        let mut account = self.account.lock().expect("a panic ends the model");
        while account.available() == seen.available() {
            account = self.freed.wait(account).expect("a panic ends the model");
        }
    }

    fn wait_for_all(&self) {
        let mut account = self.account.lock().expect("a panic ends the model");
        while !account.is_whole() {
            account = self.freed.wait(account).expect("a panic ends the model");
        }
    }

    /// The end of unbind.
    fn close(&self, close: fn(&Pool)) {
        close(self);
        assert!(self.account.with(|account| account.is_whole()));
        for folio in &self.folios {
            folio.remove();
        }
    }
}

fn batch(folio: &Arc<Folio>) -> Batch {
    Batch {
        folio: folio.clone(),
        draining: false,
    }
}

/// Unbind has taken the memory of one mapping when another task has that of a second one in its
/// hands, and a device still writes to it.
fn unbind_against_hand_over(rules: Rules) {
    check(move || {
        let (ours, theirs) = (Folio::new(), Folio::new());
        let pool = Pool::new(&[ours.clone(), theirs.clone()], rules.work);
        theirs.get();

        let device = {
            let folio = theirs.clone();
            thread::spawn(move || {
                folio.touch();
                folio.put();
            })
        };
        let release = {
            let pool = pool.clone();
            thread::spawn(move || (rules.hand_over)(&pool, batch(&theirs)))
        };
        (rules.hand_over)(&pool, batch(&ours));
        pool.close(rules.close);

        release.join().expect("a panic ends the model");
        device.join().expect("a panic ends the model");
    });
}

#[test]
fn unbind_ends_with_all_memory_back_and_nobody_on_the_workqueue() {
    unbind_against_hand_over(RULES);
}

/// A mapping is used, pinned, unmapped and unpinned in one task, while unbind takes it away.
#[test]
fn one_mapping_against_unbind_from_the_first_fault_to_the_removal_of_the_memory() {
    check(|| {
        let folio = Folio::new();
        let pool = Pool::new(&[folio.clone()], RULES.work);
        let buffer = Arc::new(Mutex::new(Some(batch(&folio))));
        let mapping = Arc::new(Mapping::default());
        let live = Arc::new(Mutex::new(Some(mapping.clone())));

        let process = {
            let (pool, buffer, live) = (pool.clone(), buffer.clone(), live.clone());
            thread::spawn(move || {
                let vma = Vma::new(&folio);
                mapping.link(&vma);
                lease::fault(&*buffer, |_| vma.insert());
                let pinned = vma.pin();
                vma.zap();
                if let Some(batch) = lease::release(&*buffer) {
                    drop(live.with(Option::take));
                    (RULES.hand_over)(&pool, batch);
                }
                if pinned {
                    folio.touch();
                    folio.put();
                }
            })
        };
        if let Some(mapping) = live.with(Option::take) {
            if let Some(batch) = lease::revoke(&*buffer, || mapping.zap()) {
                assert!(!mapping.has_entry(), "an entry outlived the zap");
                (RULES.hand_over)(&pool, batch);
            }
        }
        pool.close(RULES.close);
        process.join().expect("a panic ends the model");
    });
}

#[test]
#[should_panic(expected = "work was queued on a destroyed workqueue")]
fn a_kick_outside_the_lock_is_caught() {
    unbind_against_hand_over(Rules {
        hand_over: |pool, batch| {
            let mut queue = None;
            handover::hand_over(
                &pool.account,
                &pool.inbox,
                LEN,
                |waiting| waiting.push(batch),
                |of_pool| queue = Some(of_pool.clone()),
            );
            queue.expect("not closed yet").enqueue();
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_kick_before_the_memory_is_pushed_is_caught() {
    unbind_against_hand_over(Rules {
        hand_over: |pool, batch| {
            let nothing = |_: &mut Vec<Batch>| ();
            handover::hand_over(&pool.account, &pool.inbox, LEN, nothing, |queue| {
                queue.enqueue();
            });
            handover::hand_over(
                &pool.account,
                &pool.inbox,
                0,
                |waiting| waiting.push(batch),
                |_| (),
            );
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "attempt to subtract with overflow")]
fn memory_that_is_counted_after_it_was_pushed_is_caught() {
    unbind_against_hand_over(Rules {
        hand_over: |pool, batch| {
            handover::hand_over(
                &pool.account,
                &pool.inbox,
                0,
                |waiting| waiting.push(batch),
                |queue| queue.enqueue(),
            );
            pool.account.with(|account| account.retire(LEN));
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_worker_that_drops_what_is_pinned_is_caught() {
    unbind_against_hand_over(Rules {
        work: |pool| {
            handover::work(&pool.inbox, |new| {
                new.into_iter().for_each(|mut batch| {
                    pool.collect(&mut batch);
                });
                false
            });
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "assertion failed: self.account.with(|account| account.is_whole())")]
fn a_close_that_does_not_wait_is_caught() {
    unbind_against_hand_over(Rules {
        close: |pool| {
            let whole = Mutex::new(Account::new(0));
            let queue = handover::close(&whole, &pool.inbox, |_| ());
            queue.expect("closed once").destroy();
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_workqueue_that_is_taken_before_all_memory_is_back_is_caught() {
    unbind_against_hand_over(Rules {
        close: |pool| {
            let whole = Mutex::new(Account::new(0));
            let queue = handover::close(&whole, &pool.inbox, |_| ());
            pool.wait_for_all();
            queue.expect("closed once").destroy();
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_workqueue_that_is_destroyed_under_the_lock_is_caught() {
    unbind_against_hand_over(Rules {
        close: |pool| {
            pool.wait_for_all();
            let nothing = |_: &mut Vec<Batch>| ();
            handover::hand_over(&pool.account, &pool.inbox, 0, nothing, |queue| {
                queue.destroy();
            });
        },
        ..RULES
    });
}
