// SPDX-License-Identifier: GPL-2.0

//! What all processes count together, in memory that they share.

use super::bus;
use super::calls::KINDS;
use crate::mapping::{Mapping, PAGE};
use anyhow::Result;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Most processes with a [`Slot`] at a time.
pub const SLOTS: usize = 64;

/// What must hold.
#[derive(Clone, Copy, Debug)]
pub enum Oracle {
    /// Memory that was mapped just now reads as zero.
    FreshMemoryIsZero,
    /// Calls that the ABI refuses are refused.
    ForbiddenCallsFail,
    /// No process dies of a signal that nobody sent it.
    OnlyKilledProcessesDie,
    /// Every call ends, and so does unbind once nobody has the memory pinned.
    NothingHangs,
    /// When all is over all memory is available, and device and module let go.
    EverythingComesBack,
    /// The kernel has nothing to complain about.
    KernelLogIsClean,
}

impl Oracle {
    pub const ALL: [Oracle; 6] = [
        Oracle::FreshMemoryIsZero,
        Oracle::ForbiddenCallsFail,
        Oracle::OnlyKilledProcessesDie,
        Oracle::NothingHangs,
        Oracle::EverythingComesBack,
        Oracle::KernelLogIsClean,
    ];
}

#[derive(Default)]
pub struct Count {
    pub succeeded: AtomicU64,
    pub failed: AtomicU64,
}

/// What a process is doing.
#[derive(Default)]
pub struct Slot {
    /// Changes with every call.
    pub calls: AtomicU64,
    /// Index of the latest in [`KINDS`], or behind those in [`bus::FILES`].
    pub kind: AtomicU32,
}

pub struct Tally {
    pub kinds: [Count; KINDS.len()],
    pub bus: [Count; bus::FILES.len()],
    pub slots: [Slot; SLOTS],
    violations: [AtomicU32; Oracle::ALL.len()],
}

impl Tally {
    /// All zero, shared with every process that is forked from here on.
    pub fn new() -> Result<&'static Tally> {
        let len = size_of::<Tally>().next_multiple_of(PAGE);
        // Never unmapped: the reference is a static one.
        let mapping = ManuallyDrop::new(Mapping::anonymous(len)?);
        // SAFETY: zeroed memory of that size and a page's alignment, mapped for ever. Atomics of
        // 0 are valid, and may be shared.
        Ok(unsafe { &*(mapping.address() as *const Tally) })
    }

    /// Says that something does not hold, and what.
    pub fn violation(&self, oracle: Oracle, what: &str) {
        self.violations[oracle as usize].fetch_add(1, Relaxed);
        eprintln!("FAILED {oracle:?}: {what}");
    }

    pub fn violations(&self, oracle: Oracle) -> u32 {
        self.violations[oracle as usize].load(Relaxed)
    }

    pub fn any_violation(&self) -> bool {
        Oracle::ALL
            .iter()
            .any(|&oracle| self.violations(oracle) > 0)
    }

    /// What a process is at.
    pub fn call_of(&self, slot: usize) -> &'static str {
        let kind = self.slots[slot].kind.load(Relaxed) as usize;
        match kind.checked_sub(KINDS.len()) {
            None => KINDS[kind].name,
            Some(file) => bus::FILES[file],
        }
    }

    /// Prints how often each kind of call was made.
    pub fn print(&self) {
        let names = KINDS.iter().map(|kind| kind.name).chain(bus::FILES);
        let counts = self.kinds.iter().chain(&self.bus);
        let mut total = 0;
        println!("{:20} {:>10} {:>10}", "call", "succeeded", "failed");
        for (name, count) in names.zip(counts) {
            let (succeeded, failed) = (count.succeeded.load(Relaxed), count.failed.load(Relaxed));
            println!("{name:20} {succeeded:>10} {failed:>10}");
            total += succeeded + failed;
        }
        println!("{total} calls");
    }
}
