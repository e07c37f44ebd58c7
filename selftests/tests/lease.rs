// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/protocol/lease.rs`: faults, the last unmapping and unbind, in every order.

#![allow(
    clippy::arc_with_non_send_sync,
    reason = "loom runs its threads in turn, on one"
)]

mod model;

use loom::sync::Mutex;
use loom::thread;
use model::protocol::{lease, Lock};
use model::{check, Folio, Mapping, Vma};
use std::sync::Arc;

type Lease = Mutex<Option<Arc<Folio>>>;

/// Touches `vma` as a process does, and pins what it finds for a while.
fn use_memory(lease: &Lease, vma: &Vma, fault: fn(&Lease, &Vma)) {
    fault(lease, vma);
    if vma.pin() {
        vma.folio().touch();
        vma.folio().put();
    }
}

fn fault(lease: &Lease, vma: &Vma) {
    lease::fault(lease, |_| vma.insert());
}

fn revoke(lease: &Lease, mapping: &Mapping) -> Option<Arc<Folio>> {
    lease::revoke(lease, || mapping.zap())
}

/// Unbind while one process faults in a VMA and another, which has just forked, links its own.
fn unbind_against_faults(
    fault: fn(&Lease, &Vma),
    revoke: fn(&Lease, &Mapping) -> Option<Arc<Folio>>,
) {
    check(move || {
        let folio = Folio::new();
        let lease = Arc::new(Mutex::new(Some(folio.clone())));
        let mapping = Arc::new(Mapping::default());
        let (parent, child) = (Vma::new(&folio), Vma::new(&folio));
        mapping.link(&parent);

        let parent = {
            let lease = lease.clone();
            thread::spawn(move || use_memory(&lease, &parent, fault))
        };
        let child = {
            let (lease, mapping) = (lease.clone(), mapping.clone());
            thread::spawn(move || {
                mapping.link(&child);
                use_memory(&lease, &child, fault);
            })
        };

        let memory = revoke(&lease, &mapping).expect("nobody else takes it");
        assert!(!mapping.has_entry(), "an entry outlived the zap");
        if memory.try_freeze() {
            memory.zero();
        }

        parent.join().expect("a panic ends the model");
        child.join().expect("a panic ends the model");
        assert!(!mapping.has_entry(), "an entry came after the zap");
    });
}

#[test]
fn no_entry_is_left_when_unbind_has_the_memory() {
    unbind_against_faults(fault, revoke);
}

#[test]
#[should_panic(expected = "an entry outlived the zap")]
fn a_zap_before_the_memory_is_taken_is_caught() {
    unbind_against_faults(fault, |lease, mapping| {
        mapping.zap();
        lease.with(Option::take)
    });
}

#[test]
#[should_panic(expected = "a reference on memory that nobody owns")]
fn an_entry_that_is_inserted_outside_the_lock_is_caught() {
    unbind_against_faults(
        |lease, vma| {
            if lease::fault(lease, |_| ()).is_some() {
                vma.insert();
            }
        },
        revoke,
    );
}

/// The last unmapping in one task, unbind in another.
fn unbind_against_release(take: fn(&Lease) -> Option<Arc<Folio>>) {
    check(move || {
        let folio = Folio::new();
        let lease = Arc::new(Mutex::new(Some(folio.clone())));

        let release = {
            let lease = lease.clone();
            thread::spawn(move || take(&lease).is_some())
        };
        let revoked = lease::revoke(&*lease, || ()).is_some();
        let released = release.join().expect("a panic ends the model");
        assert!(released || revoked, "nobody has the memory");
        assert!(!(released && revoked), "two tasks have the memory");
    });
}

#[test]
fn one_of_release_and_unbind_gets_the_memory() {
    unbind_against_release(lease::release);
}

#[test]
#[should_panic(expected = "two tasks have the memory")]
fn memory_that_is_taken_in_two_steps_is_caught() {
    unbind_against_release(|lease| {
        let memory = lease.with(|memory| memory.clone());
        lease.with(|memory| *memory = None);
        memory
    });
}
