// SPDX-License-Identifier: GPL-2.0

//! Two threads that allocate at the same time, each on a processor of its own, and one.

use super::Sheet;
use crate::bench::memory::Memory;
use crate::bench::record::{Filled, Quantity};
use crate::bench::source::Source;
use crate::bench::timing::sample;
use crate::mapping::{Mapping, Request, HUGE, PAGE};
use anyhow::{anyhow, Context, Result};
use nix::sched::{sched_setaffinity, CpuSet};
use nix::unistd::Pid;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// What each thread maps, before anything is unmapped.
const PIECES: usize = 24;

/// Samples in a round of what a goal is asked of, in turns: an emulated machine is slow for longer
/// than one takes.
const TIMES: usize = 4;

/// Of the pieces' addresses from multiples of 2 MiB, unless the kernel puts them there by itself.
const OFFSET: usize = 77 * PAGE;

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    for (filled, times) in [(Filled::ByTouch, TIMES), (Filled::AtOnce, 1)] {
        for threads in [1, 2].into_iter().cycle().take(2 * times) {
            let time = sample(|| Ok((allocate(memory, threads, filled)?, threads * PIECES)))?;
            sheet.add(Quantity::AllocateBy(filled, threads), time);
        }
    }
    Ok(())
}

/// From when the first of the threads begins until the last is done.
fn allocate(memory: &Memory, threads: usize, filled: Filled) -> Result<Duration> {
    let barrier = Barrier::new(threads);
    let runs = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|cpu| {
                let barrier = &barrier;
                scope.spawn(move || run(memory, cpu, filled, barrier))
            })
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<Run>>| {
            thread.join().map_err(|_| anyhow!("a thread panicked"))?
        };
        threads.into_iter().map(join).collect::<Result<Vec<Run>>>()
    })?;
    let began = runs.iter().map(|run| run.began).min();
    let ended = runs.iter().map(|run| run.ended).max();
    drop(runs);
    memory.settle()?;
    Ok(ended.context("no thread")? - began.context("no thread")?)
}

struct Run {
    began: Instant,
    ended: Instant,
    /// Unmapped when all threads have ended.
    _pieces: Vec<Mapping>,
}

fn run(memory: &Memory, cpu: usize, filled: Filled, barrier: &Barrier) -> Result<Run> {
    let prepare = || {
        let mut cpus = CpuSet::new();
        cpus.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &cpus)?;
        let room = Request {
            prot: libc::PROT_NONE,
            flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            ..Request::shared((PIECES + 2) * HUGE)
        };
        Ok((memory.open()?, room.map_no_file()?))
    };
    let prepared: Result<(Source, Mapping)> = prepare();
    // Whatever came of that: the other thread waits for this one.
    barrier.wait();
    let (source, room) = prepared?;
    let offset = if source.is_aligned() { 0 } else { OFFSET };
    let first = room.address().next_multiple_of(HUGE) + offset;
    drop(room);

    let began = Instant::now();
    let pieces = (0..PIECES)
        .map(|piece| {
            let at = Some(first + piece * HUGE);
            match filled {
                Filled::AtOnce => source.map_at(HUGE, at),
                Filled::ByTouch => source.reserve_at(HUGE, at).inspect(|mapping| {
                    // It has a part in no more than two tables.
                    mapping.read(0);
                    mapping.read(HUGE - PAGE);
                }),
            }
        })
        .collect::<Result<_>>()?;
    Ok(Run {
        began,
        ended: Instant::now(),
        _pieces: pieces,
    })
}
