// SPDX-License-Identifier: GPL-2.0

//! One owner: maps, stamps, pins, unmaps, and looks at the stamp through the pin.

use super::arena::{Block, MAX_LEN};
use super::board::{lost, Board, Count};
use super::hold::{Hold, Pins, Road, Tools};
use super::stamp::Stamp;
use crate::mapping::{HUGE, PAGE};
use crate::random::Random;
use anyhow::{bail, Context, Result};
use nix::errno::Errno;
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{fork, ForkResult, Pid};
use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

/// Pins that an owner holds at most; the oldest is let go for a new one.
const MAX_HELD: usize = 6;
/// Children that an owner has at most.
const MAX_CHILDREN: usize = 2;

/// An owner, for as long as its process lives.
pub struct Worker {
    board: &'static Board,
    owner: usize,
    random: Random,
    allocate: PathBuf,
    file: Option<File>,
    pins: Pins,
    /// The pins, with the stamp that is to be found unless the device was gone before.
    held: VecDeque<(Hold, Option<Stamp>)>,
    children: Vec<Pid>,
}

impl Worker {
    pub fn new(
        board: &'static Board,
        owner: usize,
        seed: u64,
        allocate: PathBuf,
        tools: Tools,
    ) -> Result<Worker> {
        Ok(Worker {
            board,
            owner,
            random: Random::new(seed),
            allocate,
            file: None,
            pins: Pins::new(board, tools)?,
            held: VecDeque::new(),
            children: Vec::new(),
        })
    }

    /// Until the board says stop.
    pub fn run(mut self) -> Result<()> {
        let me = &self.board.owners[self.owner];
        while !self.board.stopped() {
            if self.board.pause.load(Relaxed) {
                self.release_all()?;
                self.file = None;
                me.idle.store(true, Relaxed);
                thread::sleep(Duration::from_millis(1));
                continue;
            }
            me.idle.store(false, Relaxed);
            self.cycle()?;
            self.reap(WaitPidFlag::WNOHANG)?;
        }
        self.release_all()
    }

    fn release_all(&mut self) -> Result<()> {
        while self.release_oldest()? {}
        self.reap(WaitPidFlag::empty())
    }

    fn release_oldest(&mut self) -> Result<bool> {
        let Some((hold, stamp)) = self.held.pop_front() else {
            return Ok(false);
        };
        let part = self.random.next_u64();
        self.pins.release(hold, stamp, part)?;
        self.board.add(Count::Released, 1);
        Ok(true)
    }

    fn reap(&mut self, flags: WaitPidFlag) -> Result<()> {
        let mut left = Vec::new();
        for child in self.children.drain(..) {
            match waitpid(child, Some(flags)).context("waitpid")? {
                WaitStatus::StillAlive => left.push(child),
                WaitStatus::Exited(_, 0) => {}
                status => bail!("a child ended with {status:?}"),
            }
        }
        self.children = left;
        Ok(())
    }

    /// Mostly a few pages, now and then what has 2 MiB entries.
    fn length(&mut self) -> usize {
        let pages = match self.random.below(1000) {
            0..900 => 1 + self.random.below(6),
            900..990 => 7 + self.random.below(57),
            990..996 => 500 + self.random.below(24),
            _ => 1 + self.random.below(MAX_LEN / PAGE),
        };
        pages * PAGE
    }

    /// Opens the file anew after the device was gone.
    fn map(&mut self, len: usize) -> Result<Option<Block>> {
        let may_go = self.board.device_may_go.load(Relaxed);
        if self.file.is_none() {
            let file = File::options().read(true).write(true).open(&self.allocate);
            match file {
                Ok(file) => self.file = Some(file),
                Err(_) if may_go => return self.no_device(),
                Err(e) => return Err(e).context(self.allocate.display().to_string()),
            }
        }
        let misaligned = match self.random.chance(1, 2) {
            true => 0,
            false => self.random.below(HUGE / PAGE) * PAGE,
        };
        let flags = match self.random.chance(1, 8) {
            true => libc::MAP_POPULATE,
            false => 0,
        };
        let file = self.file.as_ref().context("opened above")?;
        match Block::map(self.owner, misaligned, len, flags, file) {
            Ok(block) => Ok(Some(block)),
            Err(Errno::ENOMEM) => {
                self.board.add(Count::NoMemory, 1);
                // What is held here may be all there is.
                if !self.release_oldest()? {
                    thread::yield_now();
                }
                Ok(None)
            }
            Err(Errno::ENODEV) if may_go => self.no_device(),
            Err(e) => Err(e).with_context(|| format!("mmap of {len:#x} bytes")),
        }
    }

    fn no_device(&mut self) -> Result<Option<Block>> {
        self.board.add(Count::Gone, 1);
        self.file = None;
        // Unbind waits for this.
        if !self.release_oldest()? {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(None)
    }

    fn cycle(&mut self) -> Result<()> {
        let me = &self.board.owners[self.owner];
        let len = self.length();
        // Before the mapping is there: from then on its loss counts.
        lost(self.owner).store(false, Relaxed);
        let Some(mut block) = self.map(len)? else {
            return Ok(());
        };
        let stamp = Stamp {
            owner: self.owner,
            generation: me.generation.fetch_add(1, Relaxed) + 1,
        };
        me.address.store(block.address() as u64, Relaxed);
        me.len.store(len as u64, Relaxed);

        check_zero(self.board, self.owner, &block);
        fill(&block, stamp);
        let forked = self.meddle(&mut block, stamp)?;

        let roads = self.roads(forked);
        let mut pinned = false;
        for &road in &roads {
            pinned |= self.pin(road, &block, stamp)?;
        }
        if roads != [Road::DirectRead] && self.random.chance(1, 8) {
            self.meddle(&mut block, stamp)?;
        }
        self.unmap(block);
        if pinned {
            self.board.add(Count::Cycles, 1);
        }

        while self.held.len() > MAX_HELD || (self.random.chance(1, 2) && !self.held.is_empty()) {
            self.release_oldest()?;
        }
        Ok(())
    }

    /// By which roads to pin.
    fn roads(&mut self, forked: bool) -> Vec<Road> {
        let mut roads = Vec::new();
        match self.random.below(100) {
            0..42 => roads.push(Road::Spliced),
            42..84 => roads.push(Road::Fixed),
            84..92 => roads.push(Road::DirectWrite),
            92..95 => roads.push(Road::Registered),
            95..97 => roads.extend([Road::Registered, Road::Fixed, Road::Spliced]),
            // It overwrites the stamp, which a child or another pin would miss.
            _ if !forked => roads.push(Road::DirectRead),
            _ => {}
        }
        roads.retain(|&road| self.pins.can(road));
        roads
    }

    /// Whether it is pinned: the device may be gone.
    fn pin(&mut self, road: Road, block: &Block, stamp: Stamp) -> Result<bool> {
        let at = self.random.below(block.len() / PAGE) * PAGE;
        match self.pins.pin(road, block, at)? {
            Ok(hold) => {
                self.board.add(road.count(), 1);
                let lost = lost(self.owner).load(Relaxed);
                self.held.push_back((hold, (!lost).then_some(stamp)));
                Ok(true)
            }
            Err(Errno::EFAULT) if self.board.device_may_go.load(Relaxed) => {
                self.board.add(Count::Gone, 1);
                Ok(false)
            }
            Err(e) => bail!("{road:?} of {:#x} bytes: {e}", block.len()),
        }
    }

    /// What a process may do to a mapping without a change to what it holds. True if a child has
    /// it now, too.
    fn meddle(&mut self, block: &mut Block, stamp: Stamp) -> Result<bool> {
        let pages = block.len() / PAGE;
        let start = self.random.below(pages);
        let end = start + 1 + self.random.below(pages - start);
        let part = start * PAGE..end * PAGE;
        let (count, forked) = match self.random.below(64) {
            0..8 => {
                block.advise(part.clone(), libc::MADV_DONTNEED)?;
                (Count::DontNeed, false)
            }
            8..16 => {
                block.protect_and_back(part.clone())?;
                (Count::Split, false)
            }
            16..22 => {
                block.move_over()?;
                let me = &self.board.owners[self.owner];
                me.address.store(block.address() as u64, Relaxed);
                (Count::Moved, false)
            }
            22..24 if self.children.len() < MAX_CHILDREN => {
                self.fork(block, stamp)?;
                (Count::Forked, true)
            }
            _ => return Ok(false),
        };
        self.board.add(count, 1);
        let words = block.words(part.clone());
        self.board
            .check_mapped("mapped", stamp, part.start / 8, words);
        Ok(forked)
    }

    /// A child has the mapping, too, and may have it for longer.
    fn fork(&mut self, block: &Block, stamp: Stamp) -> Result<()> {
        let pause = Duration::from_micros(self.random.below(4000) as u64);
        // SAFETY: other threads may hold the locks of the allocator: the child makes system calls
        // and looks at memory, and never returns from here.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => {
                self.children.push(child);
                Ok(())
            }
            ForkResult::Child => {
                thread::sleep(pause);
                let words = block.words(0..block.len());
                self.board.check_mapped("in a child", stamp, 0, words);
                // SAFETY: ends the child without the destructors, which are its parent's to run.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// In one piece or in two.
    fn unmap(&mut self, block: Block) {
        let at = match self.random.chance(1, 8) {
            true => self.random.below(block.len() / PAGE) * PAGE,
            false => 0,
        };
        match at {
            0 => drop(block),
            at => block.unmap_in_two(at),
        }
    }
}

/// New memory holds nothing.
pub fn check_zero(board: &Board, owner: usize, block: &Block) {
    let mut words = block.words(0..block.len());
    if let Some((index, found)) = words
        .by_ref()
        .enumerate()
        .find_map(|(index, word)| (word != 0).then_some((index, word)))
    {
        board.mismatch("in new memory", owner, index, found, 0);
    }
    board.add(Count::Words, (block.len() / 8) as u64);
}

pub fn fill(block: &Block, stamp: Stamp) {
    for offset in (0..block.len()).step_by(8) {
        block.write(offset, stamp.word(offset / 8));
    }
}
