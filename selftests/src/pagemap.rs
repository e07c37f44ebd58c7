// SPDX-License-Identifier: GPL-2.0

//! `/proc/self/pagemap`: which physical pages a mapping has, in entries of which size.

use crate::mapping::{Mapping, PAGE};
use anyhow::{ensure, Context, Result};
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

/// `struct pm_scan_arg` of linux/fs.h
#[repr(C)]
#[derive(Default)]
pub struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of linux/fs.h
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_HUGE: u64 = 1 << 6;

nix::ioctl_readwrite!(pagemap_scan, b'f', 16, ScanArg);

/// Offsets of the mapping that 2 MiB entries map: PAGEMAP_SCAN is the only interface that
/// tells (smaps does not count huge entries of device memory).
pub fn huge_ranges(mapping: &Mapping) -> Result<Vec<Range<usize>>> {
    let pagemap = File::open("/proc/self/pagemap")?;
    let mut regions = [Region::default(); 256];
    let mut arg = ScanArg {
        size: size_of::<ScanArg>() as u64,
        start: mapping.range().start as u64,
        end: mapping.range().end.next_multiple_of(PAGE) as u64,
        vec: regions.as_mut_ptr() as u64,
        vec_len: regions.len() as u64,
        category_mask: PAGE_IS_HUGE | PAGE_IS_PRESENT,
        return_mask: PAGE_IS_HUGE | PAGE_IS_PRESENT,
        ..ScanArg::default()
    };
    // SAFETY: `arg` points to `regions`, which live and have `vec_len` elements.
    let found = unsafe { pagemap_scan(pagemap.as_raw_fd(), &mut arg) }.context("PAGEMAP_SCAN")?;
    ensure!(arg.walk_end == arg.end, "PAGEMAP_SCAN stopped early");
    let offset = |address: u64| address as usize - mapping.address();
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for region in &regions[..found as usize] {
        let range = offset(region.start)..offset(region.end);
        match ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => ranges.push(range),
        }
    }
    Ok(ranges)
}

/// Physical address of the page at `offset`; `None` when no entry maps it.
pub fn physical_address(mapping: &Mapping, offset: usize) -> Result<Option<u64>> {
    let pages = physical_addresses_of(mapping.addresses(&(offset..offset + PAGE)))?;
    pages.first().copied().context("no page")
}

/// Physical address of each page of the mapping, in order.
pub fn physical_addresses(mapping: &Mapping) -> Result<Vec<Option<u64>>> {
    physical_addresses_of(mapping.range())
}

fn physical_addresses_of(range: Range<usize>) -> Result<Vec<Option<u64>>> {
    const PRESENT: u64 = 1 << 63;
    const PFN: u64 = (1 << 55) - 1;

    let mut entries = vec![0; range.len().div_ceil(PAGE) * 8];
    File::open("/proc/self/pagemap")?
        .read_exact_at(&mut entries, (range.start / PAGE * 8) as u64)
        .context("/proc/self/pagemap")?;
    let mut addresses = Vec::new();
    for entry in entries.chunks_exact(8) {
        let entry = u64::from_ne_bytes(entry.try_into()?);
        let present = entry & PRESENT != 0;
        ensure!(!present || entry & PFN != 0, "the PFN is hidden: not root?");
        addresses.push(present.then_some((entry & PFN) * PAGE as u64));
    }
    Ok(addresses)
}
