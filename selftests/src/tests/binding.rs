// SPDX-License-Identifier: GPL-2.0

//! Which devices are bound, which of their memory is donated, and the sysfs files.

use super::{LEN, OURS, THEIRS};
use crate::child::{as_nobody, NOBODY};
use crate::device::{Bound, Pci, CMB, CMBMSC, LEGACY_CMB, MIXED, PLAIN};
use crate::mapping::{Mapping, Request, PAGE};
use crate::module;
use crate::pagemap;
use crate::pattern::Pattern;
use anyhow::{ensure, Context, Result};
use nix::unistd::{chown, Gid};
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

const MIB: usize = 1 << 20;

/// Every page of the mapping lies in the BAR.
fn check_in_bar(mapping: &Mapping, pci: Pci, bar: usize) -> Result<()> {
    let bar = pci.bar(bar)?;
    mapping.touch();
    for address in pagemap::physical_addresses(mapping)? {
        let address = address.context("a touched page is not there")?;
        ensure!(
            bar.range.contains(&address),
            "{address:#x} is not in the BAR"
        );
    }
    Ok(())
}

/// The device donates `size` bytes of its BAR 2, all usable.
fn donates(pci: Pci, size: usize) -> Result<()> {
    let bound = Bound::new(pci)?;
    assert_eq!(bound.size()?, size);
    assert_eq!(bound.available()?, size);
    let mapping = bound.map(size)?.sparsely();
    check_in_bar(&mapping, pci, 2)?;
    mapping.check_zero()?;
    mapping.fill(OURS);
    mapping.check(OURS)
}

pub fn binds_only_by_driver_override() -> Result<()> {
    assert_eq!(PLAIN.driver(), None);
    PLAIN.probe();
    assert_eq!(PLAIN.driver(), None);
    fs::write("/sys/bus/pci/drivers/p2pmem/bind", PLAIN.0).expect_err("bound without override");
    assert_eq!(PLAIN.driver(), None);

    let bound = Bound::new(PLAIN)?;
    assert!(bound.is_bound());
    bound.unbind()?;
    assert!(!PLAIN.path("p2pmem").exists());
    Ok(())
}

pub fn nvme_controller_memory_buffer() -> Result<()> {
    donates(CMB, 64 * MIB)
}

pub fn nvme_controller_memory_buffer_of_before_1_4() -> Result<()> {
    donates(LEGACY_CMB, 16 * MIB)
}

/// As a reset leaves it. (Where nvme had the controller before, its buffer is still on.)
pub fn nvme_controller_memory_buffer_that_is_off() -> Result<()> {
    let bound = Bound::to_be(CMB)?;
    CMB.with_raw_bar(0, |registers| {
        registers.write(CMBMSC, 0);
        Ok(())
    })?;
    bound.bind()?;
    assert_eq!(bound.size()?, 64 * MIB);
    let mapping = bound.map(LEN)?.sparsely();
    mapping.fill(OURS);
    mapping.check(OURS)?;
    drop(mapping);
    bound.unbind()?;
    CMB.with_raw_bar(0, |registers| {
        ensure!(registers.read(CMBMSC) == 0, "it is left on");
        Ok(())
    })
}

pub fn plain_prefetchable_bar() -> Result<()> {
    donates(PLAIN, 64 * MIB)
}

pub fn largest_prefetchable_bar_among_others() -> Result<()> {
    assert!(MIXED.bar(0)?.is_memory() && !MIXED.bar(0)?.is_prefetchable());
    assert!(MIXED.bar(1)?.is_io());
    assert!(MIXED.bar(2)?.is_prefetchable());
    let bound = Bound::new(MIXED)?;
    assert_eq!(bound.size()?, 4 * MIB);
    check_in_bar(&bound.map(4 * MIB)?, MIXED, 2)
}

pub fn parameter_bar_chooses_the_bar() -> Result<()> {
    let _restore = module::with_parameters("bar=2")?;
    donates(PLAIN, 64 * MIB)
}

pub fn two_devices_at_once() -> Result<()> {
    let (plain, legacy) = (Bound::new(PLAIN)?, Bound::new(LEGACY_CMB)?);
    let (ours, theirs) = (plain.map(LEN)?, legacy.map(LEN)?);
    ours.fill(OURS);
    theirs.fill(THEIRS);
    assert_eq!(plain.available()?, plain.size()? - LEN);
    assert_eq!(legacy.available()?, legacy.size()? - LEN);
    ours.check(OURS)?;
    theirs.check(THEIRS)?;
    check_in_bar(&ours, PLAIN, 2)?;
    check_in_bar(&theirs, LEGACY_CMB, 2)?;

    // One goes, the other stays.
    drop(ours);
    plain.wait_all_free()?;
    plain.unbind()?;
    theirs.check(THEIRS)?;
    assert_eq!(legacy.available()?, legacy.size()? - LEN);
    Ok(())
}

pub fn sysfs_files_have_their_modes_and_formats() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mode = |name: &str| -> Result<u32> {
        let metadata = fs::metadata(PLAIN.path("p2pmem").join(name))?;
        Ok(metadata.permissions().mode() & 0o7777)
    };
    assert_eq!(mode("allocate")?, 0o660);
    let size = bound.size()?;
    for (name, value) in [
        ("size", size),
        ("available", size),
        ("published", 0),
        ("draining", 0),
    ] {
        assert_eq!(mode(name)?, 0o444, "{name}");
        let text = fs::read_to_string(PLAIN.path("p2pmem").join(name))?;
        assert_eq!(text, format!("{value}\n"), "{name}");
    }
    Ok(())
}

/// Each mapping takes its length in whole pages, and gives exactly that back.
pub fn available_counts_whole_pages() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    let mut mappings = Vec::new();
    let mut expected = size;
    for len in [
        1,
        PAGE,
        3 * PAGE,
        MIB - PAGE,
        2 * MIB,
        2 * MIB + PAGE,
        7 * MIB,
    ] {
        mappings.push(Request::shared(len).map(&bound.open()?)?);
        expected -= len.next_multiple_of(PAGE);
        assert_eq!(bound.available()?, expected, "after {len} bytes");
    }
    // Neither touching nor forgetting changes anything.
    mappings[5].touch();
    assert_eq!(bound.available()?, expected);
    while let Some(mapping) = mappings.pop() {
        expected += mapping.len().next_multiple_of(PAGE);
        drop(mapping);
        bound.wait_available(expected)?;
    }
    assert_eq!(expected, size);
    Ok(())
}

pub fn mappings_do_not_overlap() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mut mappings = Vec::new();
    for seed in 0..16 {
        let len = MIB + seed * 3 * PAGE;
        let mapping = bound.map(len)?;
        mapping.check_zero()?;
        mapping.fill(Pattern(seed as u64));
        mappings.push(mapping);
    }
    for (seed, mapping) in mappings.iter().enumerate() {
        mapping.check(Pattern(seed as u64))?;
    }
    Ok(())
}

/// `allocate` can be given to a group; without that it is root's.
pub fn group_permission_gives_allocate() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let path = PLAIN.path("p2pmem/allocate");

    as_nobody(|| {
        for (read, write) in [(true, true), (true, false), (false, true)] {
            let result = File::options().read(read).write(write).open(&path);
            let error = result.err().context("opened without permission")?;
            ensure!(error.kind() == ErrorKind::PermissionDenied, "{error}");
        }
        ensure!(bound.available()? == bound.size()?);
        Ok(())
    })?;

    chown(&path, None, Some(Gid::from_raw(NOBODY)))?;
    as_nobody(|| {
        let mapping = bound.map(LEN)?;
        mapping.fill(OURS);
        mapping.check(OURS)
    })
}
