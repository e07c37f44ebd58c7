// SPDX-License-Identifier: GPL-2.0

//! Linux AIO: an O_DIRECT request that has its pages pinned when the call that starts it returns.
//!
//! (io_uring may look for the pages later, and then finds whatever is mapped by then.)

use anyhow::{Context, Result};
use nix::errno::Errno;
use std::fs::File;
use std::mem::zeroed;
use std::os::fd::AsRawFd;
use std::ptr;

/// The direction of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the file to memory.
    Read,
    /// From memory to the file.
    Write,
}

/// `struct io_event` of linux/aio_abi.h
#[repr(C)]
#[derive(Default)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

/// Room for one request at a time.
pub struct Aio {
    context: libc::c_ulong,
    running: bool,
}

impl Aio {
    pub fn new() -> Result<Aio> {
        let mut context: libc::c_ulong = 0;
        // SAFETY: writes the new context's handle.
        let result = unsafe { libc::syscall(libc::SYS_io_setup, 1, &mut context) };
        Errno::result(result).context("io_setup")?;
        Ok(Aio {
            context,
            running: false,
        })
    }

    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Starts a request on memory that nothing has a Rust reference into. An error is that of the
    /// call: the memory is not there, for instance.
    pub fn start(
        &mut self,
        direction: Direction,
        file: &File,
        memory: libc::iovec,
        at: u64,
    ) -> nix::Result<()> {
        assert!(!self.running);
        // SAFETY: all zeroes are a valid request.
        let mut request: libc::iocb = unsafe { zeroed() };
        request.aio_lio_opcode = match direction {
            Direction::Read => 0,
            Direction::Write => 1,
        };
        request.aio_fildes = file.as_raw_fd() as u32;
        request.aio_buf = memory.iov_base as u64;
        request.aio_nbytes = memory.iov_len as u64;
        request.aio_offset = at as i64;
        let requests = [&raw mut request];
        // SAFETY: one request, which the kernel copies. It pins the memory.
        let result =
            unsafe { libc::syscall(libc::SYS_io_submit, self.context, 1, requests.as_ptr()) };
        Errno::result(result)?;
        self.running = true;
        Ok(())
    }

    /// Waits for the request; what it returned, as a system call does.
    pub fn end(&mut self) -> Result<nix::Result<usize>> {
        let mut event = Event::default();
        loop {
            let none = ptr::null_mut::<libc::timespec>();
            // SAFETY: room for one event.
            let n = unsafe {
                libc::syscall(
                    libc::SYS_io_getevents,
                    self.context,
                    1,
                    1,
                    &raw mut event,
                    none,
                )
            };
            match Errno::result(n) {
                Err(Errno::EINTR) => {}
                result => {
                    result.context("io_getevents")?;
                    self.running = false;
                    return Ok(match event.result {
                        n if n >= 0 => Ok(n as usize),
                        error => Err(Errno::from_raw(-error as i32)),
                    });
                }
            }
        }
    }
}

impl Drop for Aio {
    fn drop(&mut self) {
        // SAFETY: waits for what runs.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.context) };
    }
}
