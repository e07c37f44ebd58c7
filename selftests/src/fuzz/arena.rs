// SPDX-License-Identifier: GPL-2.0

//! The addresses that a worker plays with, and nothing else of its process is at.

use super::syscall::call;
use crate::mapping::{HUGE, PAGE};
use crate::random::Random;
use std::ops::Range;

const LEN: usize = 192 << 20;

/// The kernel's name of p2pmem's mappings.
const NAME: &[u8] = b"[p2pmem]";

/// A range of addresses, reserved by an inaccessible mapping where nothing else is mapped.
pub struct Arena {
    range: Range<usize>,
    /// What is p2pmem's, inside or, by the kernel's choice, outside.
    areas: Vec<Range<usize>>,
    /// For /proc/self/maps: while there are holes, nothing may be allocated, which could be put
    /// into one.
    text: Vec<u8>,
}

impl Arena {
    pub fn new() -> nix::Result<Arena> {
        // What is left at both ends keeps mappings at the edge from growing out of it.
        let start = reserve(0..LEN + 3 * HUGE, 0)?;
        let start = start.next_multiple_of(HUGE) + HUGE;
        Ok(Arena {
            range: start..start + LEN,
            areas: Vec::with_capacity(4096),
            text: vec![0; 2 << 20],
        })
    }

    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    pub fn areas(&self) -> &[Range<usize>] {
        &self.areas
    }

    /// Whether part of that is p2pmem's.
    pub fn has_area(&self, start: usize, len: usize) -> bool {
        let end = start.saturating_add(len);
        self.areas
            .iter()
            .any(|area| area.start < end && start < area.end)
    }

    /// A place for `len` bytes, if there is one.
    pub fn place(&self, random: &mut Random, len: usize) -> Option<usize> {
        let room = self
            .range
            .len()
            .checked_sub(len.checked_next_multiple_of(PAGE)?)?;
        let offset = random.below(room + 1);
        let unit = if random.chance(1, 2) { HUGE } else { PAGE };
        Some(self.range.start + offset / unit * unit)
    }

    /// Whole pages, mostly of p2pmem and of one mapping.
    pub fn pages(&self, random: &mut Random) -> Range<usize> {
        let of = match self.areas.is_empty() || random.chance(1, 16) {
            true => self.range.clone(),
            false => random.choose(&self.areas).clone(),
        };
        if random.chance(1, 3) && of != self.range {
            return of;
        }
        let pages = of.len() / PAGE;
        let first = random.below(pages);
        // Short ones are the more frequent.
        let most = *random.choose(&[1, 8, 512, 2048]);
        let len = 1 + random.below((pages - first).min(most));
        of.start + first * PAGE..of.start + (first + len) * PAGE
    }

    /// Address and length for a call: mostly [`Arena::pages`], at times nothing that it can like.
    pub fn target(&self, random: &mut Random) -> (usize, usize) {
        let pages = self.pages(random);
        match random.below(40) {
            0 => {
                let offset = 1 + random.below(PAGE - 1);
                (pages.start + offset, 1 + random.below(PAGE - offset))
            }
            1 => (pages.start, 0),
            2 => (pages.start, pages.len() - random.below(PAGE)),
            // Not so long that the kernel would take it for everything up to the stack.
            3 => (pages.start, usize::MAX - random.below(2 * PAGE)),
            4 => (0, PAGE),
            5 => (1 << 47, PAGE),
            6 => (0xffff_8880_0000_0000, PAGE),
            7 => (usize::MAX - PAGE + 1, PAGE),
            _ => (pages.start, pages.len()),
        }
    }

    /// A word of memory.
    pub fn word(&self, random: &mut Random) -> usize {
        let pages = self.pages(random);
        pages.start + random.below(pages.len() / 8) * 8
    }

    /// Looks at what is mapped now, and fills holes, which the program could come to use itself.
    ///
    /// To be called after each call that maps, moves or unmaps. Says what is wrong with the
    /// mappings of p2pmem.
    pub fn look(&mut self) -> Result<(), String> {
        let len = read_maps(&mut self.text);
        let mut wrong = Ok(());
        let mut end = self.range.start;
        self.areas.clear();
        for line in self.text[..len].split(|&byte| byte == b'\n') {
            let Some((range, permissions)) = parse(line) else {
                continue;
            };
            if range.end > self.range.start && end < self.range.end {
                fill(end, range.start.min(self.range.end));
                end = range.end;
            }
            if line.ends_with(NAME) {
                if permissions[2] != b'-' || permissions[3] != b's' {
                    wrong = Err(line);
                }
                if self.areas.len() < self.areas.capacity() {
                    self.areas.push(range);
                }
            }
        }
        fill(end, self.range.end);
        wrong.map_err(|line| String::from_utf8_lossy(line).into_owned())
    }
}

fn fill(start: usize, end: usize) {
    if start < end {
        reserve(start..end, libc::MAP_FIXED_NOREPLACE).expect("room where nothing is mapped");
    }
}

fn reserve(range: Range<usize>, flags: i32) -> nix::Result<usize> {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let prot = libc::PROT_NONE as usize;
    let no_file = usize::MAX;
    let arguments = [range.start, range.len(), prot, flags as usize, no_file, 0];
    call(libc::SYS_mmap, arguments)
}

/// Fills `text` from /proc/self/maps, of whatever process this is. Returns its length.
fn read_maps(text: &mut [u8]) -> usize {
    let path = c"/proc/self/maps".as_ptr() as usize;
    let fd = call(libc::SYS_openat, [libc::AT_FDCWD as usize, path, 0]).expect("/proc/self/maps");
    let mut len = 0;
    loop {
        let room = &mut text[len..];
        assert!(!room.is_empty(), "more mappings than a worker makes");
        let arguments = [fd, room.as_mut_ptr() as usize, room.len()];
        match call(libc::SYS_read, arguments).expect("/proc/self/maps") {
            0 => break,
            more => len += more,
        }
    }
    let _ = call(libc::SYS_close, [fd]);
    len
}

/// `start-end perm ...`
fn parse(line: &[u8]) -> Option<(Range<usize>, &[u8])> {
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let range = std::str::from_utf8(words.next()?).ok()?;
    let permissions = words.next().filter(|word| word.len() == 4)?;
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some((number(start)?..number(end)?, permissions))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::Child;
    use anyhow::{ensure, Context, Error};
    use nix::errno::Errno;

    #[test]
    fn a_line_of_maps_is_a_range_with_permissions() {
        let line = b"7f00-7f10 rw-s 00000000 00:0f 33 /anon_inode:[p2pmem]";
        assert_eq!(parse(line), Some((0x7f00..0x7f10, &b"rw-s"[..])));
        assert!(line.ends_with(NAME));
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn holes_are_filled() {
        // In a process of its own: another thread could map something into a hole.
        let child = Child::start(|| {
            let mut arena = Arena::new()?;
            let mut random = Random::new(3);
            for _ in 0..20 {
                let len = PAGE * (1 + random.below(1000));
                let at = arena.place(&mut random, len).context("no room")?;
                call(libc::SYS_munmap, [at, len])?;
                arena.look().map_err(Error::msg)?;
                // All is mapped: nothing can be put there without replacing it.
                let taken = reserve(at..at + len, libc::MAP_FIXED_NOREPLACE);
                ensure!(taken == Err(Errno::EEXIST), "{taken:?}");
            }
            ensure!(arena.areas().is_empty());
            Ok(())
        });
        child.unwrap().succeed().unwrap();
    }

    #[test]
    fn targets_do_not_leave_the_arena() {
        let arena = Arena::new().unwrap();
        let mut random = Random::new(5);
        for _ in 0..10_000 {
            let pages = arena.pages(&mut random);
            assert!(arena.range.start <= pages.start && pages.end <= arena.range.end);
            let word = arena.word(&mut random);
            assert!(arena.range.contains(&word) && word % 8 == 0);
        }
    }
}
