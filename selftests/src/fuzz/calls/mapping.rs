// SPDX-License-Identifier: GPL-2.0

//! Mapping memory of the device, touching it, and changing where and how it is mapped.

use crate::fuzz::probe;
use crate::fuzz::syscall::call;
use crate::fuzz::tally::Oracle;
use crate::fuzz::worker::{Identity, Worker};
use crate::mapping::{EXEC, HUGE, PAGE, READ, WRITE};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const READ_IMPLIES_EXEC: usize = 0x0040_0000;

/// Until this is dropped what can be read can be executed, where that is possible.
struct ReadImpliesExec(bool);

impl ReadImpliesExec {
    fn at_times(w: &mut Worker) -> ReadImpliesExec {
        let on = w.random.chance(1, 30);
        if on {
            let _ = call(libc::SYS_personality, [READ_IMPLIES_EXEC]);
        }
        ReadImpliesExec(on)
    }
}

impl Drop for ReadImpliesExec {
    fn drop(&mut self) {
        if self.0 {
            let _ = call(libc::SYS_personality, [0]);
        }
    }
}

/// A file to map, and whether it is `allocate`, opened as the ABI wants it.
fn file_to_map(w: &mut Worker) -> nix::Result<(i32, bool)> {
    if w.random.chance(1, 12) && !w.files.is_empty() {
        return Ok((w.random.choose(&w.files).as_raw_fd(), false));
    }
    if w.allocate.is_none() {
        let fd = super::files::open_path(w, "p2pmem/allocate", libc::O_RDWR)?;
        if w.identity == Identity::Stranger {
            w.violation(Oracle::ForbiddenCallsFail, "a stranger opened allocate");
        }
        // SAFETY: opened just now, and nobody else's.
        w.allocate = Some(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    }
    Ok((w.allocate.as_ref().map_or(-1, AsRawFd::as_raw_fd), true))
}

fn length(w: &mut Worker) -> usize {
    let random = &mut w.random;
    match random.below(40) {
        0 => 0,
        1 => 1 + random.below(HUGE),
        2 => w.size,
        3 => w.size + PAGE,
        4 => usize::MAX - random.below(2 * PAGE),
        5 => w.size / 2,
        6..=15 => HUGE * (1 + random.below(3)) + PAGE * random.below(512),
        16..=20 => HUGE,
        _ => PAGE * (1 + random.below(24)),
    }
}

fn flags(w: &mut Worker) -> i32 {
    // Not MAP_ANONYMOUS, which would have the file ignored.
    const OTHERS: &[i32] = &[
        libc::MAP_POPULATE,
        libc::MAP_LOCKED,
        libc::MAP_NORESERVE,
        libc::MAP_GROWSDOWN,
        libc::MAP_HUGETLB,
        libc::MAP_HUGETLB | libc::MAP_HUGE_2MB,
        libc::MAP_SYNC,
        libc::MAP_NONBLOCK,
        libc::MAP_STACK,
        libc::MAP_DENYWRITE,
        libc::MAP_EXECUTABLE,
        libc::MAP_32BIT,
        1 << 26,
    ];
    const TYPES: &[i32] = &[
        libc::MAP_PRIVATE,
        libc::MAP_SHARED_VALIDATE,
        // MAP_DROPPABLE, and what is no type.
        8,
        0,
        9,
    ];
    let random = &mut w.random;
    let mut flags = match random.below(20) {
        0 => *random.choose(TYPES),
        _ => libc::MAP_SHARED,
    };
    if random.chance(1, 4) {
        flags |= libc::MAP_POPULATE;
    }
    while random.chance(1, 8) {
        flags |= *random.choose(OTHERS);
    }
    flags
}

fn protection(w: &mut Worker) -> i32 {
    match w.random.below(24) {
        0 => w.random.below(32) as i32,
        1 => READ | WRITE | EXEC,
        2 => READ | EXEC,
        3 => w.random.next_u64() as i32,
        4 => libc::PROT_NONE,
        5 => READ,
        6 => WRITE,
        _ => READ | WRITE,
    }
}

pub fn mmap(w: &mut Worker) -> nix::Result<()> {
    let (fd, is_allocate) = file_to_map(w)?;
    let (len, prot, mut flags) = (length(w), protection(w), flags(w));
    let offset = match w.random.below(32) {
        0 => PAGE * (1 + w.random.below(1 << 14)),
        1 => w.random.next_u64() as usize,
        _ => 0,
    };
    let mut address = 0;
    if let Some(place) = w.arena.place(&mut w.random, len) {
        address = place;
        match w.random.below(16) {
            // Where something is mapped, with and without replacing that.
            0 => flags |= libc::MAP_FIXED_NOREPLACE,
            1..=8 => flags |= libc::MAP_FIXED,
            // Into a hole, or wherever else the kernel wants it.
            _ => drop(call(libc::SYS_munmap, [place, len])),
        }
    }
    let implied = ReadImpliesExec::at_times(w);
    let numbers = [
        address,
        len,
        prot as usize,
        flags as usize,
        fd as usize,
        offset,
    ];
    let result = call(libc::SYS_mmap, numbers);
    drop(implied);
    // It may have replaced what was there and failed then.
    w.look();
    let address = match result {
        Ok(address) => address,
        Err(error) => {
            if error == Errno::ENODEV && is_allocate {
                // It was opened before the device was unbound.
                w.allocate = None;
            }
            return Err(error);
        }
    };

    let private = flags & libc::MAP_TYPE == libc::MAP_PRIVATE;
    let mode = call(libc::SYS_fcntl, [fd as usize, libc::F_GETFL as usize])?;
    let read_only = mode as i32 & libc::O_ACCMODE == libc::O_RDONLY && prot & WRITE != 0;
    if private || offset != 0 || prot & EXEC != 0 || len > w.size || read_only {
        let what = format!(
            "mmap({len:#x}, {prot:#x}, {flags:#x}, {offset:#x}) of a file opened with {mode:#o} \
             succeeded"
        );
        w.violation(Oracle::ForbiddenCallsFail, &what);
    }
    if prot & (READ | WRITE) != 0 {
        check_zero(w, address, len);
    }
    if prot & WRITE != 0 {
        mark(w, address, len);
    }
    Ok(())
}

/// Looks at words of memory that nobody has written to yet: all of a few pages, some of many.
fn check_zero(w: &mut Worker, address: usize, len: usize) {
    let len = len.next_multiple_of(PAGE);
    let every = if len <= 8 * PAGE { len / 8 } else { 256 };
    for index in 0..every {
        let offset = match every < len / 8 {
            // Both ends, and then anywhere.
            true if index == 0 => 0,
            true if index == 1 => len - 8,
            true => w.random.below(len / 8) * 8,
            false => index * 8,
        };
        match probe::load(address + offset) {
            Some(0) => {}
            Some(word) => {
                let what = format!("{word:#018x} at {offset:#x} of new {len:#x} bytes");
                return w.violation(Oracle::FreshMemoryIsZero, &what);
            }
            // Unbound meanwhile.
            None => return,
        }
    }
}

/// Leaves something that others must not see.
fn mark(w: &mut Worker, address: usize, len: usize) {
    let len = len.next_multiple_of(PAGE);
    let pages = len / PAGE;
    for index in 0..pages.min(64) {
        let page = match pages <= 64 {
            true => index,
            false => w.random.below(pages),
        };
        let offset = page * PAGE + w.random.below(PAGE / 8) * 8;
        if probe::store(address + offset, w.stamp).is_none() {
            return;
        }
    }
}

pub fn load(w: &mut Worker) -> nix::Result<()> {
    let address = w.arena.word(&mut w.random);
    probe::load(address).map(drop).ok_or(Errno::EFAULT)
}

pub fn store(w: &mut Worker) -> nix::Result<()> {
    let address = w.arena.word(&mut w.random);
    probe::store(address, w.stamp).ok_or(Errno::EFAULT)
}

pub fn munmap(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    let result = call(libc::SYS_munmap, [address, len]);
    w.look();
    result.map(drop)
}

pub fn mremap(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    let new_len = match w.random.below(8) {
        0 => len.saturating_add(PAGE * (1 + w.random.below(512))),
        1 => (len / 2).next_multiple_of(PAGE),
        2 => 1 + w.random.below(HUGE),
        3 => *w.random.choose(&[0, usize::MAX]),
        _ => len,
    };
    let old_len = if w.random.chance(1, 10) { 0 } else { len };
    let flags = match w.random.below(3) {
        0 => w.random.below(16) as i32,
        1 => libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
        _ => libc::MREMAP_MAYMOVE,
    };
    let place = w.arena.place(&mut w.random, new_len);
    if place.is_none() && flags & libc::MREMAP_FIXED != 0 {
        return Err(Errno::EINVAL);
    }
    let to = place.unwrap_or(0);
    let result = call(
        libc::SYS_mremap,
        [address, old_len, new_len, flags as usize, to],
    );
    w.look();
    result.map(drop)
}

pub fn mprotect(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    let prot = protection(w);
    // Not PROT_GROWSDOWN and _GROWSUP: the stack is outside the arena.
    let prot = prot & !(libc::PROT_GROWSDOWN | libc::PROT_GROWSUP);
    let implied = ReadImpliesExec::at_times(w);
    let result = match w.random.chance(1, 8) {
        true => {
            let key = *w.random.choose(&[usize::MAX, 0, 1, 99]);
            call(libc::SYS_pkey_mprotect, [address, len, prot as usize, key])
        }
        false => call(libc::SYS_mprotect, [address, len, prot as usize]),
    };
    drop(implied);
    w.look();
    result.map(drop)
}

/// Never succeeds: the files of p2pmem's mappings cannot be mapped once more.
pub fn remap_file_pages(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    let page = w.random.below(2048);
    let flags = *w
        .random
        .choose(&[0, libc::MAP_NONBLOCK as usize, libc::MAP_SHARED as usize]);
    let result = call(libc::SYS_remap_file_pages, [address, len, 0, page, flags]);
    w.look();
    result.map(drop)
}
