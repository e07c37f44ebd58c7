// SPDX-License-Identifier: GPL-2.0

//! Traps: what a driver with pages like these falls into if it is not careful, one by one.

use super::{LEN, OURS};
use crate::child::Child;
use crate::device::{Bound, LEGACY_CMB, PLAIN};
use crate::disk;
use crate::mapping::{free_address, Mapping, HUGE, PAGE, READ};
use crate::module::{self, Restore};
use crate::pace;
use crate::pagemap;
use crate::pattern::Pattern;
use crate::smaps;
use crate::uffd::{self, Userfault};
use anyhow::{ensure, Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::uio::{process_vm_readv, RemoteIoVec};
use nix::unistd::{getpid, pipe2};
use std::fs::File;
use std::io::{IoSliceMut, Read};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

/// A mapping at an address that is a multiple of 2 MiB.
fn aligned(bound: &Bound, len: usize) -> Result<Mapping> {
    bound.map_at(len, free_address(len, 0)?)
}

/// All of the device but the last few 2 MiB, so that others get the same few again and again.
fn all_but(bound: &Bound, chunks: usize) -> Result<Mapping> {
    aligned(bound, bound.size()? - chunks * HUGE)
}

/// The joined result of a thread.
fn join<T>(thread: thread::ScopedJoinHandle<Result<T>>) -> Result<T> {
    let result = thread.join();
    result.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked")))
}

/// How often the memory is replaced below.
const ROUNDS: usize = 40;

/// Blocks get another order while lockless walkers look at the addresses that they were at.
pub fn blocks_of_other_orders_under_the_eyes_of_gup_fast() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let rest = all_but(&bound, 2)?;
    let disk = disk::open()?;
    // The threads are those of a child, for the tests have none.
    Child::start(|| {
        let file = bound.open()?;
        let mapping = aligned(&bound, HUGE)?;
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let spliced = scope.spawn(|| splice_until(&stop, &mapping));
            let written = scope.spawn(|| write_until(&stop, &mapping, &disk));
            let replaced = replace(&mapping, &file);
            stop.store(true, Relaxed);
            let (spliced, written) = (join(spliced)?, join(written)?);
            replaced?;
            ensure!(spliced > 0 && written > 0, "{spliced}, {written} pins");
            Ok(())
        })
    })?
    .succeed()?;
    drop(rest);
    bound.wait_all_free()
}

/// Orders of the blocks that replace 2 MiB, in the order of their addresses.
fn orders(round: usize) -> Vec<usize> {
    match round % 4 {
        0 => vec![9],
        1 => [vec![0; 64], vec![6, 7, 8]].concat(),
        2 => vec![8; 2],
        _ => vec![3; 64],
    }
}

/// Replaces the memory by new memory, in blocks of ever other orders.
fn replace(mapping: &Mapping, file: &File) -> Result<()> {
    for round in 0..ROUNDS {
        let mut start = 0;
        for order in orders(round) {
            let part = start..start + (PAGE << order);
            start = part.end;
            // As long as the walkers have pins on what was here before, there may be none.
            while let Err(error) = mapping.replace(part.clone(), file) {
                ensure!(error == Errno::ENOMEM, "{error}");
            }
            for page in part.step_by(PAGE) {
                let found = mapping.read(page);
                ensure!(found == 0, "new memory holds {found:#x}");
                mapping.write(page, stamp(round));
            }
        }
    }
    Ok(())
}

fn stamp(round: usize) -> u64 {
    Pattern(round as u64).word(0)
}

/// Pins pages through a pipe and looks at what they hold.
fn splice_until(stop: &AtomicBool, mapping: &Mapping) -> Result<usize> {
    let stamps: Vec<u64> = (0..ROUNDS).map(stamp).collect();
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let mut reader = File::from(reader);
    let mut pins = 0;
    for offset in (0..HUGE).step_by(PAGE).cycle() {
        if stop.load(Relaxed) {
            break;
        }
        if mapping.splice_into(&writer, offset..offset + PAGE).is_err() {
            continue;
        }
        let mut page = [0; PAGE];
        reader.read_exact(&mut page)?;
        let word = u64::from_ne_bytes(page[..8].try_into()?);
        ensure!(word == 0 || stamps.contains(&word), "pinned: {word:#x}");
        pins += 1;
    }
    Ok(pins)
}

/// Pins pages for direct I/O.
fn write_until(stop: &AtomicBool, mapping: &Mapping, disk: &File) -> Result<usize> {
    let mut pins = 0;
    for offset in (0..HUGE).step_by(8 * PAGE).cycle() {
        if stop.load(Relaxed) {
            break;
        }
        match mapping.pwrite_to(disk, offset..offset + 8 * PAGE, 0) {
            Ok(_) => pins += 1,
            Err(error) => ensure!(error == Errno::EFAULT, "{error}"),
        }
    }
    Ok(pins)
}

/// No 2 MiB entries for this process, or again some.
fn disable_huge_entries(disable: bool) -> Result<()> {
    // SAFETY: changes how later faults are answered, no contents.
    let result = unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, u64::from(disable), 0, 0, 0) };
    Errno::result(result).context("PR_SET_THP_DISABLE")?;
    Ok(())
}

/// Faults of both sizes at the same place, while it changes which one is allowed.
pub fn faults_of_both_sizes_at_once() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = aligned(&bound, LEN)?;
    mapping.fill(OURS);
    // Two processes with two threads each: the same memory in two page tables.
    let start = || {
        Child::start(|| {
            let stop = AtomicBool::new(false);
            let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
            thread::scope(|scope| {
                let up = scope.spawn(|| touch_until(&stop, &mapping, 3));
                let down = scope.spawn(|| touch_until(&stop, &mapping, 509));
                let flipped = flip(&mapping, &seen);
                stop.store(true, Relaxed);
                join(up)?;
                join(down)?;
                flipped
            })?;
            let [small, huge] = seen.map(AtomicUsize::into_inner);
            ensure!(small > 0 && huge > 0, "{small} small, {huge} huge");
            mapping.check(OURS)
        })
    };
    let (one, two) = (start()?, start()?);
    one.succeed()?;
    two.succeed()?;
    mapping.check(OURS)
}

fn flip(mapping: &Mapping, seen: &[AtomicUsize; 2]) -> Result<()> {
    for round in 0..pace::scaled(800) {
        match round % 4 {
            0 => disable_huge_entries(true)?,
            1 => disable_huge_entries(false)?,
            2 => mapping.advise(0..LEN, libc::MADV_NOHUGEPAGE)?,
            _ => mapping.advise(0..LEN, libc::MADV_HUGEPAGE)?,
        }
        mapping.advise(0..LEN, libc::MADV_DONTNEED)?;
        let huge = !pagemap::huge_ranges(mapping)?.is_empty();
        let present = huge
            || pagemap::physical_addresses(mapping)?
                .iter()
                .any(Option::is_some);
        if present {
            seen[usize::from(huge)].fetch_add(1, Relaxed);
        }
    }
    Ok(())
}

fn touch_until(stop: &AtomicBool, mapping: &Mapping, stride: usize) -> Result<()> {
    let pages = mapping.len() / PAGE;
    let mut page = 0;
    while !stop.load(Relaxed) {
        page = (page + stride) % pages;
        let (at, expected) = (page * PAGE, OURS.word(page * PAGE / 8));
        let found = mapping.read(at);
        ensure!(found == expected, "{found:#x} at {at:#x}");
        mapping.write(at, expected);
    }
    Ok(())
}

/// A word of each page, the same as [`Mapping::fill`] would leave there.
fn stamp_pages(mapping: &Mapping) {
    for offset in (0..mapping.len()).step_by(PAGE) {
        mapping.write(offset, OURS.word(offset / 8));
    }
}

/// What [`stamp_pages`] left at these offsets of a mapping, of which `mapping` is the rest from
/// `start` on.
fn check_pages(mapping: &Mapping, start: usize, pages: impl Iterator<Item = usize>) -> Result<()> {
    for offset in pages.filter(|&at| at >= start && at < start + mapping.len()) {
        let found = mapping.read(offset - start);
        ensure!(found == OURS.word(offset / 8), "{found:#x} at {offset:#x}");
    }
    Ok(())
}

/// Pages that a change at `offset` may have hit, and some of the others.
fn around(offset: usize) -> impl Iterator<Item = usize> {
    let near = offset.saturating_sub(2 * PAGE)..offset + 3 * PAGE;
    let far = (0..HUGE).step_by(61 * PAGE);
    near.step_by(PAGE).chain(far).chain([HUGE - PAGE])
}

/// A 2 MiB entry is split by a change of part of its range, at each page that there is.
fn check_splits(change: impl Fn(&Mapping, Range<usize>) -> nix::Result<()>) -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for offset in (PAGE..HUGE).step_by(PAGE) {
        let mapping = aligned(&bound, HUGE)?;
        stamp_pages(&mapping);
        if offset == PAGE {
            ensure!(!pagemap::huge_ranges(&mapping)?.is_empty());
        }
        change(&mapping, offset..HUGE)?;
        check_pages(&mapping, 0, around(offset))?;
    }
    bound.wait_all_free()
}

pub fn mprotect_at_every_page_of_a_huge_entry() -> Result<()> {
    check_splits(|mapping, tail| mapping.protect(tail, READ))
}

pub fn madvise_at_every_page_of_a_huge_entry() -> Result<()> {
    // Each makes a VMA of its own, the second with the entries dropped.
    check_splits(|mapping, tail| mapping.advise(tail, libc::MADV_NOHUGEPAGE))?;
    check_splits(|mapping, tail| {
        mapping.advise(tail.clone(), libc::MADV_DONTFORK)?;
        mapping.advise(tail, libc::MADV_DONTNEED)
    })
}

pub fn munmap_at_every_page_of_a_huge_entry() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for offset in (PAGE..HUGE).step_by(PAGE) {
        let mapping = aligned(&bound, HUGE)?;
        stamp_pages(&mapping);
        let (head, tail) = mapping.split(offset);
        // The one part now, the other next time.
        if offset / PAGE % 2 == 0 {
            drop(tail);
            check_pages(&head, 0, around(offset))?;
        } else {
            drop(head);
            check_pages(&tail, offset, around(offset))?;
        }
    }
    bound.wait_all_free()
}

/// Entries of both sizes, and none, in one mapping that moves as a whole and in parts.
pub fn mremap_of_partly_populated_ranges() -> Result<()> {
    const LEN: usize = 4 * HUGE;
    let bound = Bound::new(PLAIN)?;
    for misalignment in [0, PAGE, HUGE / 2, HUGE - PAGE] {
        for cut in [HUGE, HUGE + 7 * PAGE, 2 * HUGE + PAGE, 3 * HUGE - PAGE] {
            let mapping = aligned(&bound, LEN)?;
            stamp_pages(&mapping);
            // 2 MiB entry; none; every third page; none.
            mapping.advise(HUGE..LEN, libc::MADV_DONTNEED)?;
            mapping.advise(2 * HUGE..3 * HUGE, libc::MADV_NOHUGEPAGE)?;
            mapping.read(2 * HUGE);
            for page in (2 * HUGE..3 * HUGE).step_by(3 * PAGE) {
                let others = page + PAGE..(page + 3 * PAGE).min(3 * HUGE);
                mapping.advise(others, libc::MADV_DONTNEED)?;
            }
            assert_eq!(pagemap::huge_ranges(&mapping)?, vec![0..HUGE]);
            let present = pagemap::physical_addresses(&mapping)?;
            assert_eq!(present.iter().flatten().count(), 512 + 171);

            // All three VMAs of it cannot move in one call.
            let (head, mut tail) = mapping.split(cut);
            if tail.move_to(free_address(LEN, misalignment)?) == Err(Errno::EFAULT) {
                let (mut first, mut rest) = tail.split(3 * HUGE - cut);
                first.move_to(free_address(LEN, misalignment)?)?;
                rest.move_to(free_address(LEN, misalignment)?)?;
                check_pages(&first, cut, (cut..LEN).step_by(PAGE))?;
                check_pages(&rest, 3 * HUGE, (0..LEN).step_by(PAGE))?;
            } else {
                check_pages(&tail, cut, (cut..LEN).step_by(PAGE))?;
            }
            check_pages(&head, 0, (0..cut).step_by(PAGE))?;
        }
    }
    bound.wait_all_free()
}

/// A word, read by the kernel: an error where a touch would be SIGBUS.
fn peek(mapping: &Mapping, offset: usize) -> nix::Result<u64> {
    let mut word = [0; 8];
    let mut local = [IoSliceMut::new(&mut word)];
    let remote = [RemoteIoVec {
        base: mapping.address() + offset,
        len: 8,
    }];
    process_vm_readv(getpid(), &mut local, &remote)?;
    Ok(u64::from_ne_bytes(word))
}

/// Not a page of it is there, and none comes.
fn check_gone(mapping: &Mapping) -> Result<()> {
    let present = pagemap::physical_addresses(mapping)?;
    ensure!(present.iter().all(Option::is_none), "still mapped");
    for offset in (0..mapping.len()).step_by(PAGE) {
        let found = peek(mapping, offset);
        ensure!(found == Err(Errno::EFAULT), "{found:x?} at {offset:#x}");
    }
    Ok(())
}

/// How an unbind and the processes that it races with tell each other how far they are.
struct Progress(Mapping);

impl Progress {
    fn new() -> Result<Progress> {
        Ok(Progress(Mapping::anonymous(PAGE)?))
    }

    fn step(&self) {
        self.0.write(0, self.0.read(0) + 1);
    }

    fn wait_for_steps(&self, count: u64) -> Result<()> {
        let target = self.0.read(0) + count;
        crate::poll::until("the race has begun", || Ok(self.0.read(0) >= target))
    }

    fn is_over(&self) -> bool {
        self.0.read(8) != 0
    }

    fn set_over(&self, over: bool) {
        self.0.write(8, u64::from(over));
    }
}

/// A VMA is linked to the file after the zap, with whatever entries it was copied or moved with.
pub fn fork_and_mremap_against_unbind() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let progress = Progress::new()?;
    for cycle in 0..pace::scaled(20) {
        let mut mapping = bound.map(LEN)?;
        stamp_pages(&mapping);
        progress.set_over(false);
        let (mapping_of_child, progress_of_child) = (&mut mapping, &progress);
        let moving = Child::start(move || move_until_over(mapping_of_child, progress_of_child))?;
        let forking = Child::start(|| {
            while !progress.is_over() {
                Child::start(|| {
                    _ = peek(&mapping, 0);
                    _ = peek(&mapping, LEN - PAGE);
                    Ok(())
                })?
                .succeed()?;
            }
            check_gone(&mapping)?;
            Child::start(|| check_gone(&mapping))?.succeed()
        })?;
        progress.wait_for_steps(3 + cycle as u64 % 5)?;
        bound.unbind()?;
        progress.set_over(true);
        moving.succeed()?;
        forking.succeed()?;
        check_gone(&mapping)?;
        drop(mapping);
        bound.bind()?;
        bound.wait_all_free()?;
    }
    Ok(())
}

fn move_until_over(mapping: &mut Mapping, progress: &Progress) -> Result<()> {
    let places = [free_address(LEN, 0)?, free_address(3 * LEN, PAGE)?];
    for place in places.into_iter().cycle() {
        if progress.is_over() {
            break;
        }
        mapping.move_to(place)?;
        for offset in (0..LEN).step_by(64 * PAGE) {
            // Either it is there, or it has gone for good.
            let found = peek(mapping, offset);
            let expected = OURS.word(offset / 8);
            ensure!(
                found == Ok(expected) || found == Err(Errno::EFAULT),
                "{found:x?}"
            );
        }
        progress.step();
    }
    check_gone(mapping)
}

/// The last munmap, or the exit of the last process, while unbind takes the memory away.
pub fn release_against_unbind() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let progress = Progress::new()?;
    let mapping_and_unmapping = Child::start(|| {
        while !progress.is_over() {
            // There may be no file, or none that still maps.
            if let Ok(mapping) = bound.map(LEN) {
                _ = peek(&mapping, HUGE);
                progress.step();
            }
        }
        Ok(())
    })?;
    let exiting = Child::start(|| {
        while !progress.is_over() {
            Child::start(|| {
                let mapping = bound.map(LEN);
                _ = mapping.as_ref().map(|mapping| peek(mapping, HUGE));
                std::mem::forget(mapping);
                Ok(())
            })?
            .succeed()?;
        }
        Ok(())
    })?;
    for cycle in 0..pace::scaled(20) {
        progress.wait_for_steps(1 + cycle as u64 % 3)?;
        bound.unbind()?;
        bound.bind()?;
    }
    progress.set_over(true);
    mapping_and_unmapping.succeed()?;
    exiting.succeed()?;
    bound.wait_all_free()
}

/// The work that munmap leaves behind is done before the module goes, not after.
pub fn work_is_queued_at_rmmod() -> Result<()> {
    let bound = Bound::new(LEGACY_CMB)?;
    for _ in 0..2 {
        bound.map(bound.size()?)?.sparsely().fill(OURS);
        ensure!(bound.available()? < bound.size()?, "zeroed already");
        let restore = Restore;
        assert_eq!(module::try_unload(), Ok(()));
        assert!(!module::is_loaded());
        LEGACY_CMB.with_raw_bar(2, |bar| bar.sparsely().check_zero())?;
        drop(restore);
        bound.bind()?;
    }
    Ok(())
}

pub fn userfaultfd_is_refused() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    stamp_pages(&mapping);
    let ordinary = Mapping::anonymous(LEN)?;
    for mode in [uffd::MISSING, uffd::WRITE_PROTECT, uffd::MINOR] {
        // Asynchronous write protection is for memory of any type.
        for features in [0, uffd::WP_ASYNC] {
            let userfault = Userfault::open(features)?;
            userfault.register(&ordinary, uffd::WRITE_PROTECT)?;
            let userfault = Userfault::open(features)?;
            assert_eq!(userfault.register(&mapping, mode), Err(Errno::EINVAL));
        }
    }
    check_pages(&mapping, 0, (0..LEN).step_by(PAGE))
}

/// The old call maps a file's pages anew, in another order: of this file there is no new mapping.
pub fn remap_file_pages_is_refused() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = aligned(&bound, LEN)?;
    stamp_pages(&mapping);
    for (part, page) in [(0..PAGE, 1), (0..HUGE, 512), (HUGE..LEN, 0), (0..LEN, 0)] {
        assert_eq!(mapping.remap_pages(part, page), Err(Errno::ENODEV));
        check_pages(&mapping, 0, (0..LEN).step_by(PAGE))?;
    }
    assert_eq!(bound.available()?, bound.size()? - LEN);
    Ok(())
}

/// How much of these mappings the kernel takes for written to, once each page has been read.
/// (/proc/kpageflags does not show device memory.)
fn dirty(mappings: &[Mapping]) -> Result<usize> {
    for mapping in mappings {
        // smaps counts only 4 KiB entries.
        mapping.advise(0..mapping.len(), libc::MADV_NOHUGEPAGE)?;
        mapping.touch();
    }
    let mut bytes = 0;
    for vma in smaps::vmas()? {
        if mappings.iter().any(|mapping| mapping.range() == vma.range) {
            let size = |name| vma.size_of(name).unwrap_or(0);
            ensure!(size("Rss") == vma.range.len(), "not counted: {vma:?}");
            bytes += size("Private_Dirty") + size("Shared_Dirty");
        }
    }
    Ok(bytes)
}

/// The last user's marks on a folio are gone when it is handed out again, whatever the order.
pub fn no_flags_of_the_last_user() -> Result<()> {
    const LEN: usize = 2 * HUGE;
    let bound = Bound::new(PLAIN)?;
    let _rest = all_but(&bound, LEN / HUGE)?;
    let disk = disk::open()?;
    for (first, then) in [(HUGE, PAGE), (PAGE, HUGE), (HUGE / 2, HUGE), (HUGE, HUGE)] {
        let map = |len: usize| -> Result<Vec<Mapping>> {
            (0..LEN / len).map(|_| aligned(&bound, len)).collect()
        };
        let used = map(first)?;
        assert_eq!(dirty(&used)?, 0);
        for mapping in &used {
            // By the kernel through a pin, and by the process through its entries.
            mapping.pread_from(&disk, 0..first, 0)?;
            mapping.write(0, 1);
            mapping.advise(0..first, libc::MADV_DONTNEED)?;
        }
        assert_eq!(dirty(&used)?, LEN);
        drop(used);
        let again = map(then)?;
        assert_eq!(dirty(&again)?, 0, "{first:#x}, then {then:#x}");
    }
    Ok(())
}
