// SPDX-License-Identifier: GPL-2.0

//! The addresses at which an owner maps device memory, and nothing else is ever mapped.
//!
//! Others read there at any moment, and must find device memory of that owner or nothing. The
//! arenas therefore lie far below what mmap chooses by itself.

use super::board::{self, MAX_OWNERS};
use crate::mapping::{Mapping, Request, HUGE, PAGE, READ, WRITE};
use anyhow::{Context, Result};
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use std::fs::File;
use std::ops::{Deref, Range};
use std::sync::atomic::Ordering::Relaxed;

const BASE: usize = 0x1000_0000_0000;
const SIZE: usize = 1 << 30;

/// A mapping has at most this size.
pub const MAX_LEN: usize = 4 << 20;

/// The address of place `n`, 0 or 1, in the arena of `owner`; places do not overlap.
fn place(owner: usize, n: usize) -> usize {
    BASE + owner * SIZE + n * (MAX_LEN + 2 * HUGE)
}

/// Device memory in an arena; unmapped on drop.
#[derive(Debug)]
pub struct Block {
    owner: usize,
    place: usize,
    mapping: Mapping,
}

impl Block {
    /// Maps `len` bytes, `misaligned` bytes behind a 2 MiB boundary.
    pub fn map(
        owner: usize,
        misaligned: usize,
        len: usize,
        flags: i32,
        file: &File,
    ) -> nix::Result<Block> {
        assert!(len <= MAX_LEN && misaligned < HUGE);
        let request = Request {
            flags: libc::MAP_SHARED | flags,
            at: Some(place(owner, 0) + misaligned),
            ..Request::shared(len)
        };
        Ok(Block {
            owner,
            place: 0,
            mapping: request.map(file)?,
        })
    }

    /// The words at the byte offsets, a multiple of their size.
    pub fn words(&self, offsets: Range<usize>) -> impl Iterator<Item = u64> + '_ {
        offsets.step_by(8).map(|offset| self.read(offset))
    }

    /// Makes a VMA of its own of the bytes and gives them back what they had.
    pub fn protect_and_back(&self, offsets: Range<usize>) -> nix::Result<()> {
        self.protect(offsets.clone(), READ)?;
        self.protect(offsets, READ | WRITE)
    }

    /// mremap to the other place of the arena, with the same misalignment.
    pub fn move_over(&mut self) -> nix::Result<()> {
        let other = 1 - self.place;
        let to = place(self.owner, other) + self.address() % HUGE;
        self.mapping.move_to(to)?;
        self.place = other;
        Ok(())
    }

    /// Unmaps the end from `at` on, and then the rest.
    pub fn unmap_in_two(self, at: usize) {
        let (head, tail) = self.mapping.split(at);
        drop(tail);
        drop(head);
    }
}

impl Deref for Block {
    type Target = Mapping;

    fn deref(&self) -> &Mapping {
        &self.mapping
    }
}

/// From now on an owner whose device goes away finds ordinary memory in place of it, and is marked
/// as lost: it may stumble over that at any access.
pub fn survive_sigbus() -> Result<()> {
    let action = SigAction::new(
        SigHandler::SigAction(on_sigbus),
        SaFlags::SA_SIGINFO,
        SigSet::empty(),
    );
    // SAFETY: the handler makes only calls that a signal handler may make.
    unsafe { sigaction(Signal::SIGBUS, &action) }.context("SIGBUS")?;
    Ok(())
}

extern "C" fn on_sigbus(_: i32, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid one.
    let address = unsafe { (*info).si_addr() } as usize;
    let owner = address.wrapping_sub(BASE) / SIZE;
    let page = address & !(PAGE - 1);
    let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: these calls may be made here. The page is in an arena, where only device memory is,
    // to which nothing has a Rust reference.
    unsafe {
        if address >= BASE && owner < MAX_OWNERS {
            board::lost(owner).store(true, Relaxed);
            if libc::mmap(page as *mut _, PAGE, prot, flags, -1, 0) != libc::MAP_FAILED {
                return;
            }
        }
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
}
