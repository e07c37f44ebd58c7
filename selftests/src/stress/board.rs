// SPDX-License-Identifier: GPL-2.0

//! What the processes of a run share: counts, and where each owner's mapping is at the moment.

use super::stamp::{Stamp, Word};
use anyhow::{Context, Result};
use std::fmt::{self, Write};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// Owners there may be in a run.
pub const MAX_OWNERS: usize = 64;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Mapped, stamped, pinned, and unmapped.
    Cycles,
    /// Let go of, what is pinned having been looked at through the pin.
    Released,
    Registered,
    Fixed,
    DirectWrite,
    DirectRead,
    Spliced,
    /// process_vm_readv of another process's memory.
    Readv,
    /// Read of another process's /proc/PID/mem.
    ProcMem,
    Forked,
    Moved,
    Split,
    DontNeed,
    /// Mapped by one that does nothing else.
    Grabbed,
    NoMemory,
    /// Calls that failed because the device was gone.
    Gone,
    Killed,
    Words,
}

impl Count {
    const ALL: [(Count, &str); 18] = [
        (Count::Cycles, "cycles"),
        (Count::Released, "looks through a pin"),
        (Count::Registered, "ibv_reg_mr"),
        (Count::Fixed, "fixed buffers"),
        (Count::DirectWrite, "O_DIRECT writes"),
        (Count::DirectRead, "O_DIRECT reads"),
        (Count::Spliced, "vmsplices"),
        (Count::Readv, "process_vm_readv"),
        (Count::ProcMem, "/proc/pid/mem"),
        (Count::Forked, "forks"),
        (Count::Moved, "mremaps"),
        (Count::Split, "splits"),
        (Count::DontNeed, "MADV_DONTNEED"),
        (Count::Grabbed, "other allocations"),
        (Count::NoMemory, "ENOMEM"),
        (Count::Gone, "device gone"),
        (Count::Killed, "SIGKILL"),
        (Count::Words, "words checked"),
    ];
}

/// What is known of one owner.
#[derive(Default)]
pub struct Owner {
    pub pid: AtomicU32,
    /// Where its mapping is, or was a moment ago; others look there.
    pub address: AtomicU64,
    pub len: AtomicU64,
    pub generation: AtomicU64,
    /// It has let go of everything, as [`Board::pause`] asks.
    pub idle: AtomicBool,
}

/// Whether an owner has met a place where its device was not there any more. Each process has its
/// own: of a mapping that two have, one may meet that place and the other not.
pub fn lost(owner: usize) -> &'static AtomicBool {
    static LOST: [AtomicBool; MAX_OWNERS] = [const { AtomicBool::new(false) }; MAX_OWNERS];
    &LOST[owner]
}

/// The shared page.
pub struct Board {
    pub stop: AtomicBool,
    /// Everyone shall let go of everything and wait.
    pub pause: AtomicBool,
    /// The device is taken away now and then: calls on it may fail.
    pub device_may_go: AtomicBool,
    pub owners: [Owner; MAX_OWNERS],
    mismatches: AtomicU64,
    counts: [AtomicU64; Count::ALL.len()],
}

impl Board {
    /// A board that all processes forked from this one share.
    pub fn new() -> Result<&'static Board> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        // SAFETY: new memory, large enough and page-aligned, which is never unmapped. It is
        // zeroed, and that is a valid `Board`: it has only atomics.
        unsafe {
            let address = libc::mmap(ptr::null_mut(), size_of::<Board>(), prot, flags, -1, 0);
            let address = nix::errno::Errno::result(address).context("the board")?;
            Ok(&*address.cast::<Board>())
        }
    }

    pub fn add(&self, count: Count, n: u64) {
        self.counts[count as usize].fetch_add(n, Relaxed);
    }

    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize].load(Relaxed)
    }

    /// What has never been done though it should have been, after so many cycles. A run that does
    /// nothing finds nothing.
    pub fn missing(&self) -> Vec<&'static str> {
        // Each is likelier than one in a hundred.
        const ENOUGH: u64 = 1000;
        let is_needed = |count| match count {
            Count::Cycles | Count::Words => true,
            // It depends on how much memory there is, on the options and on the time.
            Count::NoMemory | Count::Gone | Count::Killed => false,
            _ => self.get(Count::Cycles) >= ENOUGH,
        };
        let missing = |&(count, _): &(Count, _)| is_needed(count) && self.get(count) == 0;
        let missing = Count::ALL.iter().filter(|count| missing(count));
        missing.map(|&(_, name)| name).collect()
    }

    pub fn mismatches(&self) -> u64 {
        self.mismatches.load(Relaxed)
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    /// Fails the run. Allocates nothing: forked children of a threaded process call it too.
    pub fn mismatch(&self, what: &str, owner: usize, index: usize, found: u64, expected: u64) {
        // The first few say it all.
        if self.mismatches.fetch_add(1, Relaxed) < 8 {
            let mut line = Line::default();
            // What does not fit into the line is cut off.
            let _ = writeln!(
                line,
                "MISMATCH {what}, owner {owner}, word {index}: {} instead of {}",
                Word(found),
                Word(expected)
            );
            line.print();
        }
        self.stop.store(true, Relaxed);
    }

    /// Fails the run if the words are not a stamp's from its word `first` on.
    pub fn check(&self, what: &str, stamp: Stamp, first: usize, words: impl Iterator<Item = u64>) {
        if let Some((index, found)) = self.first_wrong(stamp, first, words) {
            self.mismatch(what, stamp.owner, index, found, stamp.word(index));
        }
    }

    /// The same for words of a mapping, in whose place there is other memory once it is lost.
    pub fn check_mapped(
        &self,
        what: &str,
        stamp: Stamp,
        first: usize,
        words: impl Iterator<Item = u64>,
    ) {
        if let Some((index, found)) = self.first_wrong(stamp, first, words) {
            if !lost(stamp.owner).load(Relaxed) {
                self.mismatch(what, stamp.owner, index, found, stamp.word(index));
            }
        }
    }

    fn first_wrong(
        &self,
        stamp: Stamp,
        first: usize,
        words: impl Iterator<Item = u64>,
    ) -> Option<(usize, u64)> {
        let mut checked = 0;
        let wrong = words.enumerate().find_map(|(i, found)| {
            checked += 1;
            (found != stamp.word(first + i)).then_some((first + i, found))
        });
        self.add(Count::Words, checked);
        wrong
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (count, name) in Count::ALL {
            match self.get(count) {
                0 => {}
                n => write!(f, "{n} {name}, ")?,
            }
        }
        write!(f, "{} mismatches", self.mismatches())
    }
}

/// A line of text without an allocator.
struct Line {
    text: [u8; 256],
    len: usize,
}

impl Default for Line {
    fn default() -> Line {
        Line {
            text: [0; 256],
            len: 0,
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let room = &mut self.text[self.len..];
        let n = s.len().min(room.len());
        room[..n].copy_from_slice(&s.as_bytes()[..n]);
        self.len += n;
        Ok(())
    }
}

impl Line {
    fn print(&self) {
        // SAFETY: writes bytes that are there.
        unsafe { libc::write(2, self.text.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_name() {
        for (i, (count, _)) in Count::ALL.iter().enumerate() {
            assert_eq!(*count as usize, i);
        }
    }

    #[test]
    fn a_run_that_does_not_do_everything_is_none() {
        let board = Board::new().unwrap();
        assert_eq!(board.missing(), ["cycles", "words checked"]);
        board.add(Count::Cycles, 999);
        board.add(Count::Words, 1);
        assert_eq!(board.missing(), [""; 0]);
        board.add(Count::Cycles, 1);
        assert!(board.missing().contains(&"vmsplices"));
        for (count, _) in Count::ALL {
            board.add(count, 1);
        }
        assert_eq!(board.missing(), [""; 0]);
    }

    #[test]
    fn a_wrong_word_stops_the_run() {
        let board = Board::new().unwrap();
        let stamp = Stamp {
            owner: 1,
            generation: 5,
        };
        let words = |index: usize| stamp.word(index);
        board.check("test", stamp, 2, (2..10).map(words));
        assert!(!board.stopped());
        lost(1).store(true, Relaxed);
        board.check_mapped("test", stamp, 2, (3..10).map(words));
        assert!(!board.stopped());
        board.check("test", stamp, 2, (3..10).map(words));
        assert!(board.stopped());
        assert_eq!(board.mismatches(), 1);
    }
}
