// SPDX-License-Identifier: GPL-2.0

//! io_uring with one fixed (registered, long-term pinned) buffer.

use crate::mapping::Mapping;
use anyhow::{ensure, Context, Result};
use io_uring::{opcode, types::Fd, IoUring};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// A ring whose fixed buffer 0 is a mapping's memory, mapped or not any more.
pub struct Ring {
    ring: IoUring,
    buffer: Range<usize>,
}

impl Ring {
    pub fn with_buffer(mapping: &Mapping) -> Result<Ring> {
        Ring::with_range(mapping.range())
    }

    /// The same with addresses at which nothing suitable need be.
    pub fn with_range(buffer: Range<usize>) -> Result<Ring> {
        let mut ring = Ring {
            ring: IoUring::new(8).context("io_uring_setup")?,
            buffer: 0..0,
        };
        ring.register(buffer)?;
        Ok(ring)
    }

    fn register(&mut self, buffer: Range<usize>) -> Result<()> {
        let iovec = libc::iovec {
            iov_base: buffer.start as *mut _,
            iov_len: buffer.len(),
        };
        // SAFETY: the kernel pins the pages and uses those, whatever becomes of the addresses.
        // Nothing has a Rust reference into them.
        unsafe { self.ring.submitter().register_buffers(&[iovec]) }
            .context("io_uring: registering a buffer")?;
        self.buffer = buffer;
        Ok(())
    }

    /// Lets the kernel unpin the buffer, and pin it again.
    pub fn register_again(&mut self) -> Result<()> {
        self.ring
            .submitter()
            .unregister_buffers()
            .context("io_uring: unregistering a buffer")?;
        self.register(self.buffer.clone())
    }

    /// Of the buffer.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// From the file to the buffer at `offsets`.
    pub fn read_fixed(&mut self, file: &File, offsets: Range<usize>, at: u64) -> Result<()> {
        let (start, len) = self.part(&offsets);
        let read = opcode::ReadFixed::new(Fd(file.as_raw_fd()), start as *mut u8, len, 0);
        self.run(read.offset(at).build(), len).context("READ_FIXED")
    }

    /// From the buffer at `offsets` to the file.
    pub fn write_fixed(&mut self, file: &File, offsets: Range<usize>, at: u64) -> Result<()> {
        let len = offsets.len();
        self.begin_write_fixed(file, offsets, at)?;
        self.finish(len).context("WRITE_FIXED")
    }

    /// The same, but only starts it.
    pub fn begin_write_fixed(&mut self, file: &File, offsets: Range<usize>, at: u64) -> Result<()> {
        let (start, len) = self.part(&offsets);
        let write = opcode::WriteFixed::new(Fd(file.as_raw_fd()), start as *const u8, len, 0);
        self.begin(write.offset(at).build()).context("WRITE_FIXED")
    }

    pub fn has_finished(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Waits for what was started, which must have moved `len` bytes.
    pub fn finish(&mut self, len: usize) -> Result<()> {
        self.ring.submit_and_wait(1).context("io_uring_enter")?;
        let result = self
            .ring
            .completion()
            .next()
            .context("no completion")?
            .result();
        ensure!(result >= 0, io::Error::from_raw_os_error(-result));
        ensure!(result as usize == len, "{result} bytes instead of {len}");
        Ok(())
    }

    fn part(&self, offsets: &Range<usize>) -> (usize, u32) {
        assert!(offsets.end <= self.buffer.len());
        (self.buffer.start + offsets.start, offsets.len() as u32)
    }

    fn run(&mut self, entry: io_uring::squeue::Entry, len: u32) -> Result<()> {
        self.begin(entry)?;
        self.finish(len as usize)
    }

    fn begin(&mut self, entry: io_uring::squeue::Entry) -> Result<()> {
        // SAFETY: the entry's memory is the registered buffer, which lives as long as the ring.
        unsafe { self.ring.submission().push(&entry) }.context("submission queue")?;
        self.ring.submit().context("io_uring_enter")?;
        Ok(())
    }
}
