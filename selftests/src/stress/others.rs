// SPDX-License-Identifier: GPL-2.0

//! Those who own nothing for long: one that allocates as fast as it can, one that lets go of page
//! table entries, and one that looks at other processes' memory.

use super::arena::{Block, MAX_LEN};
use super::board::{lost, Board, Count, MAX_OWNERS};
use super::hold;
use super::stamp::Stamp;
use super::worker::{check_zero, fill};
use crate::mapping::PAGE;
use crate::random::Random;
use anyhow::Result;
use nix::errno::Errno;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

/// Allocates until the board says stop.
pub fn grab(board: &'static Board, owner: usize, seed: u64, allocate: &Path) -> Result<()> {
    let mut random = Random::new(seed);
    let me = &board.owners[owner];
    let mut file = None;
    while !board.stopped() {
        if board.pause.load(Relaxed) {
            file = None;
            me.idle.store(true, Relaxed);
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        me.idle.store(false, Relaxed);
        lost(owner).store(false, Relaxed);
        let most = match random.chance(1, 128) {
            true => MAX_LEN / PAGE,
            false => 16,
        };
        let len = (1 + random.below(most)) * PAGE;
        match grab_once(board, owner, len, &mut file, allocate) {
            Ok(()) => board.add(Count::Grabbed, 1),
            Err(e) if is(&e, Errno::ENOMEM) => {
                board.add(Count::NoMemory, 1);
                thread::yield_now();
            }
            Err(e) if board.device_may_go.load(Relaxed) && is_gone(&e) => {
                board.add(Count::Gone, 1);
                file = None;
                thread::sleep(Duration::from_millis(1));
            }
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn is(error: &anyhow::Error, errno: Errno) -> bool {
    error.downcast_ref::<Errno>() == Some(&errno)
}

fn is_gone(error: &anyhow::Error) -> bool {
    is(error, Errno::ENODEV) || error.is::<std::io::Error>()
}

fn grab_once(
    board: &'static Board,
    owner: usize,
    len: usize,
    file: &mut Option<File>,
    allocate: &Path,
) -> Result<()> {
    let file = match file {
        Some(file) => file,
        None => file.insert(File::options().read(true).write(true).open(allocate)?),
    };
    let me = &board.owners[owner];
    let block = Block::map(owner, 0, len, 0, file)?;
    let stamp = Stamp {
        owner,
        generation: me.generation.fetch_add(1, Relaxed) + 1,
    };
    check_zero(board, owner, &block);
    fill(&block, stamp);
    board.check_mapped("mapped", stamp, 0, block.words(0..len));
    Ok(())
}

/// Lets go of page table entries of these owners, which are of this process, whatever they are doing,
/// until the board says stop. The memory stays what it is.
pub fn forget(board: &'static Board, owners: Range<usize>, seed: u64) {
    let mut random = Random::new(seed);
    while !board.stopped() {
        thread::sleep(Duration::from_micros(random.below(4000) as u64));
        let it = &board.owners[owners.start + random.below(owners.len())];
        let (address, len) = (it.address.load(Relaxed), it.len.load(Relaxed) as usize);
        if len == 0 {
            continue;
        }
        let start = random.below(len / PAGE) * PAGE;
        let part = PAGE + random.below((len - start) / PAGE) * PAGE;
        let start = (address as usize + start) as *mut libc::c_void;
        // SAFETY: in an arena, where only device memory is, to which nothing has a Rust reference.
        // It may be mapped elsewhere by now, or not at all.
        if unsafe { libc::madvise(start, part, libc::MADV_DONTNEED) } == 0 {
            board.add(Count::DontNeed, 1);
        }
    }
}

/// Looks at the memory of others until the board says stop.
pub fn peek(board: &'static Board, seed: u64) -> Result<()> {
    const MOST: usize = 8 * PAGE;
    let mut random = Random::new(seed);
    let mut bytes = vec![0; MOST];
    while !board.stopped() {
        // A look at each mapping is enough: the processor is for those who change something.
        thread::sleep(Duration::from_micros(random.below(500) as u64));
        let owner = random.below(MAX_OWNERS);
        let it = &board.owners[owner];
        let (pid, len) = (it.pid.load(Relaxed), it.len.load(Relaxed) as usize);
        if pid == 0 || len == 0 {
            continue;
        }
        let at = random.below(len / PAGE) * PAGE;
        let address = it.address.load(Relaxed) + at as u64;
        let wanted = &mut bytes[..MOST.min(len - at)];
        let (count, result) = match random.chance(7, 8) {
            true => (Count::Readv, readv(pid, address, wanted)),
            false => (Count::ProcMem, read_mem(pid, address, wanted)),
        };
        // The owner may unmap it or be killed at any moment.
        let Ok(n) = result else { continue };
        board.add(count, 1);
        for (index, word) in hold::words(&bytes[..n]).enumerate() {
            if word != 0 && !Stamp::is_of(word, owner) {
                let expected = Stamp {
                    owner,
                    generation: it.generation.load(Relaxed),
                };
                let index = at / 8 + index;
                board.mismatch("from outside", owner, index, word, expected.word(index));
                break;
            }
        }
    }
    Ok(())
}

fn readv(pid: u32, address: u64, bytes: &mut [u8]) -> nix::Result<usize> {
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let remote = libc::iovec {
        iov_base: address as *mut _,
        iov_len: bytes.len(),
    };
    // SAFETY: writes to `bytes` only.
    let n = unsafe { libc::process_vm_readv(pid as i32, &local, 1, &remote, 1, 0) };
    Errno::result(n).map(|n| n as usize)
}

fn read_mem(pid: u32, address: u64, bytes: &mut [u8]) -> nix::Result<usize> {
    let mut read = || File::open(format!("/proc/{pid}/mem"))?.read_at(bytes, address);
    read().map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))
}

/// The bytes that a killed owner left in its pipe.
pub fn check_left(board: &Board, owner: usize, bytes: &[u8]) {
    // What replaces a device that is gone is zero.
    let is_replaced = |word| word == 0 && board.device_may_go.load(Relaxed);
    for (index, word) in hold::words(bytes).enumerate() {
        if !Stamp::is_of(word, owner) && !is_replaced(word) {
            let stamp = Stamp {
                owner,
                generation: board.owners[owner].generation.load(Relaxed),
            };
            let expected = stamp.word(index);
            board.mismatch("left in a pipe", owner, index, word, expected);
            return;
        }
    }
    board.add(Count::Words, (bytes.len() / 8) as u64);
}
