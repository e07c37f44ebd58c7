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
    /// Every kind of call is made, and memory is mapped and used: else all of the above is easy.
    EverythingIsTried,
}

impl Oracle {
    pub const ALL: [Oracle; 7] = [
        Oracle::FreshMemoryIsZero,
        Oracle::ForbiddenCallsFail,
        Oracle::OnlyKilledProcessesDie,
        Oracle::NothingHangs,
        Oracle::EverythingComesBack,
        Oracle::KernelLogIsClean,
        Oracle::EverythingIsTried,
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

    /// Kinds of calls that were never made, or that never succeeded though they must.
    pub fn untried(&self) -> Vec<&'static str> {
        const MUST_SUCCEED: [&str; 4] = ["mmap", "load", "store", "munmap"];
        // The rarest kind is one in five hundred.
        const ENOUGH: u64 = 4000;
        let counts = |index: usize| {
            let count = &self.kinds[index];
            (count.succeeded.load(Relaxed), count.failed.load(Relaxed))
        };
        let made = |index| counts(index).0 + counts(index).1;
        let enough = (0..KINDS.len()).map(made).sum::<u64>() >= ENOUGH;
        let is_untried = |&index: &usize| match MUST_SUCCEED.contains(&KINDS[index].name) {
            true => counts(index).0 == 0,
            false => enough && made(index) == 0,
        };
        let untried = (0..KINDS.len()).filter(is_untried);
        untried.map(|index| KINDS[index].name).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_tried_is_known() {
        let tally = Tally::new().unwrap();
        assert_eq!(tally.untried(), ["mmap", "load", "store", "munmap"]);
        for count in &tally.kinds {
            count.succeeded.store(1, Relaxed);
        }
        assert_eq!(tally.untried(), [""; 0]);
        let last = KINDS.len() - 1;
        tally.kinds[last].succeeded.store(0, Relaxed);
        assert_eq!(tally.untried(), [""; 0]);
        tally.kinds[0].failed.store(4000, Relaxed);
        assert_eq!(tally.untried(), [KINDS[last].name]);
    }
}
