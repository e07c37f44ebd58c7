// SPDX-License-Identifier: GPL-2.0

//! The device goes away and comes back while the stress runs: by unbind, by removal from its slot,
//! and by rmmod where nothing is mapped.
//!
//! (QEMU itself crashes when a device is pulled out without a warning while a processor is at its
//! memory. That has tests of its own, in `tests/removal.rs`.)

use super::Stress;
use crate::device::Bound;
use crate::helper::Helper;
use crate::hotplug::Slot;
use crate::kmsg::Log;
use crate::mapping::{Mapping, PAGE};
use crate::random::Random;
use crate::{disk, module, pace};
use anyhow::{ensure, Context, Result};
use std::time::{Duration, Instant};

/// Longest time that an unbind may take: pins last for some cycles of their owners only.
fn deadline() -> Duration {
    pace::patience(Duration::from_secs(90))
}

/// What has been done.
#[derive(Debug, Default)]
pub struct Done {
    pub cycles: u64,
    pub unloaded: u64,
    pub unloads_refused: u64,
    /// Looks at whether all memory is there when nobody has any.
    pub looks: u64,
    /// Uses of the device as a drive.
    pub drives: u64,
}

/// How the device goes and comes.
pub enum Device {
    Bound(Bound),
    InSlot(Slot, Option<Bound>),
}

impl Device {
    pub fn bound(&self) -> Result<&Bound> {
        match self {
            Device::Bound(bound) => Ok(bound),
            Device::InSlot(_, bound) => bound.as_ref().context("nothing is in the slot"),
        }
    }
}

/// Does so many times whatever takes the device away.
pub fn run(
    stress: &mut Stress,
    device: &mut Device,
    cycles: u64,
    seed: u64,
    log: &mut Log,
) -> Result<Done> {
    let mut random = Random::new(seed);
    let mut done = Done::default();
    while done.cycles < cycles {
        // Before the kernel overwrites what has not been read.
        log.alarms()?;
        if !use_for_a_while(stress, &mut random)? {
            return Ok(done);
        }
        let look = (done.cycles + 1) % 8 == 0 || done.cycles + 1 == cycles;
        if look {
            look_for_all(stress, device.bound()?)?;
            done.looks += 1;
            if !use_for_a_while(stress, &mut random)? {
                return Ok(done);
            }
        }
        let mut rmmod = Helper::unload()?;
        let meanwhile = random.chance(1, 2);
        if !meanwhile {
            unload_end(stress, &mut rmmod, &mut done)?;
        }
        match device {
            Device::Bound(bound) => unbind(stress, bound)?,
            Device::InSlot(slot, bound) => {
                slot.unplug_begin()?;
                slot.wait_gone()?;
                *bound = None;
            }
        }
        if meanwhile {
            unload_end(stress, &mut rmmod, &mut done)?;
        }
        done.cycles += 1;

        match device {
            Device::Bound(bound) => bound.bind()?,
            Device::InSlot(slot, bound) => {
                // What is plugged in is nvme's at first, with a file `allocate` of the same name.
                stress.pause()?;
                let bound = bound.insert(Bound::to_be(slot.plug()?)?);
                bound.bind()?;
                if look {
                    use_as_drive(bound)?;
                    done.drives += 1;
                }
                stress.resume();
            }
        }
    }
    Ok(done)
}

/// Returns whether the stress goes on.
fn use_for_a_while(stress: &mut Stress, random: &mut Random) -> Result<bool> {
    let until = Instant::now() + Duration::from_millis(random.below(150) as u64);
    while Instant::now() < until {
        if !stress.step()? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Everybody lets go of the memory for a while, and all of it must come back. (To look for it after
/// an unbind would be too late: a device that is bound again has all its memory, whatever was lost.)
fn look_for_all(stress: &mut Stress, bound: &Bound) -> Result<()> {
    stress.pause()?;
    bound.wait_all_free().context("with nobody there")?;
    stress.resume();
    Ok(())
}

/// The end of rmmod, which a mapping refuses. Without one it waits for the pins.
fn unload_end(stress: &mut Stress, rmmod: &mut Helper, done: &mut Done) -> Result<()> {
    wait(stress, rmmod, "rmmod")?;
    match module::is_loaded() {
        true => done.unloads_refused += 1,
        false => {
            done.unloaded += 1;
            module::load("")?;
        }
    }
    Ok(())
}

fn unbind(stress: &mut Stress, bound: &Bound) -> Result<()> {
    // Whoever loads the module again binds the device by that, too.
    if !bound.is_bound() {
        return Ok(());
    }
    let mut helper = bound.begin_unbind()?;
    wait(stress, &mut helper, "unbind")?;
    let status = helper.wait()?;
    // Or rmmod was first.
    ensure!(
        !bound.is_bound(),
        "the device is bound after unbind: {status}"
    );
    Ok(())
}

/// Waits for the end of a helper while the stress goes on.
fn wait(stress: &mut Stress, helper: &mut Helper, what: &str) -> Result<()> {
    let (start, deadline) = (Instant::now(), deadline());
    while !helper.has_ended()? {
        stress.step()?;
        if start.elapsed() > deadline {
            stress.describe_hang();
            anyhow::bail!("{what} has not ended after {} s", deadline.as_secs());
        }
    }
    Ok(())
}

/// The nvme driver has it for a while, and it holds what is written to it.
fn use_as_drive(bound: &Bound) -> Result<()> {
    const LEN: usize = 8 * PAGE;
    bound.unbind()?;
    bound.pci.bind_default("nvme")?;
    let drive = disk::open_of(bound.pci)?;
    let (from, to) = (Mapping::anonymous(LEN)?, Mapping::anonymous(LEN)?);
    from.fill(crate::pattern::Pattern(3));
    let written = from.pwrite_to(&drive, 0..LEN, 0).context("the drive")?;
    let read = to.pread_from(&drive, 0..LEN, 0).context("the drive")?;
    ensure!(
        (written, read) == (LEN, LEN),
        "the drive moved {written} and {read} bytes"
    );
    to.check(crate::pattern::Pattern(3)).context("the drive")?;
    drop(drive);
    bound.pci.unbind()?;
    bound.bind()
}
