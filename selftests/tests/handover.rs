// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/protocol/`: memory on its way to the worker while unbind waits for it.

#![allow(
    clippy::arc_with_non_send_sync,
    reason = "loom runs its threads in turn, on one"
)]

mod model;

use loom::sync::Mutex;
use loom::thread;
use model::pool::{wait, Batch, Pool, LEN};
use model::protocol::lease::{self, Found};
use model::protocol::{account::Account, handover, Lock};
use model::{check, Folio, Mapping, Monitored, Vma};
use std::sync::Arc;

/// Faults come to no memory here that is foreign.
type IsClean = Found<(), fn() -> fn(&mut Batch)>;

/// The rules that the tests break.
#[derive(Clone, Copy)]
struct Rules {
    hand_over: fn(&Pool, Batch),
    work: fn(&Pool),
    close: fn(&Pool),
}

/// As the module does it, but that it counts its looks: nobody waits for one here.
const RULES: Rules = Rules {
    hand_over: Pool::hand_over,
    work: |pool| {
        let mut in_hand = Vec::new();
        handover::work(&pool.account, &pool.inbox, |new| {
            in_hand.extend(new);
            pool.look(&mut in_hand);
            pool.free(&mut in_hand);
            if in_hand.is_empty() {
                return false;
            }
            thread::yield_now();
            true
        });
    },
    close: |pool| {
        // The module looks every few milliseconds. loom would try how often it can look in vain.
        let queue = handover::close(&pool.account, &pool.inbox, |seen| {
            let mut account = pool.lock();
            while account.available() == seen.available() {
                account = wait(&pool.moved, account);
            }
        });
        queue.expect("closed once").destroy();
    },
};

fn wait_for_all(pool: &Pool) {
    let mut account = pool.lock();
    while !account.is_whole() {
        account = wait(&pool.moved, account);
    }
}

/// A pool of `folios`, all of which mappings have, when unbind has begun.
fn pool(folios: &[&Arc<Folio>], rules: Rules) -> Arc<Pool> {
    let pool = Pool::new(folios.len(), rules.work);
    pool.account.with(Account::refuse);
    pool
}

/// The end of unbind.
fn close(pool: &Pool, folios: &[&Arc<Folio>], rules: Rules) {
    (rules.close)(pool);
    assert!(pool.account.with(|account| account.is_whole()));
    for folio in folios {
        folio.remove();
    }
}

/// Unbind has taken the memory of one mapping when another task has that of a second one in its
/// hands, and a device still writes to it.
fn unbind_against_hand_over(rules: Rules) {
    check(move || {
        let (ours, theirs) = (Folio::new(), Folio::new());
        let pool = pool(&[&ours, &theirs], rules);
        theirs.get();

        let device = {
            let folio = theirs.clone();
            thread::spawn(move || {
                folio.touch();
                folio.put();
            })
        };
        let release = {
            let (pool, theirs) = (pool.clone(), theirs.clone());
            thread::spawn(move || (rules.hand_over)(&pool, Batch::new(&theirs)))
        };
        (rules.hand_over)(&pool, Batch::new(&ours));
        close(&pool, &[&ours, &theirs], rules);

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
        let pool = pool(&[&folio], RULES);
        let buffer = Arc::new(Monitored::new(Some(Batch::new(&folio))));
        let mapping = Arc::new(Mapping::default());
        let live = Arc::new(Mutex::new(Some(mapping.clone())));

        let process = {
            let (pool, folio) = (pool.clone(), folio.clone());
            let (buffer, live) = (buffer.clone(), live.clone());
            thread::spawn(move || {
                let vma = Vma::new(&folio);
                mapping.link(&vma);
                lease::fault(&*buffer, |_| {
                    vma.insert();
                    Some(IsClean::Done(()))
                });
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
        close(&pool, &[&folio], RULES);
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
            handover::work(&pool.account, &pool.inbox, |mut new| {
                pool.look(&mut new);
                pool.free(&mut new);
                false
            });
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "assertion failed: pool.account.with(|account| account.is_whole())")]
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
            wait_for_all(pool);
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
            wait_for_all(pool);
            let nothing = |_: &mut Vec<Batch>| ();
            handover::hand_over(&pool.account, &pool.inbox, 0, nothing, |queue| {
                queue.destroy();
            });
        },
        ..RULES
    });
}
