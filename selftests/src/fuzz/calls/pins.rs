// SPDX-License-Identifier: GPL-2.0

//! Calls that pin memory, for a moment or until something is released.

use crate::fuzz::syscall::call;
use crate::fuzz::worker::Worker;
use crate::mapping::PAGE;
use crate::uring::Ring;
use crate::verbs::Rdma;
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

/// No worker keeps more of a kind.
const MOST: usize = 4;
/// Bytes of one transfer at most.
const TRANSFER: usize = 1 << 20;
const DISK: usize = 256 << 20;

/// A file in memory, with something in it.
pub fn scratch() -> nix::Result<File> {
    let fd = call(libc::SYS_memfd_create, [c"fuzz".as_ptr() as usize, 1])?;
    // SAFETY: opened just now, and nobody else's.
    let file = unsafe { File::from_raw_fd(fd as i32) };
    call(libc::SYS_ftruncate, [fd, TRANSFER])?;
    Ok(file)
}

/// The pages stay in the pipe until somebody takes them out.
pub fn vmsplice(w: &mut Worker) -> nix::Result<()> {
    let ranges = [(); 4].map(|()| w.arena.target(&mut w.random));
    let ranges = ranges.map(|(address, len)| [address, len]);
    let into = w.pipe.1.as_raw_fd() as usize;
    let count = 1 + w.random.below(4);
    let flags = libc::SPLICE_F_NONBLOCK as usize | w.random.below(16);
    call(
        libc::SYS_vmsplice,
        [into, ranges.as_ptr() as usize, count, flags],
    )
    .map(drop)
}

pub fn drain_pipe(w: &mut Worker) -> nix::Result<()> {
    let out = w.pipe.0.as_raw_fd() as usize;
    let scratch = w.scratch.as_raw_fd() as usize;
    let len = 1 + w.random.below(8 * PAGE);
    let flags = libc::SPLICE_F_NONBLOCK as usize | w.random.below(16);
    match w.random.below(4) {
        0 => call(libc::SYS_splice, [out, 0, scratch, 0, len, flags]),
        1 => {
            let other = nix::unistd::pipe2(nix::fcntl::OFlag::O_NONBLOCK)?;
            let into = other.1.as_raw_fd() as usize;
            call(libc::SYS_tee, [out, into, len, flags])?;
            call(
                libc::SYS_splice,
                [other.0.as_raw_fd() as usize, 0, scratch, 0, len, flags],
            )
        }
        2 => {
            let (address, len) = w.arena.target(&mut w.random);
            call(libc::SYS_read, [out, address, len])
        }
        _ => {
            let mut own = [0u8; 4 * PAGE];
            call(libc::SYS_read, [out, own.as_mut_ptr() as usize, own.len()])
        }
    }
    .map(drop)
}

/// A transfer between a file and memory of the arena.
fn file_io(w: &mut Worker, fd: usize, size: usize) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    let len = if len > usize::MAX / 2 {
        len
    } else {
        len.min(TRANSFER)
    };
    let unit = *w.random.choose(&[PAGE, PAGE, 512, 1]);
    let offset = w.random.below(size) / unit * unit;
    let number = *w.random.choose(&[libc::SYS_pread64, libc::SYS_pwrite64]);
    call(number, [fd, address, len, offset]).map(drop)
}

pub fn direct_io(w: &mut Worker) -> nix::Result<()> {
    let fd = w.disk.as_raw_fd() as usize;
    file_io(w, fd, DISK - TRANSFER)
}

pub fn buffered_io(w: &mut Worker) -> nix::Result<()> {
    let fd = w.scratch.as_raw_fd() as usize;
    file_io(w, fd, TRANSFER)
}

pub fn process_vm(w: &mut Worker) -> nix::Result<()> {
    let own = std::process::id() as usize;
    let mut local = [0x77u8; 4 * PAGE];
    let local = [[local.as_mut_ptr() as usize, local.len()]];
    let remote = [(); 3].map(|()| w.arena.target(&mut w.random));
    let remote = remote.map(|(address, len)| [address, len]);
    let (local, remote) = (local.as_ptr() as usize, remote.as_ptr() as usize);
    let number = *w
        .random
        .choose(&[libc::SYS_process_vm_readv, libc::SYS_process_vm_writev]);
    call(number, [own, local, 1, remote, 3, 0]).map(drop)
}

pub fn register_buffers(w: &mut Worker) -> nix::Result<()> {
    let (address, len) = w.arena.target(&mut w.random);
    let ring = Ring::with_range(address..address.saturating_add(len)).map_err(root_errno)?;
    if w.rings.len() == MOST {
        let at = w.random.below(MOST);
        w.rings.swap_remove(at);
    }
    w.rings.push(ring);
    Ok(())
}

/// The buffer may have been unmapped long ago.
pub fn fixed_io(w: &mut Worker) -> nix::Result<()> {
    if w.rings.is_empty() {
        return Err(Errno::ENOENT);
    }
    let at = w.random.below(w.rings.len());
    let ring = &mut w.rings[at];
    let pages = ring.len() / PAGE;
    if pages == 0 {
        return Err(Errno::EINVAL);
    }
    let first = w.random.below(pages);
    let count = 1 + w.random.below((pages - first).min(TRANSFER / PAGE));
    let part = first * PAGE..(first + count) * PAGE;
    let offset = (w.random.below(DISK - TRANSFER) / PAGE * PAGE) as u64;
    match w.random.chance(1, 2) {
        true => ring.read_fixed(&w.disk, part, offset),
        false => ring.write_fixed(&w.disk, part, offset),
    }
    .map_err(root_errno)
}

pub fn unregister_buffers(w: &mut Worker) -> nix::Result<()> {
    if w.rings.is_empty() {
        return Err(Errno::ENOENT);
    }
    let at = w.random.below(w.rings.len());
    w.rings.swap_remove(at);
    Ok(())
}

pub fn reg_mr(w: &mut Worker) -> nix::Result<()> {
    if w.rdma.is_none() {
        w.rdma = Some(Rdma::open().map_err(root_errno)?);
    }
    let rdma = w.rdma.as_ref().ok_or(Errno::ENODEV)?;
    let (address, len) = w.arena.target(&mut w.random);
    let region = rdma.register_range(address..address.saturating_add(len))?;
    if w.regions.len() == MOST {
        w.regions.remove(0);
    }
    w.regions.push(region);
    Ok(())
}

pub fn dereg_mr(w: &mut Worker) -> nix::Result<()> {
    if w.regions.is_empty() {
        return Err(Errno::ENOENT);
    }
    let at = w.random.below(w.regions.len());
    w.regions.swap_remove(at);
    Ok(())
}

/// What the kernel said, below what the vocabulary says about it.
fn root_errno(error: anyhow::Error) -> Errno {
    let cause = error.root_cause();
    if let Some(&errno) = cause.downcast_ref::<Errno>() {
        return errno;
    }
    let error = cause.downcast_ref::<std::io::Error>();
    Errno::from_raw(
        error
            .and_then(std::io::Error::raw_os_error)
            .unwrap_or(libc::EIO),
    )
}
