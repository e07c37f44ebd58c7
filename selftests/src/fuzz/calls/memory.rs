// SPDX-License-Identifier: GPL-2.0

//! What may be asked of memory that is mapped, without touching it.

use crate::fuzz::syscall::call;
use crate::fuzz::tally::Oracle;
use crate::fuzz::worker::{Identity, Worker};
use crate::mapping::PAGE;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const GUARD_INSTALL: usize = 102;

/// A piece of advice that exists or not.
fn advice(w: &mut Worker) -> usize {
    loop {
        let advice = match w.random.chance(1, 2) {
            true => w.random.below(27),
            false => w.random.below(111),
        };
        // MADV_HWPOISON and MADV_SOFT_OFFLINE: root who says that memory is broken gets what he
        // asked for, in the kernel log too.
        if !matches!(advice, 100 | 101) || w.identity != Identity::Root {
            return advice;
        }
    }
}

pub fn madvise(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    let advice = advice(w);
    call(libc::SYS_madvise, [address, len, advice])?;
    if advice == GUARD_INSTALL && w.arena.has_area(address, len) {
        w.violation(
            Oracle::ForbiddenCallsFail,
            "a guard region in the device's memory",
        );
    }
    Ok(())
}

pub fn process_madvise(w: &mut Worker) -> nix::Result<()> {
    let own = call(libc::SYS_pidfd_open, [std::process::id() as usize, 0])?;
    // SAFETY: opened just now, and nobody else's.
    let own = unsafe { OwnedFd::from_raw_fd(own as i32) };
    let ranges = [(); 3].map(|()| w.arena.target(&mut w.random));
    let count = 1 + w.random.below(3);
    let numbers = [
        own.as_raw_fd() as usize,
        ranges.as_ptr() as usize,
        count,
        advice(w),
        0,
    ];
    call(libc::SYS_process_madvise, numbers).map(drop)
}

pub fn mlock(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    let flags = w.random.below(3);
    match w.random.chance(1, 2) {
        true => call(libc::SYS_mlock, [address, len]),
        false => call(libc::SYS_mlock2, [address, len, flags]),
    }
    .map(drop)
}

pub fn munlock(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    call(libc::SYS_munlock, [address, len]).map(drop)
}

pub fn msync(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    call(libc::SYS_msync, [address, len, w.random.below(9)]).map(drop)
}

pub fn mincore(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    // One byte for each page; the longest that fail do so before they are written.
    let mut pages = vec![0u8; (len / PAGE).min(1 << 17) + 1];
    call(
        libc::SYS_mincore,
        [address, len, pages.as_mut_ptr() as usize],
    )
    .map(drop)
}

pub fn mbind(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    let nodes = [w.random.below(4)];
    let mode = w.random.below(8);
    let flags = w.random.below(9);
    let nodes = nodes.as_ptr() as usize;
    match w.random.chance(1, 8) {
        true => call(libc::SYS_set_mempolicy_home_node, [address, len, 0, 0]),
        false => call(libc::SYS_mbind, [address, len, mode, nodes, 64, flags]),
    }
    .map(drop)
}

pub fn move_pages(w: &mut Worker) -> nix::Result<()> {
    let addresses = [(); 8].map(|()| w.arena.target(&mut w.random).0);
    let nodes = [(); 8].map(|()| w.random.below(2) as i32);
    let mut status = [0i32; 8];
    let nodes = match w.random.chance(1, 2) {
        true => nodes.as_ptr() as usize,
        // Only says where they are.
        false => 0,
    };
    let status = status.as_mut_ptr() as usize;
    let flags = *w.random.choose(&[0, 2, 4, 6]);
    call(
        libc::SYS_move_pages,
        [0, 8, addresses.as_ptr() as usize, nodes, status, flags],
    )
    .map(drop)
}

pub fn migrate_pages(w: &mut Worker) -> nix::Result<()> {
    let (from, to) = ([w.random.below(4)], [w.random.below(4)]);
    let (from, to) = (from.as_ptr() as usize, to.as_ptr() as usize);
    call(libc::SYS_migrate_pages, [0, 64, from, to]).map(drop)
}

pub fn set_mempolicy(w: &mut Worker) -> nix::Result<()> {
    let nodes = [w.random.below(4)];
    let nodes = nodes.as_ptr() as usize;
    call(libc::SYS_set_mempolicy, [w.random.below(8), nodes, 64]).map(drop)
}

/// Registers memory, for as long as the call lasts.
pub fn userfaultfd(w: &mut Worker) -> nix::Result<()> {
    const UFFDIO_API: usize = 0xc018_aa3f;
    const UFFDIO_REGISTER: usize = 0xc020_aa00;
    const UFFDIO_ZEROPAGE: usize = 0xc020_aa04;
    const USER_MODE_ONLY: usize = 1;
    let flags = libc::O_CLOEXEC as usize | libc::O_NONBLOCK as usize | USER_MODE_ONLY;
    let fd = call(libc::SYS_userfaultfd, [flags])?;
    // SAFETY: opened just now, and nobody else's.
    let _closes = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut api = [0xaau64, 0, 0];
    call(libc::SYS_ioctl, [fd, UFFDIO_API, api.as_mut_ptr() as usize])?;

    let (address, len) = w.arena.target(&mut w.random);
    let mode = 1 + w.random.below(7) as u64;
    let mut registration = [address as u64, len as u64, mode, 0];
    let registration = registration.as_mut_ptr() as usize;
    let result = call(libc::SYS_ioctl, [fd, UFFDIO_REGISTER, registration]);
    if result.is_ok() && w.arena.has_area(address, len) {
        w.violation(
            Oracle::ForbiddenCallsFail,
            "userfaultfd has the device's memory",
        );
    }
    let mut zeros = [address as u64, len.min(16 * PAGE) as u64, 0, 0];
    let _ = call(
        libc::SYS_ioctl,
        [fd, UFFDIO_ZEROPAGE, zeros.as_mut_ptr() as usize],
    );
    result.map(drop)
}

/// Operations of futex that end by themselves, or at once with the time that is over.
pub fn futex(w: &mut Worker) -> nix::Result<()> {
    let (one, two) = (w.arena.word(&mut w.random), w.arena.word(&mut w.random));
    let operation = w.random.below(14);
    let private = *w.random.choose(&[0, libc::FUTEX_PRIVATE_FLAG as usize]);
    let over = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1000,
    };
    let waits = matches!(operation as i32, libc::FUTEX_WAIT | 6 | 9 | 11 | 13);
    // For the others it is a number.
    let fourth = if waits {
        &raw const over as usize
    } else {
        w.random.below(4)
    };
    let value = *w.random.choose(&[0, 1, w.stamp as u32 as usize]);
    call(
        libc::SYS_futex,
        [one, operation | private, value, fourth, two, 0],
    )
    .map(drop)
}

pub fn prctl(w: &mut Worker) -> nix::Result<()> {
    const SET_MEMORY_MERGE: usize = 67;
    let (address, len) = w.arena.target(&mut w.random);
    let name = c"fuzz".as_ptr() as usize;
    match w.random.below(4) {
        0 | 1 => {
            let option = libc::PR_SET_THP_DISABLE as usize;
            call(
                libc::SYS_prctl,
                [option, w.random.below(2), w.random.below(3), 0, 0],
            )
        }
        2 => call(
            libc::SYS_prctl,
            [SET_MEMORY_MERGE, w.random.below(2), 0, 0, 0],
        ),
        _ => {
            let option = libc::PR_SET_VMA as usize;
            let what = libc::PR_SET_VMA_ANON_NAME as usize;
            call(libc::SYS_prctl, [option, what, address, len, name])
        }
    }
    .and_then(|result| match result {
        0 => Ok(()),
        _ => Err(Errno::EINVAL),
    })
}
