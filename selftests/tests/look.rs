// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/protocol/look.rs`: allocations that need memory whose last pin goes. The
//! module's worker also looks by itself every few milliseconds; here it does so only when it is
//! woken, so that no allocation lives on that.

#![allow(
    clippy::arc_with_non_send_sync,
    reason = "loom runs its threads in turn, on one"
)]

mod model;

use loom::sync::Mutex;
use loom::thread;
use model::pool::{wait, Batch, Pool, LEN};
use model::protocol::account::{Account, Denied};
use model::protocol::{handover, look};
use model::{check, Folio};
use std::sync::Arc;

/// The rules that the tests break.
#[derive(Clone, Copy)]
struct Rules {
    reserve: fn(&Pool) -> Result<(), Denied>,
    look: fn(&Pool, &mut Vec<Batch>),
    pause: fn(&Pool),
    work: fn(&Pool, Rules),
}

/// As the module does it.
const RULES: Rules = Rules {
    reserve: |pool| {
        let wake = || pool.asked.notify_all();
        look::reserve(pool.lock(), LEN, wake, |account| {
            Ok(wait(&pool.moved, account))
        })
    },
    look: |pool, in_hand| {
        let announce = || pool.moved.notify_all();
        look::look(&pool.account, || pool.look(in_hand), announce);
    },
    pause: |pool| look::pause(pool.lock(), |account| drop(wait(&pool.asked, account))),
    work: |pool, rules| {
        let mut in_hand = Vec::new();
        handover::work(&pool.account, &pool.inbox, |new| {
            round(pool, &mut in_hand, new, rules)
        });
    },
};

/// What the worker does between two looks into its inbox.
fn round(pool: &Pool, in_hand: &mut Vec<Batch>, new: Vec<Batch>, rules: Rules) -> bool {
    in_hand.extend(new);
    (rules.look)(pool, in_hand);
    pool.free(in_hand);
    if in_hand.is_empty() {
        return false;
    }
    (rules.pause)(pool);
    // An allocation asks again as long as memory is counted that has not been pushed yet. loom would
    // try how often it can.
    thread::yield_now();
    true
}

fn start(pool: &Arc<Pool>, rules: Rules) -> thread::JoinHandle<Result<(), Denied>> {
    let pool = pool.clone();
    thread::spawn(move || (rules.reserve)(&pool))
}

/// Two tasks want the only memory after its last pin has gone, which nobody has noticed.
fn two_after_the_last_unpin(rules: Rules) {
    check(move || {
        let folio = Folio::new();
        let pool = Pool::new(1, move |pool| (rules.work)(pool, rules));
        folio.get();
        pool.hand_over(Batch::new(&folio));
        folio.put();

        let other = start(&pool, rules);
        let one = (rules.reserve)(&pool);
        let other = other.join().expect("a panic ends the model");
        assert_eq!(
            one.is_ok() as usize + other.is_ok() as usize,
            1,
            "not just one of two has got what nobody referred to"
        );
        pool.queue.destroy();
    });
}

/// A task wants the only memory, which another unmaps and then unpins.
fn one_against_the_last_unpin(rules: Rules) {
    check(move || {
        let folio = Folio::new();
        let pool = Pool::new(1, move |pool| (rules.work)(pool, rules));
        folio.get();

        let user = {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.hand_over(Batch::new(&folio));
                folio.touch();
                folio.put();
            })
        };
        let early = (rules.reserve)(&pool);
        user.join().expect("a panic ends the model");
        if early.is_err() {
            assert_eq!(
                (rules.reserve)(&pool),
                Ok(()),
                "nobody refers to it any more"
            );
        }
        pool.queue.destroy();
    });
}

#[test]
fn one_of_two_gets_memory_whose_last_pin_has_gone_and_the_other_an_answer() {
    two_after_the_last_unpin(RULES);
}

#[test]
fn memory_can_be_had_during_the_last_unpin_or_else_after_it() {
    one_against_the_last_unpin(RULES);
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_allocation_that_does_not_wake_the_worker_is_caught() {
    one_against_the_last_unpin(Rules {
        reserve: |pool| {
            look::reserve(
                pool.lock(),
                LEN,
                || (),
                |account| Ok(wait(&pool.moved, account)),
            )
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_allocation_that_leaves_the_lock_before_it_waits_is_caught() {
    one_against_the_last_unpin(Rules {
        reserve: |pool| {
            let wake = || pool.asked.notify_all();
            look::reserve(pool.lock(), LEN, wake, |account| {
                drop(account);
                Ok(wait(&pool.moved, pool.lock()))
            })
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "nobody refers to it any more")]
fn a_look_from_before_it_was_asked_for_is_caught() {
    one_against_the_last_unpin(Rules {
        look: |pool, in_hand| {
            pool.look(in_hand);
            look::look(&pool.account, || (), || pool.moved.notify_all());
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn an_announcement_before_the_look_is_over_is_caught() {
    one_against_the_last_unpin(Rules {
        look: |pool, in_hand| {
            let announce_early = || {
                pool.look(in_hand);
                pool.moved.notify_all();
            };
            look::look(&pool.account, announce_early, || ());
        },
        ..RULES
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_worker_that_sleeps_although_a_look_is_due_is_caught() {
    one_against_the_last_unpin(Rules {
        pause: |pool| drop(wait(&pool.asked, pool.lock())),
        ..RULES
    });
}

#[test]
#[should_panic(expected = "deadlock")]
fn a_worker_that_stops_although_a_look_is_due_is_caught() {
    two_after_the_last_unpin(Rules {
        work: |pool, rules| {
            let mut in_hand = Vec::new();
            let nobody = Mutex::new(Account::new(0));
            handover::work(&nobody, &pool.inbox, |new| {
                round(pool, &mut in_hand, new, rules)
            });
        },
        ..RULES
    });
}
