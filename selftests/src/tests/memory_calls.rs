// SPDX-License-Identifier: GPL-2.0

//! All that a process may do to its memory does no harm to this.

use super::{LEN, OURS, THEIRS};
use crate::child::{self, Child};
use crate::device::{Bound, PLAIN};
use crate::harness;
use crate::mapping::{free_address, Mapping, Request, HUGE, PAGE, READ, WRITE};
use crate::pagemap;
use crate::pattern::Pattern;
use crate::poll;
use crate::smaps;
use anyhow::{ensure, Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::resource::{setrlimit, Resource, RLIM_INFINITY};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::{close, pipe2};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::IntoRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// `available` once all that is on its way back has come back.
fn settled_available(bound: &Bound, expected: usize) -> Result<()> {
    // What was freed before this comes back before this does, or with it.
    drop(bound.map(PAGE)?);
    bound.wait_available(expected)?;
    assert_eq!(bound.draining()?, 0);
    Ok(())
}

pub fn fork_shares() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    // With 2 MiB and 4 KiB entries.
    let mapping = bound.map(LEN + 4 * PAGE)?;
    mapping.fill(OURS);
    Child::start(|| {
        mapping.check(OURS)?;
        mapping.fill(THEIRS);
        Ok(())
    })?
    .succeed()?;
    mapping.check(THEIRS)?;

    // What only the child has touched.
    let fresh = bound.map(LEN + 4 * PAGE)?;
    Child::start(|| {
        fresh.fill(OURS);
        Ok(())
    })?
    .succeed()?;
    fresh.check(OURS)
}

pub fn memory_of_a_child_outlives_the_parents_mapping() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let writer = writer.into_raw_fd();
    let child = Child::start(|| {
        // Until the parent's end of the pipe is the last.
        close(writer)?;
        File::from(reader.try_clone()?).read_to_end(&mut Vec::new())?;
        mapping.check(OURS)
    })?;
    drop(mapping);
    settled_available(&bound, size - LEN)?;
    let rest = bound.map(size - LEN)?;
    rest.fill(THEIRS);
    close(writer)?;
    child.succeed()?;
    drop(rest);
    bound.wait_all_free()
}

pub fn partial_munmap_leaves_the_rest() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    const LEN: usize = 3 * HUGE;
    for (start, end) in [
        (HUGE, 2 * HUGE),
        (PAGE, 2 * PAGE),
        (HUGE - PAGE, HUGE + PAGE),
        (HUGE / 2, 2 * HUGE + 5 * PAGE),
    ] {
        let mapping = bound.map(LEN)?;
        mapping.fill(OURS);
        let (head, rest) = mapping.split(start);
        let (hole, tail) = rest.split(end - start);
        drop(hole);
        head.check(OURS)?;
        check_shifted(&tail, OURS, end)?;
        // The memory comes back when all of it is unmapped.
        settled_available(&bound, size - LEN)?;
        drop(head);
        settled_available(&bound, size - LEN)?;
        check_shifted(&tail, OURS, end)?;
        drop(tail);
        bound.wait_all_free()?;
    }
    Ok(())
}

/// Holds what was at `offset` of a mapping that was filled as a whole.
fn check_shifted(mapping: &Mapping, pattern: Pattern, offset: usize) -> Result<()> {
    for at in (0..mapping.len()).step_by(8) {
        let expected = pattern.word((offset + at) / 8);
        ensure!(
            mapping.read(at) == expected,
            "wrong at {at:#x} behind {offset:#x}"
        );
    }
    Ok(())
}

pub fn mremap_moves() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    const LEN: usize = 2 * HUGE + 3 * PAGE;
    for misalignment in [0, PAGE, HUGE / 2, HUGE - PAGE] {
        let mut mapping = bound.map(LEN)?;
        // The second half is first touched at the new place.
        mapping.write(0, 1);
        mapping.move_to(free_address(LEN, misalignment)?)?;
        assert_eq!(mapping.read(0), 1);
        mapping.fill(OURS);
        mapping.move_to(free_address(LEN, HUGE - misalignment)?)?;
        mapping.check(OURS)?;
        mapping.advise(0..LEN, libc::MADV_DONTNEED)?;
        mapping.check(OURS)?;
    }
    Ok(())
}

pub fn mremap_moves_a_part() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    const LEN: usize = 3 * HUGE;
    for offset in [HUGE, PAGE, HUGE + 5 * PAGE] {
        let mapping = bound.map(LEN)?;
        mapping.fill(OURS);
        let (head, mut tail) = mapping.split(offset);
        tail.move_to(free_address(LEN, 0)?)?;
        head.check(OURS)?;
        check_shifted(&tail, OURS, offset)?;
        drop(head);
        check_shifted(&tail, OURS, offset)?;
        tail.advise(0..tail.len(), libc::MADV_DONTNEED)?;
        check_shifted(&tail, OURS, offset)?;
    }
    Ok(())
}

pub fn mremap_shrinks_but_does_not_grow_or_duplicate() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mut mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    assert_eq!(mapping.resize(LEN + PAGE), Err(Errno::EFAULT));
    assert_eq!(mapping.resize(2 * LEN), Err(Errno::EFAULT));
    assert_eq!(mapping.duplicate().map(drop), Err(Errno::EFAULT));
    assert_eq!(mapping.move_and_keep().map(drop), Err(Errno::EINVAL));
    mapping.check(OURS)?;

    mapping.resize(HUGE + PAGE)?;
    mapping.check(OURS)?;
    assert_eq!(mapping.resize(LEN), Err(Errno::EFAULT));
    mapping.check(OURS)
}

/// The same memory comes back at the next touch, not new memory.
pub fn madv_dontneed_keeps_the_memory() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN + 4 * PAGE)?;
    let len = mapping.len();
    mapping.fill(OURS);
    let pages = pagemap::physical_addresses(&mapping)?;
    for offsets in [0..len, PAGE..2 * PAGE, HUGE - PAGE..HUGE + PAGE, LEN..len] {
        mapping.advise(offsets.clone(), libc::MADV_DONTNEED)?;
        let first = pagemap::physical_address(&mapping, offsets.start)?;
        assert_eq!(first, None, "still mapped");
        mapping.check(OURS)?;
        assert_eq!(pagemap::physical_addresses(&mapping)?, pages);
    }
    assert_eq!(bound.available()?, bound.size()? - len);
    Ok(())
}

/// Whatever else is advised, be it followed or refused.
pub fn madvise_does_no_harm() -> Result<()> {
    const MADV_COLD: i32 = 20;
    const MADV_PAGEOUT: i32 = 21;
    const MADV_POPULATE_READ: i32 = 22;
    const MADV_POPULATE_WRITE: i32 = 23;
    const MADV_COLLAPSE: i32 = 25;
    const MADV_GUARD_INSTALL: i32 = 102;

    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN + 4 * PAGE)?;
    let len = mapping.len();
    mapping.advise(0..len, MADV_POPULATE_READ)?;
    mapping.advise(0..len, MADV_POPULATE_WRITE)?;
    assert!(pagemap::physical_addresses(&mapping)?
        .iter()
        .all(Option::is_some));
    mapping.fill(OURS);

    for refused in [libc::MADV_DODUMP, MADV_GUARD_INSTALL] {
        assert_eq!(mapping.advise(0..len, refused), Err(Errno::EINVAL));
    }
    for advice in [
        libc::MADV_NORMAL,
        libc::MADV_RANDOM,
        libc::MADV_SEQUENTIAL,
        libc::MADV_WILLNEED,
        libc::MADV_FREE,
        libc::MADV_REMOVE,
        libc::MADV_MERGEABLE,
        libc::MADV_UNMERGEABLE,
        libc::MADV_HUGEPAGE,
        MADV_COLD,
        MADV_PAGEOUT,
        MADV_COLLAPSE,
    ] {
        for offsets in [0..len, PAGE..3 * PAGE, HUGE - PAGE..len - PAGE] {
            let _ = mapping.advise(offsets, advice);
            mapping
                .check(OURS)
                .with_context(|| format!("after advice {advice}"))?;
        }
    }
    Ok(())
}

/// The kernel knows no name for a word of such memory that processes could share; within a process
/// its address will do.
pub fn futexes_are_private_ones() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(HUGE + PAGE)?;
    mapping.touch();
    for offset in [0, HUGE] {
        assert_eq!(wake(&mapping, offset, 0), Err(Errno::EFAULT));
        assert_eq!(wake(&mapping, offset, libc::FUTEX_PRIVATE_FLAG), Ok(0));
    }
    Ok(())
}

/// Wakes those who wait for a word of it to change, and returns how many that were.
fn wake(mapping: &Mapping, offset: usize, flag: i32) -> nix::Result<i64> {
    let address = mapping.address() + offset;
    let operation = libc::FUTEX_WAKE | flag;
    // SAFETY: the word is mapped; waking writes nothing.
    Errno::result(unsafe { libc::syscall(libc::SYS_futex, address, operation, 1) })
}

/// A child does not get what it shall not have, and its parent keeps it.
pub fn madv_dontfork_is_followed() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    mapping.advise(0..LEN, libc::MADV_DONTFORK)?;
    let signal = child::signal_of(|| mapping.touch())?;
    assert_eq!(signal, Some(Signal::SIGSEGV));
    mapping.check(OURS)
}

pub fn mlock_and_munlock() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.lock()?;
    mapping.fill(OURS);
    mapping.lock()?;
    mapping.unlock()?;
    mapping.check(OURS)?;
    mapping.lock()?;
    // Unmapped while locked.
    drop(mapping);
    bound.wait_all_free()
}

pub fn mprotect() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    for offsets in [0..LEN, PAGE..2 * PAGE, HUGE - PAGE..HUGE + PAGE] {
        let at = offsets.start;
        mapping.protect(offsets.clone(), READ)?;
        mapping.check(OURS)?;
        let written = child::signal_of(|| mapping.write(at, 0))?;
        assert_eq!(written, Some(Signal::SIGSEGV));

        mapping.protect(offsets.clone(), libc::PROT_NONE)?;
        let read = child::signal_of(|| _ = mapping.read(at))?;
        assert_eq!(read, Some(Signal::SIGSEGV));

        mapping.protect(offsets, READ | WRITE)?;
        mapping.check(OURS)?;
        mapping.write(at, OURS.word(at / 8));
    }
    mapping.fill(THEIRS);
    mapping.check(THEIRS)
}

/// A mapping that is made for reading becomes a writable one by mprotect.
pub fn mprotect_makes_a_readable_mapping_writable() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = Request {
        prot: READ,
        ..Request::shared(LEN)
    }
    .map(&bound.open()?)?;
    mapping.check_zero()?;
    assert_eq!(
        child::signal_of(|| mapping.write(0, 1))?,
        Some(Signal::SIGSEGV)
    );
    mapping.protect(0..LEN, READ | WRITE)?;
    mapping.fill(OURS);
    mapping.check(OURS)
}

pub fn msync() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    mapping.sync(libc::MS_SYNC)?;
    mapping.sync(libc::MS_ASYNC)?;
    mapping.sync(libc::MS_SYNC | libc::MS_INVALIDATE)?;
    mapping.check(OURS)
}

pub fn proc_pid_mem() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let mem = File::options()
        .read(true)
        .write(true)
        .open("/proc/self/mem")?;
    let mut bytes = vec![0; LEN];
    mem.read_exact_at(&mut bytes, mapping.address() as u64)?;
    super::pinning::check_bytes(&bytes, OURS)?;

    let words = (0..LEN / 8).flat_map(|index| THEIRS.word(index).to_ne_bytes());
    mem.write_all_at(&words.collect::<Vec<u8>>(), mapping.address() as u64)?;
    mapping.check(THEIRS)?;

    // As a debugger does it, from another process.
    let path = format!("/proc/{}/mem", std::process::id());
    Child::start(|| {
        let mut word = [0; 8];
        File::open(path)?.read_exact_at(&mut word, mapping.address() as u64)?;
        super::pinning::check_bytes(&word, THEIRS)
    })?
    .succeed()
}

pub fn smaps_pagemap_and_numa_maps_can_be_read() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN + 4 * PAGE)?;
    for touched in [false, true] {
        if touched {
            mapping.fill(OURS);
        }
        let vma = smaps::vma_at(mapping.address())?;
        assert_eq!(vma.range, mapping.range());
        assert_eq!(vma.size_of("Size"), Some(mapping.len()));
        let present = pagemap::physical_addresses(&mapping)?;
        assert!(present.iter().all(|page| page.is_some() == touched));
        let address = format!("{:x} ", mapping.address());
        for file in ["numa_maps", "maps", "smaps_rollup", "status", "statm"] {
            let text = fs::read_to_string(format!("/proc/self/{file}"))?;
            let listed = text.lines().any(|line| line.starts_with(&address));
            ensure!(file != "numa_maps" || listed, "not in numa_maps");
        }
    }
    mapping.check(OURS)
}

/// Where core dumps go, until drop.
struct CorePattern(String);

impl CorePattern {
    const FILE: &str = "/proc/sys/kernel/core_pattern";

    fn set(pattern: &str) -> Result<CorePattern> {
        let previous = CorePattern(fs::read_to_string(Self::FILE)?);
        fs::write(Self::FILE, pattern)?;
        Ok(previous)
    }
}

impl Drop for CorePattern {
    fn drop(&mut self) {
        harness::note_problem(fs::write(Self::FILE, &self.0).context(Self::FILE));
    }
}

/// A file that is removed on drop.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Whether four words in a row of the pattern are in the file.
fn contains(bytes: &[u8], pattern: Pattern) -> bool {
    let words: Vec<u64> = bytes
        .chunks_exact(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()))
        .collect();
    let places = [0, 100, PAGE / 8 + 3, HUGE / 8 + 5, LEN / 8 - 4];
    places.iter().any(|&place| {
        let wanted: Vec<u64> = (place..place + 4)
            .map(|index| pattern.word(index))
            .collect();
        words.windows(4).any(|found| found == wanted)
    })
}

/// A dump with everything in it that the process had, but not this.
pub fn contents_are_left_out_of_core_dumps() -> Result<()> {
    let directory = std::env::temp_dir();
    let _core_pattern = CorePattern::set(&format!("{}/p2pmem-core.%p", directory.display()))?;
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    // The control: shared memory of the ordinary kind, which is dumped.
    let ordinary = Mapping::anonymous(LEN)?;
    ordinary.fill(THEIRS);

    let child = Child::start(|| {
        setrlimit(Resource::RLIMIT_CORE, RLIM_INFINITY, RLIM_INFINITY)?;
        // All kinds of mappings: it is not the filter that leaves this one out.
        fs::write("/proc/self/coredump_filter", "0x1ff")?;
        std::process::abort()
    })?;
    let WaitStatus::Signaled(pid, Signal::SIGABRT, dumped) = child.wait()? else {
        anyhow::bail!("the child did not abort");
    };
    ensure!(dumped, "no core dump");
    let core = Temporary(directory.join(format!("p2pmem-core.{pid}")));
    let bytes = fs::read(&core.0).with_context(|| core.0.display().to_string())?;
    assert!(
        contains(&bytes, THEIRS),
        "ordinary memory is not in the dump"
    );
    assert!(!contains(&bytes, OURS), "device memory is in the dump");
    mapping.check(OURS)
}

/// Many small mappings at once, made and dropped in different orders.
pub fn many_mappings_at_once() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    let mut mappings = Vec::new();
    for seed in 0..500 {
        let mapping = bound.map(PAGE)?;
        mapping.check_zero()?;
        mapping.fill(Pattern(seed));
        mappings.push(Some(mapping));
    }
    assert_eq!(bound.available()?, size - 500 * PAGE);
    for step in [7, 3, 2, 1] {
        for mapping in mappings.iter_mut().step_by(step) {
            *mapping = None;
        }
        for (seed, mapping) in mappings.iter().enumerate() {
            if let Some(mapping) = mapping {
                mapping.check(Pattern(seed as u64))?;
            }
        }
    }
    bound.wait_all_free()?;
    // Nothing stays fragmented.
    poll::until("a mapping of everything", || Ok(bound.map(size).is_ok()))
}
