// SPDX-License-Identifier: GPL-2.0

//! What kind of mapping it is: ordinary shared memory, of the device.

use super::{LEN, OURS};
use crate::device::{Bound, CMB, PLAIN};
use crate::mapping::{Request, HUGE, PAGE};
use crate::pagemap;
use crate::smaps;
use anyhow::Result;

fn check_flags(address: usize) -> Result<()> {
    let vma = smaps::vma_at(address)?;
    let flags = vma.flags.join(" ");
    assert_eq!(vma.permissions, "rw-s");
    assert!(vma.has("sh"), "not shared: {flags}");
    assert!(vma.has("de"), "may be expanded: {flags}");
    assert!(vma.has("dd"), "is dumped: {flags}");
    assert!(!vma.has("io"), "VM_IO: {flags}");
    assert!(!vma.has("pf"), "VM_PFNMAP: {flags}");
    assert!(!vma.has("mm"), "VM_MIXEDMAP: {flags}");
    assert!(!vma.has("me"), "may be made executable: {flags}");
    Ok(())
}

/// Also after the first touch of each kind: inserting a page the wrong way sets a flag.
pub fn flags_are_those_of_ordinary_memory() -> Result<()> {
    for pci in [PLAIN, CMB] {
        let bound = Bound::new(pci)?;
        // Has both 2 MiB and 4 KiB entries.
        let mapping = bound.map(LEN + PAGE)?;
        check_flags(mapping.address())?;
        mapping.touch();
        check_flags(mapping.address())?;
        mapping.fill(OURS);
        check_flags(mapping.address())?;
    }
    Ok(())
}

pub fn each_mapping_has_a_file_of_its_own() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let (one, two) = (bound.map(HUGE)?, bound.map(HUGE)?);
    // Never merged, and never one file's memory seen through two mappings.
    one.fill(OURS);
    two.check_zero()?;
    assert_eq!(smaps::vma_at(one.address())?.range, one.range());
    assert_eq!(smaps::vma_at(two.address())?.range, two.range());
    Ok(())
}

/// Nothing is mapped before it is touched, unless that is asked for.
pub fn pages_come_at_first_touch_or_with_map_populate() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    let present = pagemap::physical_addresses(&mapping)?;
    assert!(present.iter().all(Option::is_none));

    let populated = Request {
        flags: libc::MAP_SHARED | libc::MAP_POPULATE,
        ..Request::shared(LEN)
    }
    .map(&bound.open()?)?;
    let present = pagemap::physical_addresses(&populated)?;
    assert!(present.iter().all(Option::is_some));
    populated.check_zero()?;
    Ok(())
}

/// The pages count as the process's file pages while they are mapped, as kernel-side accounting
/// expects.
pub fn rss_grows_and_returns_to_what_it_was() -> Result<()> {
    let rss = || -> Result<usize> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let line = status.lines().find(|line| line.starts_with("RssFile:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(kib.unwrap_or_default().parse::<usize>()? * 1024)
    };
    let bound = Bound::new(PLAIN)?;
    let before = rss()?;
    for _ in 0..4 {
        let mapping = bound.map(8 * HUGE + 16 * PAGE)?;
        mapping.touch();
        // Counted by each CPU for itself, so some of it may not show yet.
        let mapped = rss()?.saturating_sub(before);
        assert!(mapped >= 7 * HUGE, "only {mapped} bytes are counted");
        drop(mapping);
    }
    // Page cache of this program may have come in between, 64 MiB may not.
    let grown = rss()?.saturating_sub(before);
    assert!(grown < 4 * HUGE, "{grown} bytes are still counted");
    Ok(())
}
