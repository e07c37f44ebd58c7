// SPDX-License-Identifier: GPL-2.0

//! Bad input: a clear error, and nothing lost.

use super::{LEN, OURS};
use crate::device::{Bound, Pci, DISK, MIXED, PLAIN, SMALL, UNASSIGNED};
use crate::disk;
use crate::kmsg::{Log, ERROR};
use crate::mapping::{Request, EXEC, HUGE, PAGE, READ, WRITE};
use crate::module;
use anyhow::{ensure, Result};
use nix::errno::Errno;
use std::fs::{self, File};
use std::process::Command;

/// mmap fails that way, and takes nothing.
fn mmap_fails(request: Request, expected: Errno) -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let error = request.map(&bound.open()?).expect_err("it was mapped");
    assert_eq!(error, expected);
    assert_eq!(bound.available()?, bound.size()?);
    // What is right still works.
    bound.map(LEN)?.check_zero()?;
    Ok(())
}

pub fn map_private() -> Result<()> {
    for prot in [READ, READ | WRITE] {
        let request = Request {
            flags: libc::MAP_PRIVATE,
            prot,
            ..Request::shared(LEN)
        };
        mmap_fails(request, Errno::EINVAL)?;
    }
    Ok(())
}

pub fn offset_not_zero() -> Result<()> {
    for offset in [PAGE, LEN, 1 << 40] {
        let request = Request {
            offset: offset as i64,
            ..Request::shared(LEN)
        };
        mmap_fails(request, Errno::EINVAL)?;
    }
    Ok(())
}

/// sysfs is a file system of which nothing can be executed.
pub fn prot_exec() -> Result<()> {
    for prot in [READ | EXEC, READ | WRITE | EXEC] {
        let request = Request {
            prot,
            ..Request::shared(LEN)
        };
        mmap_fails(request, Errno::EPERM)?;
    }
    Ok(())
}

pub fn prot_exec_by_mprotect() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    for offsets in [0..LEN, PAGE..2 * PAGE] {
        let result = mapping.protect(offsets, READ | WRITE | EXEC);
        assert_eq!(result, Err(Errno::EACCES));
    }
    mapping.check(OURS)
}

pub fn longer_than_available() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    for len in [size + PAGE, size + HUGE, 2 * size, 1 << 40] {
        let result = Request::shared(len).map(&bound.open()?).map(drop);
        assert_eq!(result, Err(Errno::ENOMEM), "{len:#x} bytes");
        assert_eq!(bound.available()?, size);
    }

    let some = bound.map(LEN)?;
    let result = Request::shared(size - LEN + PAGE)
        .map(&bound.open()?)
        .map(drop);
    assert_eq!(result, Err(Errno::ENOMEM));
    assert_eq!(bound.available()?, size - LEN);

    // All the rest, but not a page more.
    let rest = bound.map(size - LEN)?;
    assert_eq!(bound.available()?, 0);
    let result = Request::shared(PAGE).map(&bound.open()?).map(drop);
    assert_eq!(result, Err(Errno::ENOMEM));
    some.check_zero()?;
    rest.touch();
    Ok(())
}

/// -ENOMEM, and not what the allocator happens to say, when there is enough but in pieces.
pub fn available_in_pieces_is_available() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    let mut mappings = Vec::new();
    while bound.available()? > 0 {
        mappings.push(Some(bound.map(HUGE / 2)?));
    }
    for mapping in mappings.iter_mut().step_by(2) {
        *mapping = None;
    }
    bound.wait_available(size / 2)?;
    let all = bound.map(size / 2)?;
    all.check_zero()?;
    all.fill(OURS);
    all.check(OURS)?;
    assert_eq!(bound.available()?, 0);
    Ok(())
}

pub fn file_that_was_opened_before_unbind() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let old = bound.open()?;
    let map_old = || Request::shared(LEN).map(&old).map(drop);
    map_old()?;
    bound.wait_all_free()?;

    bound.unbind()?;
    assert_eq!(map_old(), Err(Errno::ENODEV));
    bound.bind()?;
    assert_eq!(map_old(), Err(Errno::ENODEV));
    assert_eq!(bound.available()?, bound.size()?);
    bound.map(LEN)?.check_zero()?;
    Ok(())
}

pub fn file_that_is_open_for_reading_only() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let file = File::open(PLAIN.path("p2pmem/allocate"))?;
    let writable = Request::shared(LEN).map(&file).map(drop);
    assert_eq!(writable, Err(Errno::EACCES));
    assert_eq!(bound.available()?, bound.size()?);

    let readable = Request {
        prot: READ,
        ..Request::shared(LEN)
    }
    .map(&file)?;
    readable.check_zero()?;
    assert_eq!(readable.protect(0..LEN, READ | WRITE), Err(Errno::EACCES));
    Ok(())
}

/// Binding fails with one line that has all of `parts`, in whatever case.
fn probe_fails(pci: Pci, parts: &[&str]) -> Result<()> {
    let bound = Bound::to_be(pci)?;
    let mut log = Log::from_now()?;
    let result = fs::write("/sys/bus/pci/drivers/p2pmem/bind", pci.0);
    assert!(result.is_err() && !bound.is_bound(), "it was bound");
    assert!(!pci.path("p2pmem").exists());

    let mut errors = log.of_device(pci.0)?;
    errors.retain(|record| record.level <= ERROR);
    assert_eq!(errors.len(), 1, "not one line: {errors:?}");
    assert_eq!(errors[0].level, ERROR);
    let line = errors[0].text.to_lowercase();
    for part in parts {
        ensure!(
            line.contains(&part.to_lowercase()),
            "no `{part}` in: {line}"
        );
    }

    // Another driver can have it at once.
    match pci {
        DISK => {
            pci.bind_default("nvme")?;
            disk::block_device(pci)?;
        }
        _ => {
            let modprobe = Command::new("modprobe").arg("pci-stub").status()?;
            ensure!(modprobe.success(), "modprobe pci-stub");
            pci.set_override(Some("pci-stub"))?;
            pci.probe();
            assert_eq!(pci.driver().as_deref(), Some("pci-stub"));
        }
    }
    Ok(())
}

pub fn nvme_controller_without_cmb() -> Result<()> {
    probe_fails(DISK, &["CMB"])
}

pub fn bar_smaller_than_2_mib() -> Result<()> {
    assert_eq!(SMALL.bar(2)?.len(), 1 << 20);
    probe_fails(SMALL, &["2 MiB"])
}

pub fn bar_without_an_address() -> Result<()> {
    let bar = UNASSIGNED.bar(2)?;
    assert!(
        bar.len() == 0 || bar.is_unassigned(),
        "the guest gave BAR 2 of {} an address",
        UNASSIGNED.0
    );
    // Linux forgets a BAR that it finds no address for; the device still has it.
    let config = fs::read(UNASSIGNED.path("config"))?;
    assert_eq!(config[0x18] & 0xf, 0xc, "not a prefetchable 64-bit BAR");
    probe_fails(UNASSIGNED, &["BAR 2", "assigned"])
}

pub fn parameter_bar_out_of_range() -> Result<()> {
    for bar in [6, 7, 1000, -2] {
        let _restore = module::with_parameters(&format!("bar={bar}"))?;
        probe_fails(PLAIN, &["bar=", "out of range"])?;
    }
    Ok(())
}

pub fn parameter_bar_is_an_io_bar() -> Result<()> {
    assert!(MIXED.bar(1)?.is_io());
    let _restore = module::with_parameters("bar=1")?;
    probe_fails(MIXED, &["bar=", "I/O"])
}

pub fn parameter_bar_is_too_small() -> Result<()> {
    assert!(MIXED.bar(0)?.is_memory() && MIXED.bar(0)?.len() < HUGE as u64);
    let _restore = module::with_parameters("bar=0")?;
    probe_fails(MIXED, &["2 MiB"])
}

pub fn parameter_bar_is_not_there() -> Result<()> {
    assert_eq!(PLAIN.bar(4)?.len(), 0);
    let _restore = module::with_parameters("bar=4")?;
    probe_fails(PLAIN, &["bar"])
}
