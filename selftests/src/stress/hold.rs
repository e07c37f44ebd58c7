// SPDX-License-Identifier: GPL-2.0

//! The ways to pin memory, and to look at it through the pin when it is not mapped any more.

use super::arena::{Block, MAX_LEN};
use super::board::{Board, Count};
use super::stamp::Stamp;
use crate::aio::{Aio, Direction};
use crate::mapping::{Mapping, PAGE};
use crate::verbs::{Loopback, Rdma, Region};
use anyhow::{ensure, Context, Result};
use io_uring::{opcode, types::Fd, IoUring};
use nix::errno::Errno;
use nix::fcntl::{fallocate, fcntl, FallocateFlags, FcntlArg, OFlag};
use nix::unistd::pipe2;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that one O_DIRECT request or one vmsplice takes at most.
const PIECE: usize = 16 * PAGE;
/// Bytes that one RDMA read fetches: the software device moves them packet by packet.
const FETCH: usize = 2 * PAGE;
/// One registration in so many is read as a whole, the others in one place.
const WHOLE: u64 = 32;

/// A pin.
pub enum Hold {
    /// ibv_reg_mr
    Registered(Region),
    /// An io_uring fixed buffer, number `slot`.
    Fixed { slot: u32, range: Range<usize> },
    /// Pages in the pipe.
    Spliced { at: usize, len: usize },
    /// An O_DIRECT write to the disk that may still be running.
    DirectWrite { at: usize, len: usize },
    /// An O_DIRECT read from the disk that may still be running.
    DirectRead { len: usize },
}

/// What kind of pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    Registered,
    Fixed,
    Spliced,
    DirectWrite,
    DirectRead,
}

impl Road {
    pub fn count(self) -> Count {
        match self {
            Road::Registered => Count::Registered,
            Road::Fixed => Count::Fixed,
            Road::Spliced => Count::Spliced,
            Road::DirectWrite => Count::DirectWrite,
            Road::DirectRead => Count::DirectRead,
        }
    }
}

/// RDMA to read through a registration with.
struct Remote {
    loopback: Loopback,
    copy: Mapping,
    copy_region: Region,
    // Last: the others are made of it.
    rdma: Rdma,
}

impl Remote {
    fn open() -> Result<Remote> {
        let rdma = Rdma::open_existing()?;
        let loopback = Loopback::new(&rdma)?;
        let copy = Mapping::anonymous(FETCH)?;
        let copy_region = rdma.register(&copy).context("registering RAM")?;
        Ok(Remote {
            loopback,
            copy,
            copy_region,
            rdma,
        })
    }
}

/// What an owner needs to pin with: nobody else uses these.
pub struct Tools {
    pub disk: File,
    /// Number of its area of the disk.
    pub area: u64,
    /// A pipe's ends, to read from and to write to.
    pub pipe: (File, File),
}

/// The areas of the disk.
pub const AREAS: u64 = 4096;

/// Lets an owner read from its area nothing but what it has written there itself, or zero: whoever
/// looks at its memory meanwhile would take anything else for another's.
pub fn clear_areas(disk: &File) -> Result<()> {
    let len = AREAS * PIECE as u64;
    fallocate(disk, FallocateFlags::FALLOC_FL_ZERO_RANGE, 0, len as i64).context("zeroing the disk")
}

/// What one owner pins with.
pub struct Pins {
    board: &'static Board,
    remote: Option<Remote>,
    fixed: IoUring,
    free_slots: Vec<u32>,
    /// What a fixed buffer is written to: a pipe has room for it, and is written without a thread.
    drain: (File, File),
    direct: Aio,
    disk: File,
    /// Where on the disk this owner writes.
    area: u64,
    ram: Mapping,
    pipe: (File, File),
    pipe_full: bool,
}

const SLOTS: u32 = 4;

/// A pipe that has room for a whole mapping.
fn wide_pipe() -> Result<(File, File)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
    fcntl(&write, FcntlArg::F_SETPIPE_SZ(MAX_LEN as i32)).context("F_SETPIPE_SZ")?;
    Ok((read.into(), write.into()))
}

impl Pins {
    pub fn new(board: &'static Board, tools: Tools) -> Result<Pins> {
        let fixed = IoUring::new(4).context("io_uring_setup")?;
        let sparse = fixed.submitter().register_buffers_sparse(SLOTS);
        sparse.context("a table of fixed buffers")?;
        Ok(Pins {
            board,
            remote: None,
            fixed,
            free_slots: (0..SLOTS).collect(),
            drain: wide_pipe()?,
            direct: Aio::new()?,
            disk: tools.disk,
            area: tools.area % AREAS * PIECE as u64,
            ram: Mapping::anonymous(PIECE)?,
            pipe: tools.pipe,
            pipe_full: false,
        })
    }

    /// Whether another such pin can be held at the moment.
    pub fn can(&self, road: Road) -> bool {
        match road {
            Road::Registered => true,
            Road::Fixed => !self.free_slots.is_empty(),
            Road::Spliced => !self.pipe_full,
            Road::DirectWrite | Road::DirectRead => !self.direct.is_running(),
        }
    }

    /// Pins part of the block. `at` is the byte where the part begins that a short road takes.
    ///
    /// An error inside is the call's: EFAULT says that the memory is gone.
    pub fn pin(&mut self, road: Road, block: &Block, at: usize) -> Result<nix::Result<Hold>> {
        let piece = at..(at + PIECE).min(block.len());
        let len = piece.len();
        Ok(match road {
            Road::Registered => self.register(block)?,
            Road::Fixed => self.fix(block),
            Road::Spliced => block.splice_into(&self.pipe.1, piece).map(|len| {
                self.pipe_full = true;
                Hold::Spliced { at, len }
            }),
            Road::DirectWrite => self
                .direct
                .start(Direction::Write, &self.disk, block.iovec(piece), self.area)
                .map(|()| Hold::DirectWrite { at, len }),
            Road::DirectRead => self
                .direct
                .start(Direction::Read, &self.disk, block.iovec(piece), self.area)
                .map(|()| Hold::DirectRead { len }),
        })
    }

    fn register(&mut self, block: &Block) -> Result<nix::Result<Hold>> {
        if self.remote.is_none() {
            self.remote = Some(Remote::open()?);
        }
        let remote = self.remote.as_ref().context("opened above")?;
        Ok(remote
            .rdma
            .register_range(block.range())
            .map(Hold::Registered))
    }

    fn fix(&mut self, block: &Block) -> nix::Result<Hold> {
        let slot = *self.free_slots.last().ok_or(Errno::EBUSY)?;
        // SAFETY: the kernel pins the pages, to which nothing has a Rust reference.
        unsafe {
            self.fixed.submitter().register_buffers_update(
                slot,
                &[block.iovec(0..block.len())],
                None,
            )
        }
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(0)))?;
        self.free_slots.pop();
        Ok(Hold::Fixed {
            slot,
            range: block.range(),
        })
    }

    /// Waits for the request that runs, and returns how much it moved: all, as its memory was
    /// pinned. But memory that went before it could be is missed only here.
    fn end_direct(&mut self, len: usize) -> Result<usize> {
        let may_go = self.board.device_may_go.load(Relaxed);
        let moved = match self.direct.end()? {
            Err(Errno::EFAULT) if may_go => 0,
            result => result.context("O_DIRECT")?,
        };
        ensure!(moved == len || may_go, "O_DIRECT of {len} bytes: {moved}");
        Ok(moved)
    }

    /// Looks at what is pinned, which must be as stamped (if it could be stamped), and lets go of it.
    ///
    /// `part` chooses what an RDMA read fetches.
    pub fn release(&mut self, hold: Hold, stamp: Option<Stamp>, part: u64) -> Result<()> {
        let board = self.board;
        let check = |what, first, words: &mut dyn Iterator<Item = u64>| {
            if let Some(stamp) = stamp {
                board.check(what, stamp, first, words);
            }
        };
        match hold {
            Hold::Registered(region) => {
                let remote = self.remote.as_ref().context("it made the region")?;
                let pages = region.len().div_ceil(PAGE);
                let places = match part % WHOLE {
                    0 => 0..pages,
                    _ => {
                        let first = (part / WHOLE) as usize % pages;
                        first..first + 1
                    }
                };
                for at in places.map(|page| page * PAGE).step_by(FETCH / PAGE) {
                    let len = (region.len() - at).min(FETCH);
                    remote
                        .loopback
                        .read((&remote.copy_region, 0..len), (&region, at..at + len))?;
                    let mut words = (0..len).step_by(8).map(|offset| remote.copy.read(offset));
                    check("by RDMA", at / 8, &mut words);
                }
            }
            Hold::Fixed { slot, range } => {
                let write = opcode::WriteFixed::new(
                    Fd(self.drain.1.as_raw_fd()),
                    range.start as *const u8,
                    range.len() as u32,
                    slot as u16,
                );
                // SAFETY: the entry's memory is the fixed buffer.
                unsafe { self.fixed.submission().push(&write.build()) }
                    .context("submission queue")?;
                self.fixed.submit().context("io_uring_enter")?;
                let result = complete(&mut self.fixed)?;
                ensure!(
                    result == range.len() as i32,
                    "WRITE_FIXED of {} bytes: {result}",
                    range.len()
                );
                let bytes = read(&self.drain.0, range.len())?;
                check("by a fixed buffer", 0, &mut words(&bytes));
                let none = libc::iovec {
                    iov_base: std::ptr::null_mut(),
                    iov_len: 0,
                };
                // SAFETY: takes a buffer out of the table.
                unsafe {
                    self.fixed
                        .submitter()
                        .register_buffers_update(slot, &[none], None)
                }
                .context("unregistering a fixed buffer")?;
                self.free_slots.push(slot);
            }
            Hold::Spliced { at, len } => {
                let bytes = read(&self.pipe.0, len)?;
                self.pipe_full = false;
                check("in the pipe", at / 8, &mut words(&bytes));
            }
            Hold::DirectWrite { at, len } => {
                let len = self.end_direct(len)?;
                let read = self
                    .ram
                    .pread_from(&self.disk, 0..len, self.area as i64)
                    .context("the disk")?;
                ensure!(read == len, "{read} bytes of the disk instead of {len}");
                let mut words = (0..len).step_by(8).map(|offset| self.ram.read(offset));
                check("on the disk", at / 8, &mut words);
            }
            Hold::DirectRead { len } => _ = self.end_direct(len)?,
        }
        Ok(())
    }
}

fn complete(ring: &mut IoUring) -> Result<i32> {
    loop {
        if let Some(completion) = ring.completion().next() {
            return Ok(completion.result());
        }
        match ring.submit_and_wait(1) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => _ = result.context("io_uring_enter")?,
        }
    }
}

fn read(mut pipe: &File, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    pipe.read_exact(&mut bytes).context("the pipe")?;
    Ok(bytes)
}

/// Bytes as words; what is left of a word is none.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()))
}
