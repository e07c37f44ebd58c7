// SPDX-License-Identifier: GPL-2.0

//! Exhaustion and limits: who gets memory when there is little, who does not, and how soon.

use super::{LEN, OURS};
use crate::busy::{self, Busy};
use crate::child::Child;
use crate::device::{Bound, CMB, LARGE, LARGE_CMB, LEGACY_CMB, PLAIN};
use crate::mapping::{free_address, Mapping, Request, HUGE, PAGE};
use crate::pace;
use crate::pagemap;
use crate::pattern::Pattern;
use crate::poll;
use crate::verbs::Rdma;
use anyhow::{bail, ensure, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{kill, sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use nix::sys::wait::WaitStatus;
use nix::unistd::{close, pipe2};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::IntoRawFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// What README promises for memory that only waits to be zeroed, in seconds.
const LONGEST_WAIT: u64 = 10;

/// The order in which `count` things are dealt with: no order at all.
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by_key(|&index| OURS.word(index));
    order
}

/// One mapping of everything, in 2 MiB entries: nothing is fragmented.
fn check_not_fragmented(bound: &Bound) -> Result<()> {
    let size = bound.size()?;
    let all = bound.map_at(size, free_address(size, 0)?)?;
    all.touch();
    ensure!(pagemap::huge_ranges(&all)?.iter().eq([&(0..size)]));
    Ok(())
}

/// Maps single pages until there are none left, frees them in random order.
pub fn single_pages_until_none_is_left() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let file = bound.open()?;
    let pages = bound.size()? / PAGE;
    let mut mappings = Vec::new();
    let error = loop {
        match Request::shared(PAGE).map(&file) {
            Ok(mapping) => mappings.push(Some(mapping)),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Errno::ENOMEM);
    assert_eq!(mappings.len(), pages);
    assert_eq!(bound.available()?, 0);
    for index in shuffled(pages) {
        mappings[index] = None;
    }
    check_not_fragmented(&bound)
}

pub fn fifty_thousand_live_mappings() -> Result<()> {
    let count = pace::scaled(50_000);
    let bound = Bound::new(LARGE)?;
    let file = bound.open()?;
    let mut mappings = Vec::new();
    for index in 0..count {
        let mapping = Request::shared(PAGE).map(&file)?;
        mapping.write(0, OURS.word(index));
        mappings.push(Some(mapping));
    }
    assert_eq!(bound.available()?, bound.size()? - count * PAGE);
    let order = shuffled(count);
    for half in order.chunks(count.div_ceil(2)) {
        for (index, mapping) in mappings.iter().enumerate() {
            if let Some(mapping) = mapping {
                ensure!(mapping.read(0) == OURS.word(index), "mapping {index}");
            }
        }
        for &index in half {
            mappings[index] = None;
        }
    }
    check_not_fragmented(&bound)
}

/// Memory is there as soon as its pins are gone, although nobody tells the module of that.
pub fn memory_whose_pins_are_gone_can_be_mapped_at_once() -> Result<()> {
    let rdma = Rdma::open()?;
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    for round in 0..pace::scaled(100) {
        let mapping = bound.map(LEN)?;
        mapping.write(0, 1);
        let region = rdma.register(&mapping)?;
        drop(mapping);
        bound.wait_draining(LEN)?;
        // At another moment between two looks of the worker each time.
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(97) * round as u32 {}
        drop(region);
        let all = Request::shared(size).map(&bound.open()?);
        ensure!(all.is_ok(), "round {round}: {all:?}");
    }
    Ok(())
}

/// An mmap that only a pin stands against fails without waiting for it.
pub fn mmap_does_not_wait_for_pins() -> Result<()> {
    let rdma = Rdma::open()?;
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    let mapping = bound.map(LEN)?;
    let region = rdma.register(&mapping)?;
    drop(mapping);
    let file = bound.open()?;
    for _ in 0..100 {
        let start = Instant::now();
        let result = Request::shared(size).map(&file).map(drop);
        let took = start.elapsed();
        assert_eq!(result, Err(Errno::ENOMEM));
        ensure!(took < Duration::from_secs(1), "{took:?}");
    }
    assert_eq!(bound.draining()?, LEN);
    drop(region);
    bound.map(size)?;
    Ok(())
}

/// Nor does it wait until other memory has been zeroed, if that does not help it.
pub fn mmap_that_a_pin_stands_against_does_not_wait_for_zeroing() -> Result<()> {
    let rdma = Rdma::open()?;
    let bound = Bound::new(CMB)?;
    let size = bound.size()?;
    let pinned = bound.map(HUGE)?;
    let region = rdma.register(&pinned)?;
    drop(pinned);
    bound.wait_draining(HUGE)?;

    // Zeroing a controller memory buffer takes time.
    let rest = bound.map(size - HUGE)?;
    rest.touch();
    drop(rest);
    let result = Request::shared(size).map(&bound.open()?).map(drop);
    assert_eq!(result, Err(Errno::ENOMEM));
    let available = bound.available()?;
    ensure!(available < size - HUGE, "it has all been zeroed by now");
    drop(region);
    bound.wait_all_free()
}

/// All of a controller memory buffer is dirty, and nobody's any more; zeroing has just begun.
fn make_dirty(bound: &Bound) -> Result<()> {
    let all = bound.map(bound.size()?)?;
    all.touch();
    drop(all);
    ensure!(bound.available()? < bound.size()?, "zeroed already");
    Ok(())
}

pub fn mmap_waits_for_memory_that_is_being_zeroed() -> Result<()> {
    let bound = Bound::new(LEGACY_CMB)?;
    for _ in 0..2 {
        make_dirty(&bound)?;
        let start = Instant::now();
        bound.map(bound.size()?)?.sparsely().check_zero()?;
        ensure!(start.elapsed() < Duration::from_secs(LONGEST_WAIT));
    }
    Ok(())
}

/// Where the worker gets so little time that it will not do, mmap gives up when README says so.
pub fn mmap_waits_no_longer_than_ten_seconds() -> Result<()> {
    let bound = Bound::new(LARGE_CMB)?;
    let size = bound.size()?;
    let file = bound.open()?;
    // It takes as long as it takes, until the harness's own limit.
    let wait_all_free = || -> Result<()> {
        while bound.available()? < size {
            sleep(Duration::from_millis(10));
        }
        Ok(())
    };
    // What the device held before is out of the way then.
    bound.map(size)?.touch();
    wait_all_free()?;
    busy::in_a_hurry(|| {
        let all = bound.map(size)?;
        all.touch();
        // Else those who keep the processors busy would have it, too.
        all.advise(0..size, libc::MADV_DONTFORK)?;
        let busy = Busy::start()?;
        drop(all);
        let start = Instant::now();
        let result = Request::shared(size).map(&file).map(drop);
        let took = start.elapsed();
        drop(busy);
        ensure!(result == Err(Errno::ENOMEM), "{result:?} after {took:?}");
        let expected = Duration::from_secs(LONGEST_WAIT)..Duration::from_secs(LONGEST_WAIT * 3 / 2);
        ensure!(expected.contains(&took), "{took:?}");
        Ok(())
    })?;
    wait_all_free()
}

extern "C" fn ignore(_: i32) {}

pub fn a_signal_ends_the_wait_for_memory() -> Result<()> {
    let bound = Bound::new(CMB)?;
    let size = bound.size()?;
    for signal in [Signal::SIGUSR1, Signal::SIGKILL] {
        let file = bound.open()?;
        make_dirty(&bound)?;
        let waiting = Child::start(|| {
            let action = SigAction::new(
                SigHandler::Handler(ignore),
                SaFlags::empty(),
                SigSet::empty(),
            );
            // SAFETY: the handler does nothing.
            unsafe { sigaction(Signal::SIGUSR1, &action) }?;
            let result = Request::shared(size).map(&file).map(drop);
            ensure!(result == Err(Errno::EINTR), "{result:?}");
            Ok(())
        })?;
        let syscall = format!("/proc/{}/syscall", waiting.pid());
        let mmap = format!("{} ", libc::SYS_mmap);
        let argument = format!(" {size:#x} ");
        poll::until("a child waits in mmap", || {
            let text = fs::read_to_string(&syscall)?;
            Ok(text.starts_with(&mmap) && text.contains(&argument))
        })?;
        kill(waiting.pid(), signal)?;
        let status = waiting.wait()?;
        ensure!(bound.available()? < size, "the wait was over anyway");
        match signal {
            Signal::SIGUSR1 => ensure!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}"),
            _ => ensure!(matches!(status, WaitStatus::Signaled(..)), "{status:?}"),
        }
        bound.wait_all_free()?;
    }
    Ok(())
}

/// Each of a thousand processes gets memory, or is told soon that there is none.
pub fn a_thousand_processes_contend_for_an_exhausted_pool() -> Result<()> {
    const PIECE: usize = 8 * PAGE;
    let count = pace::scaled(1000);
    let bound = Bound::new(PLAIN)?;

    // Nothing is left but one piece; another would be there but for those who hold it.
    let pinned = bound.map(PIECE)?;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    assert_eq!(pinned.splice_into(&writer, 0..PIECE)?, PIECE);
    drop(pinned);
    bound.wait_draining(PIECE)?;
    let rest = bound.map(bound.available()? - PIECE)?;

    // For each child: how often it got memory, and its longest call in milliseconds, of those that
    // could have succeeded and of the others.
    let results = Mapping::anonymous((count * 24).next_multiple_of(PAGE))?;
    let (start, hold) = pipe2(OFlag::O_CLOEXEC)?;
    let hold = hold.into_raw_fd();
    let mut children = Vec::new();
    for index in 0..count {
        let (bound, results, start) = (&bound, &results, &start);
        children.push(Child::start(move || {
            close(hold)?;
            // Its own, for mmap calls on one open file wait for each other in sysfs.
            let file = bound.open()?;
            File::from(start.try_clone()?).read_to_end(&mut Vec::new())?;
            contend(&file, PIECE, results, 24 * index)
        })?);
    }
    close(hold)?;
    for child in children {
        child.succeed()?;
    }
    let of_all = |at| (0..count).map(move |index| 24 * index + at);
    let got: u64 = of_all(0).map(|at| results.read(at)).sum();
    let longest = |at| of_all(at).map(|at| results.read(at)).max().unwrap_or(0);
    ensure!(got > 0, "nobody got anything");
    // Much sooner than the wait may be, though a thousand want their turn on the CPUs. What the
    // pins hold is not waited for at all.
    let prompt = pace::patience(Duration::from_secs(LONGEST_WAIT) / 2).as_millis() as u64;
    ensure!(
        longest(8) < prompt && longest(16) < prompt,
        "{} and {} ms",
        longest(8),
        longest(16)
    );

    assert_eq!(bound.draining()?, PIECE);
    File::from(reader).read_exact(&mut [0; PIECE])?;
    drop(rest);
    bound.wait_all_free()
}

/// One of many that want memory.
fn contend(file: &File, piece: usize, results: &Mapping, at: usize) -> Result<()> {
    let mut got = 0;
    for round in 0..2 {
        // The second time it is more than there can be as long as the pins are held.
        let len = piece * (1 + round);
        let start = Instant::now();
        let result = Request::shared(len).map(file);
        results.write(at + 8 + 8 * round, start.elapsed().as_millis() as u64);
        match result {
            Ok(mapping) => {
                ensure!(len == piece, "memory that is pinned was handed out");
                mapping.check_zero()?;
                mapping.fill(Pattern(u64::from(std::process::id())));
                mapping.check(Pattern(u64::from(std::process::id())))?;
                got += 1;
            }
            Err(Errno::ENOMEM) => {}
            Err(error) => bail!("{error}"),
        }
    }
    results.write(at, got);
    Ok(())
}
