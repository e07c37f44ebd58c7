// SPDX-License-Identifier: GPL-2.0

//! A process that makes random calls.

use super::arena::Arena;
use super::calls::{self, KINDS};
use super::probe;
use super::tally::{Oracle, Tally};
use super::toucher;
use crate::device::Pci;
use crate::random::Random;
use crate::uring::Ring;
use crate::verbs::{Rdma, Region};
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::unistd::{pipe2, setgroups, setresgid, setresuid, Gid, Pid, Uid};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;

/// Who a worker is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Identity {
    Root,
    /// Nobody, but in the group of `allocate`.
    Member,
    /// Nobody.
    Stranger,
}

const NOBODY: u32 = 65534;

/// What a worker gets from the supervisor.
pub struct Order {
    pub seed: u64,
    pub pci: Pci,
    /// Of all its memory.
    pub size: usize,
    pub identity: Identity,
    pub calls: usize,
    pub slot: usize,
    pub disk: File,
    pub tally: &'static Tally,
}

/// What a worker has.
pub struct Worker {
    pub random: Random,
    pub arena: Arena,
    pub pci: Pci,
    pub size: usize,
    pub identity: Identity,
    /// Opened as the ABI wants it.
    pub allocate: Option<OwnedFd>,
    /// Of the device's files, opened in whatever way.
    pub files: Vec<OwnedFd>,
    /// With pages of the device in it.
    pub pipe: (OwnedFd, OwnedFd),
    pub disk: File,
    /// With a page cache.
    pub scratch: File,
    pub rings: Vec<Ring>,
    pub rdma: Option<Rdma>,
    pub regions: Vec<Region>,
    /// That run beside it.
    pub children: Vec<Pid>,
    pub tally: &'static Tally,
    slot: usize,
    /// What the mapping of fresh memory is marked with.
    pub stamp: u64,
}

/// The body of a worker's process; its exit status.
pub fn main(order: Order) -> i32 {
    let calls = order.calls;
    match Worker::new(order) {
        Ok(mut worker) => {
            worker.run(KINDS.len(), calls);
            0
        }
        Err(error) => {
            eprintln!("a worker could not begin: {error:#}");
            1
        }
    }
}

impl Worker {
    fn new(order: Order) -> Result<Worker> {
        become_one(order.identity).context("giving up privileges")?;
        // SAFETY: takes a signal number and no memory.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        probe::catch_faults().context("signal handlers")?;
        let mut random = Random::new(order.seed);
        let arena = Arena::new().context("arena")?;
        if random.chance(1, 2) {
            toucher::start(&arena, Random::new(random.next_u64()));
        }
        Ok(Worker {
            stamp: random.next_u64() | 1,
            pipe: pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).context("pipe")?,
            scratch: calls::pins::scratch().context("memfd")?,
            arena,
            pci: order.pci,
            size: order.size,
            identity: order.identity,
            allocate: None,
            files: Vec::new(),
            disk: order.disk,
            rings: Vec::new(),
            rdma: None,
            regions: Vec::new(),
            children: Vec::new(),
            tally: order.tally,
            slot: order.slot,
            random,
        })
    }

    /// Makes so many calls, of the first `kinds` kinds.
    pub fn run(&mut self, kinds: usize, calls: usize) {
        let kinds = &KINDS[..kinds];
        let total = kinds.iter().map(|kind| kind.weight).sum();
        for _ in 0..calls {
            let mut number = self.random.below(total);
            let chosen = kinds.iter().position(|kind| {
                let found = number < kind.weight;
                number = number.wrapping_sub(kind.weight);
                found
            });
            self.make(chosen.expect("a number below the sum of the weights"));
        }
    }

    fn make(&mut self, kind: usize) {
        let slot = &self.tally.slots[self.slot];
        slot.kind.store(kind as u32, Relaxed);
        slot.calls.fetch_add(1, Relaxed);
        let count = &self.tally.kinds[kind];
        match (KINDS[kind].make)(self) {
            Ok(()) => count.succeeded.fetch_add(1, Relaxed),
            Err(_) => count.failed.fetch_add(1, Relaxed),
        };
    }

    /// Something does not hold.
    pub fn violation(&self, oracle: Oracle, what: &str) {
        let what = format!(
            "{what} (worker {}, {:?})",
            std::process::id(),
            self.identity
        );
        self.tally.violation(oracle, &what);
    }

    /// See [`Arena::look`].
    pub fn look(&mut self) {
        if let Err(line) = self.arena.look() {
            let what = format!("executable or private: {line}");
            self.violation(Oracle::ForbiddenCallsFail, &what);
        }
    }

    /// To be called first in a forked child.
    pub fn become_child(&mut self) {
        // The memory of these is not inherited, and what they hold is the parent's to release.
        std::mem::forget(std::mem::take(&mut self.rings));
        std::mem::forget(std::mem::take(&mut self.regions));
        std::mem::forget(self.rdma.take());
        self.children.clear();
        self.random = Random::new(self.random.next_u64());
        // MADV_DONTFORK is among the calls.
        self.look();
    }
}

fn become_one(identity: Identity) -> nix::Result<()> {
    let group = match identity {
        Identity::Root => return Ok(()),
        Identity::Member => Gid::from_raw(0),
        Identity::Stranger => Gid::from_raw(NOBODY),
    };
    let user = Uid::from_raw(NOBODY);
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // Or its own files in /proc would be root's.
    nix::sys::prctl::set_dumpable(true)
}
