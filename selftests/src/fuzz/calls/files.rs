// SPDX-License-Identifier: GPL-2.0

//! The device's files in sysfs, as files.

use crate::fuzz::syscall::call;
use crate::fuzz::tally::Oracle;
use crate::fuzz::worker::{Identity, Worker};
use crate::mapping::PAGE;
use nix::errno::Errno;
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// No worker keeps more.
const MOST: usize = 16;

const NAMES: &[&str] = &[
    "p2pmem/allocate",
    "p2pmem/allocate",
    "p2pmem/allocate",
    "p2pmem/size",
    "p2pmem/available",
    "p2pmem/draining",
    "p2pmem/published",
    "p2pmem",
    "p2pmem/nothing",
];

pub fn open_path(w: &Worker, name: &str, flags: i32) -> nix::Result<usize> {
    let path = w.pci.path(name);
    let path = CString::new(path.as_os_str().as_bytes()).expect("a path without NUL");
    let at = libc::AT_FDCWD as usize;
    let flags = (flags | libc::O_CLOEXEC) as usize;
    call(libc::SYS_openat, [at, path.as_ptr() as usize, flags, 0o777])
}

/// A file that is open; not always one.
fn file(w: &mut Worker) -> usize {
    match w.files.is_empty() || w.random.chance(1, 64) {
        true => *w.random.choose(&[usize::MAX, 1000]),
        false => w.random.choose(&w.files).as_raw_fd() as usize,
    }
}

fn keep(w: &mut Worker, fd: usize) {
    // SAFETY: opened just now, and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    if w.files.len() == MOST {
        let at = w.random.below(MOST);
        w.files.swap_remove(at);
    }
    w.files.push(fd);
}

pub fn open(w: &mut Worker) -> nix::Result<()> {
    const OTHERS: &[i32] = &[
        libc::O_TRUNC,
        libc::O_APPEND,
        libc::O_DIRECT,
        libc::O_NONBLOCK,
        libc::O_DIRECTORY,
        libc::O_PATH,
        libc::O_NOFOLLOW,
        libc::O_SYNC,
        libc::O_CREAT,
        libc::O_EXCL,
        libc::O_NOATIME,
        libc::O_TMPFILE,
        libc::O_ASYNC,
        1 << 30,
    ];
    let name = *w.random.choose(NAMES);
    let mut flags = w.random.below(3) as i32;
    while w.random.chance(1, 4) {
        flags |= *w.random.choose(OTHERS);
    }
    let fd = open_path(w, name, flags)?;
    keep(w, fd);
    let opened = flags & libc::O_PATH == 0;
    let writable = flags & libc::O_ACCMODE != libc::O_RDONLY;
    let allocate = name.ends_with("allocate");
    if opened && (allocate && w.identity == Identity::Stranger || writable && !allocate) {
        let what = format!("open of {name} with {flags:#o} succeeded");
        w.violation(Oracle::ForbiddenCallsFail, &what);
    }
    Ok(())
}

pub fn close(w: &mut Worker) -> nix::Result<()> {
    if w.files.is_empty() {
        return call(libc::SYS_close, [usize::MAX]).map(drop);
    }
    let at = w.random.below(w.files.len());
    w.files.swap_remove(at);
    if w.random.chance(1, 4) {
        w.allocate = None;
    }
    Ok(())
}

pub fn dup(w: &mut Worker) -> nix::Result<()> {
    let fd = call(libc::SYS_dup, [file(w)])?;
    keep(w, fd);
    Ok(())
}

/// Memory for a read or a write: the worker's own, or the device's.
fn buffer(w: &mut Worker, own: &mut [u8]) -> (usize, usize) {
    match w.random.chance(1, 2) {
        true => (own.as_mut_ptr() as usize, 1 + w.random.below(own.len())),
        false => w.arena.target(&mut w.random),
    }
}

fn position(w: &mut Worker) -> usize {
    match w.random.below(4) {
        0 => 0,
        1 => w.random.below(64),
        2 => w.random.below(2 * w.size),
        _ => w.random.next_u64() as usize,
    }
}

/// A read or write of any form.
fn transfer(w: &mut Worker, numbers: [i64; 4]) -> nix::Result<usize> {
    let mut own = [0x31; PAGE];
    let (fd, (address, len)) = (file(w), buffer(w, &mut own));
    let (half, position) = (len / 2, position(w));
    let vector = [[address, half], [address.wrapping_add(half), len - half]];
    let vector = vector.as_ptr() as usize;
    let form = w.random.below(4);
    let [plain, at, vectored, vectored_at] = numbers;
    match form {
        0 => call(plain, [fd, address, len]),
        1 => call(at, [fd, address, len, position]),
        2 => call(vectored, [fd, vector, 2]),
        _ => call(
            vectored_at,
            [fd, vector, 2, position, 0, w.random.below(128)],
        ),
    }
}

pub fn read(w: &mut Worker) -> nix::Result<()> {
    let forms = [
        libc::SYS_read,
        libc::SYS_pread64,
        libc::SYS_readv,
        libc::SYS_preadv2,
    ];
    transfer(w, forms).map(drop)
}

pub fn write(w: &mut Worker) -> nix::Result<()> {
    let forms = [
        libc::SYS_write,
        libc::SYS_pwrite64,
        libc::SYS_writev,
        libc::SYS_pwritev2,
    ];
    let written = transfer(w, forms)?;
    if written > 0 {
        let what = format!("{written} bytes written to a file");
        w.violation(Oracle::ForbiddenCallsFail, &what);
    }
    Ok(())
}

pub fn lseek(w: &mut Worker) -> nix::Result<()> {
    let (fd, position) = (file(w), position(w));
    call(libc::SYS_lseek, [fd, position, w.random.below(7)]).map(drop)
}

pub fn ioctl(w: &mut Worker) -> nix::Result<()> {
    // FIONREAD, FIONBIO, FIOQSIZE, TCGETS, FS_IOC_GETFLAGS, FS_IOC_FIEMAP, FIGETBSZ, BLKGETSIZE64,
    // FICLONE
    const REQUESTS: &[usize] = &[
        0x541b,
        0x5421,
        0x5460,
        0x5401,
        0x8008_6601,
        0xc020_660b,
        2,
        0x8008_1272,
        0x4004_9409,
    ];
    let fd = file(w);
    let request = match w.random.chance(1, 2) {
        true => *w.random.choose(REQUESTS),
        false => w.random.next_u64() as u32 as usize,
    };
    // The size of the argument is a part of the request, at most so much.
    let mut own = [0u8; 16 << 10];
    call(libc::SYS_ioctl, [fd, request, own.as_mut_ptr() as usize]).map(drop)
}

pub fn fsync(w: &mut Worker) -> nix::Result<()> {
    let fd = file(w);
    match w.random.below(3) {
        0 => call(libc::SYS_fsync, [fd]),
        1 => call(libc::SYS_fdatasync, [fd]),
        _ => call(libc::SYS_sync_file_range, [fd, 0, PAGE, w.random.below(9)]),
    }
    .map(drop)
}

pub fn truncate(w: &mut Worker) -> nix::Result<()> {
    let (fd, position) = (file(w), position(w));
    match w.random.chance(1, 2) {
        true => call(libc::SYS_ftruncate, [fd, position]),
        false => call(
            libc::SYS_fallocate,
            [fd, w.random.below(128), position, PAGE],
        ),
    }
    .map(drop)
}

/// Nothing of it waits: no F_SETLKW, and no lease, for which others would have to wait.
pub fn fcntl(w: &mut Worker) -> nix::Result<()> {
    const COMMANDS: &[i32] = &[
        libc::F_GETFD,
        libc::F_GETFL,
        libc::F_SETFL,
        libc::F_GETLK,
        libc::F_SETLK,
        libc::F_OFD_SETLK,
        libc::F_GETOWN,
        libc::F_GETLEASE,
        libc::F_GETPIPE_SZ,
        libc::F_ADD_SEALS,
        libc::F_GET_SEALS,
        4000,
    ];
    let fd = file(w);
    let mut lock = [0u64; 4];
    lock[0] = w.random.below(3) as u64;
    if w.random.chance(1, 3) {
        let flags = libc::LOCK_NB | *w.random.choose(&[1, 2, 8]);
        return call(libc::SYS_flock, [fd, flags as usize]).map(drop);
    }
    let command = *w.random.choose(COMMANDS);
    let argument = match command {
        // O_ASYNC would send signals.
        libc::F_SETFL => *w.random.choose(&[0, libc::O_APPEND, libc::O_NONBLOCK]) as usize,
        _ => lock.as_mut_ptr() as usize,
    };
    call(libc::SYS_fcntl, [fd, command as usize, argument]).map(drop)
}

pub fn splice_file(w: &mut Worker) -> nix::Result<()> {
    let fd = file(w);
    let (out, into) = (w.pipe.0.as_raw_fd() as usize, w.pipe.1.as_raw_fd() as usize);
    let scratch = w.scratch.as_raw_fd() as usize;
    let len = 1 + w.random.below(2 * PAGE);
    let flags = libc::SPLICE_F_NONBLOCK as usize | w.random.below(16);
    match w.random.below(6) {
        0 => call(libc::SYS_splice, [fd, 0, into, 0, len, flags]),
        1 => call(libc::SYS_splice, [out, 0, fd, 0, len, flags]).and_then(nothing_went_in),
        2 => call(libc::SYS_sendfile, [into, fd, 0, len]),
        3 => call(libc::SYS_sendfile, [fd, scratch, 0, len]).and_then(nothing_went_in),
        4 => call(libc::SYS_copy_file_range, [fd, 0, scratch, 0, len, 0]),
        _ => call(libc::SYS_copy_file_range, [scratch, 0, fd, 0, len, 0]),
    }
    .map(drop)
}

/// Of nothing, nothing goes into a file either.
fn nothing_went_in(len: usize) -> nix::Result<usize> {
    match len {
        0 => Err(Errno::ENODATA),
        _ => Ok(len),
    }
}

pub fn poll(w: &mut Worker) -> nix::Result<()> {
    let fd = file(w);
    match w.random.below(3) {
        0 => {
            let mut poll = libc::pollfd {
                fd: fd as i32,
                events: w.random.next_u64() as i16,
                revents: 0,
            };
            call(libc::SYS_poll, [&raw mut poll as usize, 1, 0])
        }
        1 => {
            let epoll = call(libc::SYS_epoll_create1, [libc::EPOLL_CLOEXEC as usize])?;
            // SAFETY: opened just now, and nobody else's.
            let _closes = unsafe { OwnedFd::from_raw_fd(epoll as i32) };
            let mut event = libc::epoll_event {
                events: w.random.next_u64() as u32,
                u64: 0,
            };
            let event = &raw mut event as usize;
            call(
                libc::SYS_epoll_ctl,
                [epoll, libc::EPOLL_CTL_ADD as usize, fd, event],
            )?;
            call(libc::SYS_epoll_wait, [epoll, event, 1, 0])
        }
        _ => {
            let inotify = call(libc::SYS_inotify_init1, [libc::IN_CLOEXEC as usize])?;
            // SAFETY: opened just now, and nobody else's.
            let _closes = unsafe { OwnedFd::from_raw_fd(inotify as i32) };
            let path = format!("/proc/self/fd/{fd}\0");
            let mask = w.random.below(0xfff) + 1;
            call(
                libc::SYS_inotify_add_watch,
                [inotify, path.as_ptr() as usize, mask],
            )
        }
    }
    .map(drop)
}

pub fn stat(w: &mut Worker) -> nix::Result<()> {
    let fd = file(w);
    let mut own = [0u8; PAGE];
    let own = own.as_mut_ptr() as usize;
    match w.random.below(5) {
        0 => call(libc::SYS_fstat, [fd, own]),
        1 => call(libc::SYS_fstatfs, [fd, own]),
        2 => call(libc::SYS_flistxattr, [fd, own, PAGE]),
        3 => call(libc::SYS_getdents64, [fd, own, PAGE]),
        _ => call(libc::SYS_readahead, [fd, 0, PAGE]),
    }
    .map(drop)
}
