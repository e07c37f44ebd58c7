// SPDX-License-Identifier: GPL-2.0

//! The device is taken out of its slot while its memory is in use, with and without a warning.

use super::unbind::{check_line, check_sigbus};
use super::{OURS, THEIRS};
use crate::child::Child;
use crate::device::{Bound, Pci, DISK, PLAIN};
use crate::disk;
use crate::harness;
use crate::helper::{After, Helper, Pin};
use crate::hotplug::Slot;
use crate::kmsg::Log;
use crate::mapping::{Mapping, HUGE, PAGE};
use crate::module;
use crate::poll;
use crate::uring::Ring;
use anyhow::{ensure, Context, Result};
use serde_json::json;
use std::fs;

/// Little, as every access to it leaves the guest; a large block and small ones.
const LEN: usize = HUGE + 4 * PAGE;

/// The next drive in the slot has all its memory, empty, and is a drive for nvme after that.
fn check_next_drive(slot: &mut Slot) -> Result<()> {
    let pci = slot.plug()?;
    let bound = Bound::new(pci)?;
    assert_eq!(bound.size()?, 16 << 20);
    assert_eq!(bound.available()?, bound.size()?);
    assert_eq!(bound.draining()?, 0);
    let all = bound.map(bound.size()?)?.sparsely();
    all.check_zero()?;
    all.fill(OURS);
    drop(all);
    bound.unbind()?;

    pci.bind_default("nvme")?;
    let drive = disk::open_of(pci)?;
    let (from, to) = (Mapping::anonymous(LEN)?, Mapping::anonymous(LEN)?);
    from.fill(THEIRS);
    let at = 8 << 20;
    assert_eq!(from.pwrite_to(&drive, 0..LEN, at)?, LEN);
    assert_eq!(to.pread_from(&drive, 0..LEN, at)?, LEN);
    to.check(THEIRS)?;
    drop(drive);
    drop(bound);
    slot.unplug_begin()?;
    slot.wait_gone()
}

/// Removal waits for no one but its own device.
fn check_others_work() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(THEIRS);
    let disk = disk::open()?;
    assert_eq!(mapping.pwrite_to(&disk, 0..LEN, 0)?, LEN);
    let ram = Mapping::anonymous(LEN)?;
    assert_eq!(ram.pread_from(&disk, 0..LEN, 0)?, LEN);
    ram.check(THEIRS)
}

pub fn of_a_device_that_nobody_uses() -> Result<()> {
    let mut slot = Slot::open()?;
    // With nvme, with no driver, and with p2pmem.
    let pci = slot.plug()?;
    slot.unplug_begin()?;
    slot.wait_gone()?;
    slot.plug()?;
    pci.unbind()?;
    slot.unplug_begin()?;
    slot.wait_gone()?;
    slot.plug()?;
    let bound = Bound::new(pci)?;
    let mut log = Log::from_now()?;
    slot.unplug_begin()?;
    slot.wait_gone()?;
    assert!(!pci.exists());
    assert!(!bound.is_bound());
    let lines = log.of_device(pci.0)?;
    assert!(lines.is_empty(), "{lines:?}");
    check_next_drive(&mut slot)
}

/// How the device leaves.
type Leave = fn(&mut Slot) -> Result<()>;

fn check_mapped(leave: Leave) -> Result<()> {
    let mut slot = Slot::open()?;
    let pci = slot.plug()?;
    let bound = Bound::new(pci)?;
    let (touched, untouched) = (bound.map(LEN)?, bound.map(LEN)?);
    touched.fill(OURS);
    leave(&mut slot)?;
    slot.wait_gone()?;
    assert!(!pci.exists());
    check_sigbus(&touched)?;
    check_sigbus(&untouched)?;
    // Nor does the next one bring them back to life.
    slot.plug()?;
    pci.unbind()?;
    bound.bind()?;
    check_sigbus(&touched)?;
    check_sigbus(&untouched)?;
    assert_eq!(bound.available()?, bound.size()?);
    leave(&mut slot)?;
    slot.wait_gone()?;

    drop((touched, untouched));
    let reload = module::unloaded()?;
    drop(reload);
    check_next_drive(&mut slot)
}

pub fn of_a_device_whose_memory_is_mapped() -> Result<()> {
    check_mapped(Slot::unplug_begin)
}

pub fn without_warning_while_memory_is_mapped() -> Result<()> {
    check_mapped(Slot::pull)
}

fn check_pinned(leave: Leave, pin: Pin, after: After) -> Result<()> {
    let mut slot = Slot::open()?;
    let pci = slot.plug()?;
    let bound = Bound::new(pci)?;
    let holder = Helper::hold(pci, LEN, OURS, pin, after)?;
    let mut log = Log::from_now()?;
    leave(&mut slot)?;
    let lines = log.wait_for(pci.0, "unbind waits", 1)?;
    check_line(&lines[0], LEN, &holder)?;
    check_others_work()?;
    assert!(pci.exists(), "removed with pinned memory");

    holder.release()?;
    slot.wait_gone()?;
    assert!(!pci.exists());
    assert!(!bound.is_bound());
    check_next_drive(&mut slot)
}

pub fn waits_for_a_registration_of_mapped_memory() -> Result<()> {
    check_pinned(Slot::unplug_begin, Pin::Verbs, After::StayMapped)
}

pub fn waits_for_io_uring_with_unmapped_memory() -> Result<()> {
    check_pinned(Slot::unplug_begin, Pin::Uring, After::Unmap)
}

pub fn without_warning_waits_for_a_registration() -> Result<()> {
    check_pinned(Slot::pull, Pin::Verbs, After::Unmap)
}

pub fn without_warning_waits_for_io_uring() -> Result<()> {
    check_pinned(Slot::pull, Pin::Uring, After::StayMapped)
}

/// A drive in the slot, bound, with some of its memory mapped.
fn plugged_and_mapped(plug: fn(&mut Slot) -> Result<Pci>) -> Result<(Slot, Bound, Mapping)> {
    let mut slot = Slot::open()?;
    let bound = Bound::new(plug(&mut slot)?)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    Ok((slot, bound, mapping))
}

/// The disk [`DISK`] leaves all I/O waiting, until drop.
struct StoppedDisk<'a>(&'a mut Slot);

impl StoppedDisk<'_> {
    fn new(slot: &mut Slot) -> Result<StoppedDisk<'_>> {
        throttle(slot, 1)?;
        let stopped = StoppedDisk(slot);
        // What comes first goes through, and its 4096 bytes stand for so many seconds to wait.
        let page = Mapping::anonymous(PAGE)?;
        assert_eq!(page.pwrite_to(&disk::open()?, 0..PAGE, 0)?, PAGE);
        Ok(stopped)
    }

    /// Waits until I/O hangs in it.
    fn wait_for_io(&self) -> Result<()> {
        let device = disk::block_device(DISK)?;
        let name = device.file_name().context("no name")?;
        let path = std::path::Path::new("/sys/class/block").join(name);
        poll::until("I/O in flight", || {
            let in_flight = fs::read_to_string(path.join("inflight"))?;
            Ok(in_flight.split_whitespace().any(|count| count != "0"))
        })
    }
}

impl Drop for StoppedDisk<'_> {
    fn drop(&mut self) {
        harness::note_problem(throttle(self.0, 0));
    }
}

/// Bytes per second of the disk; 0 for as many as it can.
fn throttle(slot: &mut Slot, rate: u64) -> Result<()> {
    let limits = json!({
        "device": "disk", "bps": rate, "bps_rd": 0, "bps_wr": 0, "iops": 0, "iops_rd": 0, "iops_wr": 0,
    });
    slot.monitor().execute("block_set_io_throttle", limits)?;
    Ok(())
}

/// A write from the memory to the disk, which is to have all of it.
fn check_disk(at: i64) -> Result<()> {
    let ram = Mapping::anonymous(LEN)?;
    assert_eq!(ram.pread_from(&disk::open()?, 0..LEN, at)?, LEN);
    ram.check(OURS)
}

/// Where on the disk; something else is there before.
fn prepare_disk() -> Result<i64> {
    let (at, ram) = (16 << 20, Mapping::anonymous(LEN)?);
    ram.fill(THEIRS);
    assert_eq!(ram.pwrite_to(&disk::open()?, 0..LEN, at)?, LEN);
    Ok(at)
}

pub fn waits_for_o_direct_in_flight() -> Result<()> {
    let at = prepare_disk()?;
    let (mut slot, bound, mapping) = plugged_and_mapped(Slot::plug)?;
    let mut log = Log::from_now()?;
    // Ends, on drop too, after the disk goes on.
    let writer;
    let stopped = StoppedDisk::new(&mut slot)?;
    writer = Child::start(|| {
        let written = mapping.pwrite_to(&disk::open()?, 0..LEN, at)?;
        ensure!(written == LEN, "{written} bytes");
        Ok(())
    })?;
    stopped.wait_for_io()?;
    stopped.0.unplug_begin()?;
    log.wait_for(bound.pci.0, "unbind waits", 1)?;
    check_sigbus(&mapping)?;
    assert!(bound.pci.exists(), "removed with I/O in flight");

    drop(stopped);
    writer.succeed()?;
    slot.wait_gone()?;
    check_disk(at)?;
    drop(mapping);
    check_next_drive(&mut slot)
}

pub fn waits_for_io_uring_in_flight() -> Result<()> {
    let at = prepare_disk()?;
    let disk = disk::open()?;
    let (mut slot, bound, mapping) = plugged_and_mapped(Slot::plug)?;
    let mut ring = Ring::with_buffer(&mapping)?;
    let mut log = Log::from_now()?;
    let stopped = StoppedDisk::new(&mut slot)?;
    ring.begin_write_fixed(&disk, 0..LEN, at as u64)?;
    stopped.wait_for_io()?;
    stopped.0.unplug_begin()?;
    log.wait_for(bound.pci.0, "unbind waits", 1)?;
    drop(mapping);
    assert!(!ring.has_finished());

    drop(stopped);
    ring.finish(LEN)?;
    check_disk(at)?;
    // The pin is the ring's, not that of the I/O.
    assert!(bound.pci.exists(), "removed with pinned memory");
    drop(ring);
    slot.wait_gone()?;
    check_next_drive(&mut slot)
}

/// Nobody can say what I/O with a device that is gone transfers, but it ends, and so does removal.
pub fn without_warning_while_io_is_in_flight() -> Result<()> {
    let (mut slot, bound, mapping) = plugged_and_mapped(Slot::plug_without_disk)?;
    let mut log = Log::from_now()?;
    let io: [fn(&Mapping) -> nix::Result<usize>; 2] = [
        |mapping| mapping.pwrite_to(&open_disk(), 0..LEN, 0),
        |mapping| mapping.pread_from(&open_disk(), 0..LEN, 32 << 20),
    ];
    let mut children = Vec::new();
    let stopped = StoppedDisk::new(&mut slot)?;
    for io in io {
        children.push(Child::start(|| {
            let _ = io(&mapping);
            Ok(())
        })?);
    }
    stopped.wait_for_io()?;
    stopped.0.pull()?;
    log.wait_for(bound.pci.0, "unbind waits", 1)?;
    assert!(bound.pci.exists(), "removed with I/O in flight");

    drop(stopped);
    for child in children {
        child.succeed()?;
    }
    slot.wait_gone()?;
    check_sigbus(&mapping)?;
    drop(mapping);
    check_next_drive(&mut slot)
}

fn open_disk() -> fs::File {
    disk::open().expect("the disk opens")
}

/// The slot is empty between the cycles, and all memory is available in each.
pub fn works_many_times() -> Result<()> {
    let mut slot = Slot::open()?;
    for cycle in 0..5 {
        let pci = slot.plug()?;
        let bound = Bound::new(pci)?;
        assert_eq!(bound.available()?, bound.size()?);
        let mapping = bound.map(LEN)?;
        mapping.touch();
        match cycle % 2 {
            0 => slot.unplug_begin()?,
            _ => slot.pull()?,
        }
        slot.wait_gone()?;
    }
    Ok(())
}
