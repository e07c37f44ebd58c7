// SPDX-License-Identifier: GPL-2.0

//! 2 MiB entries wherever a whole aligned 2 MiB of the mapping exists.

use super::{LEN, OURS};
use crate::device::{Bound, CMB, GIB_BAR, PLAIN};
use crate::mapping::{free_address, free_table, Mapping, Request, HUGE, PAGE, READ, WRITE};
use crate::pagemap;
use crate::setting::{Setting, THP};
use anyhow::Result;

/// Every whole aligned 2 MiB, and nothing else, is mapped by 2 MiB entries once touched.
fn check_huge(mapping: &Mapping) -> Result<()> {
    for offset in (0..mapping.len()).step_by(PAGE) {
        mapping.write(offset, offset as u64);
    }
    let range = mapping.range();
    let (start, end) = (range.start.next_multiple_of(HUGE), range.end & !(HUGE - 1));
    let expected: Vec<_> = (start < end)
        .then(|| start - range.start..end - range.start)
        .into_iter()
        .collect();
    assert_eq!(
        pagemap::huge_ranges(mapping)?,
        expected,
        "at {:#x}",
        range.start
    );
    for offset in (0..mapping.len()).step_by(PAGE) {
        assert_eq!(mapping.read(offset), offset as u64);
    }
    Ok(())
}

fn check_huge_with(setting: &str) -> Result<()> {
    let _setting = Setting::set(THP, setting)?;
    let bound = Bound::new(PLAIN)?;
    const LEN: usize = 5 * HUGE + 3 * PAGE;

    // Wherever mmap puts it.
    check_huge(&bound.map(LEN)?)?;
    for misalignment in [0, PAGE, HUGE / 2, HUGE - PAGE] {
        bound.wait_all_free()?;
        check_huge(&bound.map_at(LEN, free_address(LEN, misalignment)?)?)?;
    }
    Ok(())
}

pub fn entries_when_the_setting_is_always() -> Result<()> {
    check_huge_with("always")
}

pub fn entries_when_the_setting_is_madvise() -> Result<()> {
    check_huge_with("madvise")
}

pub fn entries_when_the_setting_is_never() -> Result<()> {
    check_huge_with("never")
}

pub fn entries_of_a_controller_memory_buffer() -> Result<()> {
    let bound = Bound::new(CMB)?;
    check_huge(&bound.map(LEN + HUGE)?)
}

/// The small blocks before and after, if there are any, must not break up more than one large one.
pub fn entries_of_a_mapping_of_the_whole_device() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for len in [bound.size()?, bound.size()? - PAGE] {
        for misalignment in [0, PAGE, HUGE / 2, HUGE - PAGE] {
            bound.wait_all_free()?;
            check_huge(&bound.map_at(len, free_address(len, misalignment)?)?)?;
        }
    }
    Ok(())
}

/// None is larger than 2 MiB, even where the kernel could have one of 1 GiB: to split such an entry
/// within 2 MiB, and to move a part, would make it take the device's memory for a page table.
pub fn entries_of_a_whole_aligned_gib() -> Result<()> {
    let bound = Bound::new(GIB_BAR)?;
    let size = bound.size()?;
    let mapping = bound.map_at(size, free_table()?)?;
    mapping.write(0, OURS.word(0));
    // All of it would be there with one that is larger.
    let present = pagemap::physical_addresses(&mapping)?;
    assert_eq!(present.iter().flatten().count(), HUGE / PAGE);
    assert_eq!(pagemap::huge_ranges(&mapping)?.first(), Some(&(0..HUGE)));
    let (first, mut second) = mapping.split(HUGE / 2 + PAGE);
    second.move_to(free_address(second.len(), 0)?)?;
    second.write(0, OURS.word(1));
    assert_eq!(
        (first.read(0), second.read(0)),
        (OURS.word(0), OURS.word(1))
    );
    Ok(())
}

/// A first touch by MAP_POPULATE, by a read, or by the kernel gives them too.
pub fn entries_whoever_touches_first() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let all: Vec<_> = std::iter::once(0..LEN).collect();

    let populated = Request {
        at: Some(free_address(LEN, 0)?),
        flags: libc::MAP_SHARED | libc::MAP_POPULATE,
        ..Request::shared(LEN)
    }
    .map(&bound.open()?)?;
    assert_eq!(pagemap::huge_ranges(&populated)?, all);

    let read = bound.map_at(LEN, free_address(LEN, 0)?)?;
    read.touch();
    assert_eq!(pagemap::huge_ranges(&read)?, all);
    read.fill(OURS);
    assert_eq!(pagemap::huge_ranges(&read)?, all);

    let kernel = bound.map_at(LEN, free_address(LEN, 0)?)?;
    kernel.pread_from(&std::fs::File::open("/dev/zero")?, 0..LEN, 0)?;
    assert_eq!(pagemap::huge_ranges(&kernel)?, all);
    Ok(())
}

/// A process that does not want them gets the same memory in 4 KiB entries, and may change
/// its mind between two touches.
pub fn no_entries_where_madvise_forbids_them() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map_at(LEN, free_address(LEN, 0)?)?;
    mapping.advise(0..LEN, libc::MADV_NOHUGEPAGE)?;
    mapping.write(PAGE, 1);
    assert_eq!(pagemap::huge_ranges(&mapping)?, []);
    mapping.advise(0..LEN, libc::MADV_HUGEPAGE)?;
    mapping.fill(OURS);
    mapping.check(OURS)?;
    // The first 2 MiB have got a table of 4 KiB entries by then.
    assert_eq!(pagemap::huge_ranges(&mapping)?, vec![HUGE..LEN]);

    mapping.advise(0..LEN, libc::MADV_DONTNEED)?;
    mapping.check(OURS)?;
    mapping.advise(0..LEN, libc::MADV_NOHUGEPAGE)?;
    mapping.check(OURS)?;
    mapping.advise(0..LEN, libc::MADV_DONTNEED)?;
    mapping.check(OURS)?;
    assert_eq!(pagemap::huge_ranges(&mapping)?, []);
    Ok(())
}

/// A change to part of one makes it 4 KiB entries of the same memory.
pub fn entries_may_be_split() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for offset in [0, PAGE, HUGE / 2, HUGE - PAGE, HUGE, HUGE + 5 * PAGE] {
        let mapping = bound.map(3 * HUGE)?;
        mapping.fill(OURS);
        mapping.protect(offset..offset + PAGE, READ)?;
        mapping.check(OURS)?;
        mapping.protect(offset..offset + PAGE, READ | WRITE)?;
        mapping.check(OURS)?;
        mapping.fill(OURS);
        mapping.check(OURS)?;
    }
    Ok(())
}
