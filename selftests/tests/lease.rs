// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/protocol/lease.rs`: faults, the last unmapping and unbind, in every order.

#![allow(
    clippy::arc_with_non_send_sync,
    reason = "loom runs its threads in turn, on one"
)]

mod model;

use loom::thread;
use model::protocol::lease::{self, Found};
use model::protocol::Lock;
use model::{check, Folio, Mapping, Monitored, Vma};
use std::sync::Arc;

/// A folio that faults on one mapping make visible.
struct Memory {
    folio: Arc<Folio>,
    contents: Contents,
}

#[derive(Clone, Copy, PartialEq)]
enum Contents {
    Foreign,
    BeingZeroed,
    Zero,
}

type Lease = Monitored<Option<Memory>>;

fn new_lease(folio: &Arc<Folio>, contents: Contents) -> Arc<Lease> {
    let folio = folio.clone();
    Arc::new(Monitored::new(Some(Memory { folio, contents })))
}

/// Touches `vma` as a process does, and pins what it finds for a while.
fn use_memory(lease: &Lease, vma: &Vma, fault: fn(&Lease, &Vma)) {
    fault(lease, vma);
    if vma.pin() {
        vma.folio().touch();
        vma.folio().put();
    }
}

/// How a fault goes about memory that is foreign.
#[derive(Clone, Copy, PartialEq)]
enum Care {
    /// With a reference of its own while it zeroes.
    Full,
    NoReference,
    /// Lets others use it at once.
    NoWaiting,
    /// Others may come to zero it too.
    NoNote,
}

fn fault_with(care: Care, lease: &Lease, vma: &Vma) {
    lease::fault(lease, |memory: &mut Memory| match memory.contents {
        Contents::Zero => {
            vma.insert();
            Some(Found::Done(()))
        }
        Contents::BeingZeroed => None,
        Contents::Foreign => {
            memory.contents = match care {
                Care::NoWaiting => Contents::Zero,
                Care::NoNote => Contents::Foreign,
                _ => Contents::BeingZeroed,
            };
            let folio = memory.folio.clone();
            if care != Care::NoReference {
                folio.get();
            }
            Some(Found::Unclean(move || {
                folio.zero();
                if care != Care::NoReference {
                    folio.put();
                }
                |memory: &mut Memory| memory.contents = Contents::Zero
            }))
        }
    });
}

fn fault(lease: &Lease, vma: &Vma) {
    fault_with(Care::Full, lease, vma);
}

fn revoke(lease: &Lease, mapping: &Mapping) -> Option<Memory> {
    lease::revoke(lease, || mapping.zap())
}

/// Unbind while one process faults in a VMA and another, which has just forked, links its own.
fn unbind_against_faults(
    fault: fn(&Lease, &Vma),
    revoke: fn(&Lease, &Mapping) -> Option<Memory>,
    contents: Contents,
) {
    check(move || {
        let folio = Folio::new();
        let lease = new_lease(&folio, contents);
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

        let memory = revoke(&lease, &mapping)
            .expect("nobody else takes it")
            .folio;
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
    unbind_against_faults(fault, revoke, Contents::Zero);
}

#[test]
#[should_panic(expected = "an entry outlived the zap")]
fn a_zap_before_the_memory_is_taken_is_caught() {
    let revoke = |lease: &Lease, mapping: &Mapping| {
        mapping.zap();
        lease.with(Option::take)
    };
    unbind_against_faults(fault, revoke, Contents::Zero);
}

#[test]
#[should_panic(expected = "a reference on memory that nobody owns")]
fn an_entry_that_is_inserted_outside_the_lock_is_caught() {
    let fault = |lease: &Lease, vma: &Vma| {
        if lease.with(|memory| memory.is_some()) {
            vma.insert();
        }
    };
    unbind_against_faults(fault, revoke, Contents::Zero);
}

/// Two faults come to foreign memory, and unbind takes it.
#[test]
fn memory_is_zeroed_before_it_is_seen_or_given_back() {
    unbind_against_faults(fault, revoke, Contents::Foreign);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn zeroing_without_a_reference_is_caught() {
    let fault = |lease: &Lease, vma: &Vma| fault_with(Care::NoReference, lease, vma);
    unbind_against_faults(fault, revoke, Contents::Foreign);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn memory_that_is_seen_while_it_is_zeroed_is_caught() {
    let fault = |lease: &Lease, vma: &Vma| fault_with(Care::NoWaiting, lease, vma);
    unbind_against_faults(fault, revoke, Contents::Foreign);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn memory_that_two_faults_zero_is_caught() {
    let fault = |lease: &Lease, vma: &Vma| fault_with(Care::NoNote, lease, vma);
    unbind_against_faults(fault, revoke, Contents::Foreign);
}

/// The last unmapping in one task, unbind in another.
fn unbind_against_release(take: fn(&Lease) -> bool) {
    check(move || {
        let lease = new_lease(&Folio::new(), Contents::Zero);

        let release = {
            let lease = lease.clone();
            thread::spawn(move || take(&lease))
        };
        let revoked = lease::revoke(&*lease, || ()).is_some();
        let released = release.join().expect("a panic ends the model");
        assert!(released || revoked, "nobody has the memory");
        assert!(!(released && revoked), "two tasks have the memory");
    });
}

#[test]
fn one_of_release_and_unbind_gets_the_memory() {
    unbind_against_release(|lease| lease::release(lease).is_some());
}

#[test]
#[should_panic(expected = "two tasks have the memory")]
fn memory_that_is_taken_in_two_steps_is_caught() {
    unbind_against_release(|lease| {
        let there = lease.with(|memory| memory.is_some());
        lease.with(|memory| *memory = None);
        there
    });
}
