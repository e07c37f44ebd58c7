// SPDX-License-Identifier: GPL-2.0

//! userfaultfd: page faults that another process answers.

use crate::mapping::Mapping;
use anyhow::{Context, Result};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Modes of a registration: `UFFDIO_REGISTER_MODE_...` of linux/userfaultfd.h
pub const MISSING: u64 = 1 << 0;
pub const WRITE_PROTECT: u64 = 1 << 1;
pub const MINOR: u64 = 1 << 2;

/// The feature `UFFD_FEATURE_WP_ASYNC`
pub const WP_ASYNC: u64 = 1 << 15;

/// `struct uffdio_api`
#[repr(C)]
pub struct Api {
    api: u64,
    features: u64,
    ioctls: u64,
}

/// `struct uffdio_register`
#[repr(C)]
pub struct Register {
    start: u64,
    len: u64,
    mode: u64,
    ioctls: u64,
}

nix::ioctl_readwrite!(uffdio_api, 0xaa, 0x3f, Api);
nix::ioctl_readwrite!(uffdio_register, 0xaa, 0x00, Register);

/// A userfaultfd.
pub struct Userfault(OwnedFd);

impl Userfault {
    pub fn open(features: u64) -> Result<Userfault> {
        // SAFETY: makes a file descriptor that nobody else has.
        let userfault = unsafe {
            let fd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | libc::O_NONBLOCK);
            OwnedFd::from_raw_fd(Errno::result(fd).context("userfaultfd")? as i32)
        };
        let mut api = Api {
            api: 0xaa,
            features,
            ioctls: 0,
        };
        // SAFETY: `api` is what the call expects.
        unsafe { uffdio_api(userfault.as_raw_fd(), &mut api) }.context("UFFDIO_API")?;
        Ok(Userfault(userfault))
    }

    pub fn register(&self, mapping: &Mapping, mode: u64) -> nix::Result<()> {
        let mut register = Register {
            start: mapping.address() as u64,
            len: mapping.len() as u64,
            mode,
            ioctls: 0,
        };
        // SAFETY: `register` is what the call expects; nothing has a Rust reference into the
        // memory.
        unsafe { uffdio_register(self.0.as_raw_fd(), &mut register) }.map(drop)
    }
}
