// SPDX-License-Identifier: GPL-2.0

//! The addresses at which an owner maps device memory, and nothing else is ever mapped.
//!
//! Others read there at any moment, and must find device memory of that owner or nothing. The
//! arenas therefore lie far below what mmap chooses by itself.

use super::board::{self, MAX_OWNERS};
use crate::mapping::{HUGE, PAGE};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
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
    address: usize,
    len: usize,
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
        let address = place(owner, 0) + misaligned;
        let flags = libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE | flags;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: MAP_FIXED_NOREPLACE changes nothing that is mapped already.
        let result =
            unsafe { libc::mmap(address as *mut _, len, prot, flags, file.as_raw_fd(), 0) };
        Errno::result(result).map(|_| Block {
            owner,
            place: 0,
            address,
            len,
        })
    }

    pub fn address(&self) -> usize {
        self.address
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn range(&self) -> Range<usize> {
        self.address..self.address + self.len
    }

    /// The words at the byte offsets, a multiple of their size.
    pub fn words(&self, offsets: Range<usize>) -> impl Iterator<Item = u64> + use<> {
        assert!(offsets.start % 8 == 0 && offsets.end <= self.len);
        let start = self.address;
        // SAFETY: they lie in the mapping, to which nothing has a Rust reference.
        offsets
            .step_by(8)
            .map(move |offset| unsafe { ((start + offset) as *const u64).read_volatile() })
    }

    pub fn write(&self, offset: usize, word: u64) {
        assert!(offset % 8 == 0 && offset + 8 <= self.len);
        // SAFETY: it lies in the mapping, to which nothing has a Rust reference.
        unsafe { ((self.address + offset) as *mut u64).write_volatile(word) };
    }

    /// An iovec of the bytes at the offsets, for calls that pin them.
    pub fn iovec(&self, offsets: Range<usize>) -> libc::iovec {
        assert!(offsets.start <= offsets.end && offsets.end <= self.len);
        libc::iovec {
            iov_base: (self.address + offsets.start) as *mut _,
            iov_len: offsets.len(),
        }
    }

    pub fn advise(&self, offsets: Range<usize>, advice: i32) -> nix::Result<()> {
        let range = self.iovec(offsets);
        // SAFETY: nothing has a Rust reference into the range.
        Errno::result(unsafe { libc::madvise(range.iov_base, range.iov_len, advice) }).map(drop)
    }

    /// Makes a VMA of its own of the bytes and gives them back what they had.
    pub fn protect_and_back(&self, offsets: Range<usize>) -> nix::Result<()> {
        let range = self.iovec(offsets);
        for prot in [libc::PROT_READ, libc::PROT_READ | libc::PROT_WRITE] {
            // SAFETY: as for `advise`.
            Errno::result(unsafe { libc::mprotect(range.iov_base, range.iov_len, prot) })?;
        }
        Ok(())
    }

    /// mremap to the other place of the arena, with the same misalignment.
    pub fn move_over(&mut self) -> nix::Result<()> {
        let other = 1 - self.place;
        let to = place(self.owner, other) + self.address % HUGE;
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        // SAFETY: both ranges are this owner's, and nothing is mapped at the new one.
        let result = unsafe {
            libc::mremap(
                self.address as *mut libc::c_void,
                self.len,
                self.len,
                flags,
                to as *mut libc::c_void,
            )
        };
        Errno::result(result)?;
        self.place = other;
        self.address = to;
        Ok(())
    }

    /// Unmaps the end from `at` on.
    pub fn cut(&mut self, at: usize) {
        drop(Block {
            address: self.address + at,
            len: self.len - at,
            ..*self
        });
        self.len = at;
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: the range is ours, and with `self` the last way to it goes.
            unsafe { libc::munmap(self.address as *mut _, self.len) };
        }
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
