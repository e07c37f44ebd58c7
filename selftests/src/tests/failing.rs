// SPDX-License-Identifier: GPL-2.0

//! Every allocation fails once. What was asked for then fails as it should or succeeds all the
//! same; in either case nothing is lost, and the next attempt is as good as the first.

use super::{LEN, OURS};
use crate::child::Child;
use crate::device::{Bound, Pci, CMB, CMBMSC, MIXED, PLAIN};
use crate::failing::{Injection, Shot};
use crate::harness;
use crate::mapping::{free_address, free_table, Mapping, Request, HUGE, PAGE};
use crate::module;
use crate::slab::Objects;
use crate::uring::Ring;
use crate::verbs::Rdma;
use anyhow::{ensure, Context, Result};
use nix::errno::Errno;
use nix::kmod::{finit_module, ModuleInitFlags};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::write;
use std::fs::{self, File};

/// Several blocks of different orders, and an address that needs page tables of its own.
const ODD_LEN: usize = HUGE + 7 * PAGE;

/// Lets each allocation of what `attempt` fires fail once; afterwards no more is in use than before.
/// What a failure loses it loses each time: what is in use after one round only, some other program
/// has taken meanwhile.
fn each(mut attempt: impl FnMut(&mut Shot) -> Result<()>) -> Result<()> {
    // What is kept after the first time is there from now on.
    attempt(&mut Shot::blank())?;
    let mut round = || -> Result<Result<()>> {
        let before = Objects::settled()?;
        let injection = Injection::new()?;
        injection.each(&mut attempt)?;
        drop(injection);
        Ok(before.wait_until_back())
    };
    match round()? {
        Ok(()) => Ok(()),
        Err(error) => {
            println!("once more, as {error:#}");
            round()?
        }
    }
}

/// A new mapping of that device at an address for which there is no table of 2 MiB entries yet.
fn map_fresh(bound: &Bound, len: usize) -> Result<Mapping> {
    bound.map_at(len, free_table()?)
}

/// The device is as good as new.
fn check_device(bound: &Bound) -> Result<()> {
    bound.wait_all_free()?;
    bound.map(bound.size()?)?.sparsely().check_zero()?;
    bound.wait_all_free()
}

/// A device that is switched on, with p2pmem or without, until drop. Otherwise ACPI's interpreter
/// is asked for its interrupt, and goes on with freed memory when it gets none (KASAN says so).
struct SwitchedOn<'a>(&'a Bound);

impl SwitchedOn<'_> {
    /// The kernel allows it for a device without a driver.
    fn new(bound: &Bound) -> Result<SwitchedOn<'_>> {
        bound.pci.write("enable", "1")?;
        Ok(SwitchedOn(bound))
    }

    fn end(&self) -> Result<()> {
        if self.0.is_bound() {
            self.0.unbind()?;
        }
        self.0.pci.write("enable", "0")
    }
}

impl Drop for SwitchedOn<'_> {
    fn drop(&mut self) {
        harness::note_problem(self.end());
    }
}

/// Nothing is left of a device's having been bound.
fn check_left_alone(pci: Pci) -> Result<()> {
    /// CRE and CMSE of CMBMSC: the buffer is on.
    const ON: u64 = 3;

    ensure!(!pci.path("p2pmem").exists(), "p2pmem/ is there");
    let regions = fs::read_to_string("/proc/iomem")?;
    ensure!(!regions.contains("p2pmem"), "{regions}");
    // By SwitchedOn.
    ensure!(pci.number("enable")? == 1, "the device is still enabled");
    if pci == CMB {
        pci.with_raw_bar(0, |registers| {
            let value = registers.read(CMBMSC);
            ensure!(value & ON == 0, "the buffer is still on: {value:#x}");
            Ok(())
        })?;
    }
    Ok(())
}

pub fn insmod() -> Result<()> {
    const COPY: &str = "/tmp/p2pmem-failing.ko";

    let _restore = module::unloaded()?;
    // In memory: what reading it from elsewhere allocates is not of interest.
    fs::copy(module::file(), COPY).context(COPY)?;
    let file = File::open(COPY).context(COPY)?;
    fs::remove_file(COPY).context(COPY)?;
    each(|shot| {
        let result = shot.fire(|| finit_module(&file, c"", ModuleInitFlags::empty()))?;
        // The driver core says EINVAL of a directory that there was no memory to make
        // (drivers/base/module.c).
        match shot.check(result, &[Errno::ENOMEM, Errno::EINVAL])? {
            Some(()) => module::unload(),
            None => {
                ensure!(!module::is_loaded(), "loaded in spite of the error");
                Ok(())
            }
        }
    })
}

fn check_probe(pci: Pci) -> Result<()> {
    let bound = Bound::to_be(pci)?;
    let _switched_on = SwitchedOn::new(&bound)?;
    // It tells how probing ended, which drivers_probe does not.
    let path = "/sys/bus/pci/drivers/p2pmem/bind";
    let bind = File::options().write(true).open(path).context(path)?;
    each(|shot| {
        let result = shot.fire(|| write(&bind, pci.0.as_bytes()))?;
        // The PCI core says EBUSY of a region that there was no memory to request.
        match shot.check(result, &[Errno::ENOMEM, Errno::EBUSY])? {
            Some(_) => {
                ensure!(bound.available()? == bound.size()?);
                bound.unbind()
            }
            None => {
                ensure!(!bound.is_bound(), "bound in spite of the error");
                check_left_alone(pci)
            }
        }
    })?;
    bound.bind()?;
    check_device(&bound)
}

pub fn probe() -> Result<()> {
    check_probe(MIXED)
}

pub fn probe_of_a_controller_memory_buffer() -> Result<()> {
    check_probe(CMB)
}

fn check_mmap(request: impl Fn() -> Result<Request>) -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let file = bound.open()?;
    each(|shot| {
        let request = request()?;
        let result = shot.fire(|| request.map(&file))?;
        if let Some(mapping) = shot.check(result, &[Errno::ENOMEM])? {
            ensure!(bound.available()? == bound.size()? - request.len);
            mapping.check_zero()?;
            mapping.fill(OURS);
            mapping.check(OURS)?;
        }
        bound.wait_all_free()
    })?;
    check_device(&bound)
}

pub fn mmap() -> Result<()> {
    check_mmap(|| Ok(Request::shared(PAGE)))
}

pub fn mmap_of_many_blocks() -> Result<()> {
    check_mmap(|| {
        Ok(Request {
            at: Some(free_address(ODD_LEN, PAGE)?),
            ..Request::shared(ODD_LEN)
        })
    })
}

/// A touch reports no error: it is tried again, or it is a signal.
fn check_first_touch(len: usize) -> Result<()> {
    const KILLED: u64 = 0;
    const TOUCHED: u64 = 1;
    const TOUCHED_IN_SPITE_OF_IT: u64 = 2;

    let bound = Bound::new(PLAIN)?;
    let outcome = Mapping::anonymous(PAGE)?;
    each(|shot| {
        let mapping = map_fresh(&bound, len)?;
        outcome.write(0, KILLED);
        let child = Child::start(|| {
            shot.fire(|| mapping.write(0, 1))?;
            let injected = shot.was_injected();
            outcome.write(
                0,
                if injected {
                    TOUCHED_IN_SPITE_OF_IT
                } else {
                    TOUCHED
                },
            );
            ensure!(mapping.read(0) == 1 && mapping.read(8) == 0);
            Ok(())
        })?;
        match child.wait()? {
            WaitStatus::Exited(_, 0) => ensure!(outcome.read(0) != KILLED),
            WaitStatus::Signaled(_, Signal::SIGBUS, _) => ensure!(outcome.read(0) == KILLED),
            other => anyhow::bail!("the child ended with {other:?}"),
        }
        if outcome.read(0) != TOUCHED {
            shot.note_injected();
        }
        // Whatever became of that touch, the memory is there.
        mapping.fill(OURS);
        mapping.check(OURS)?;
        drop(mapping);
        bound.wait_all_free()
    })?;
    check_device(&bound)
}

pub fn first_touch_of_4_kib() -> Result<()> {
    check_first_touch(PAGE)
}

pub fn first_touch_of_2_mib() -> Result<()> {
    check_first_touch(HUGE)
}

pub fn fork() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = map_fresh(&bound, ODD_LEN)?;
    mapping.fill(OURS);
    each(|shot| {
        let child = match shot.fire(|| Child::start(|| mapping.check(OURS)))? {
            Ok(child) => Ok(child),
            Err(error) => Err(errno(error)?),
        };
        if let Some(child) = shot.check(child, &[Errno::ENOMEM])? {
            child.succeed()?;
        }
        mapping.check(OURS)?;
        ensure!(bound.available()? == bound.size()? - ODD_LEN);
        ensure!(bound.draining()? == 0);
        Ok(())
    })?;
    drop(mapping);
    check_device(&bound)
}

pub fn mremap() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    each(|shot| {
        let mut mapping = map_fresh(&bound, ODD_LEN)?;
        mapping.fill(OURS);
        let (from, to) = (mapping.address(), free_table()?);
        let result = shot.fire(|| mapping.move_to(to))?;
        let moved = shot.check(result, &[Errno::ENOMEM])?;
        ensure!(mapping.address() == if moved.is_some() { to } else { from });
        mapping.check(OURS)?;
        ensure!(bound.available()? == bound.size()? - ODD_LEN);
        drop(mapping);
        bound.wait_all_free()
    })?;
    check_device(&bound)
}

/// Unmaps under fire, and returns what could not be unmapped.
fn unmap(shot: &mut Shot, mapping: Mapping) -> Result<Option<Mapping>> {
    let mut left = None;
    let result = shot.fire(|| mapping.unmap())?.map_err(|(mapping, error)| {
        left = Some(mapping);
        error
    });
    shot.check(result, &[Errno::ENOMEM])?;
    Ok(left)
}

pub fn munmap() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    each(|shot| {
        let mapping = map_fresh(&bound, LEN)?;
        mapping.fill(OURS);
        if let Some(left) = unmap(shot, mapping)? {
            left.check(OURS)?;
        }
        bound.wait_all_free()
    })?;
    check_device(&bound)
}

/// Both ends stay: that takes two more VMAs, and splits a 2 MiB entry.
pub fn munmap_of_a_part() -> Result<()> {
    const START: usize = HUGE + PAGE;

    let bound = Bound::new(PLAIN)?;
    each(|shot| {
        let mapping = map_fresh(&bound, LEN)?;
        mapping.fill(OURS);
        let (head, rest) = mapping.split(START);
        let (part, tail) = rest.split(PAGE);
        let left = unmap(shot, part)?;
        head.check(OURS)?;
        if let Some(left) = &left {
            ensure!(left.read(0) == OURS.word(START / 8));
        }
        ensure!(tail.read(0) == OURS.word((START + PAGE) / 8));
        ensure!(bound.available()? == bound.size()? - LEN);
        drop((head, left, tail));
        bound.wait_all_free()
    })?;
    check_device(&bound)
}

/// Unbind itself cannot fail. What can is the write that asks for it; then nothing has happened.
fn check_unbind(pci: Pci) -> Result<()> {
    let bound = Bound::to_be(pci)?;
    let _switched_on = SwitchedOn::new(&bound)?;
    bound.bind()?;
    let path = "/sys/bus/pci/drivers/p2pmem/unbind";
    let unbind = File::options().write(true).open(path).context(path)?;
    each(|shot| {
        let (touched, untouched) = (bound.map(ODD_LEN)?.sparsely(), bound.map(PAGE)?);
        touched.fill(OURS);
        let result = shot.fire(|| write(&unbind, pci.0.as_bytes()))?;
        if shot.check(result, &[Errno::ENOMEM])?.is_none() {
            ensure!(bound.is_bound(), "unbound in spite of the error");
            touched.check(OURS)?;
            untouched.check_zero()?;
            bound.unbind()?;
        }
        ensure!(!bound.is_bound(), "bound after unbind");
        check_left_alone(pci)?;
        drop((touched, untouched));
        bound.bind()?;
        ensure!(bound.available()? == bound.size()?);
        Ok(())
    })?;
    check_device(&bound)
}

pub fn unbind() -> Result<()> {
    check_unbind(PLAIN)
}

pub fn unbind_of_a_controller_memory_buffer() -> Result<()> {
    check_unbind(CMB)
}

/// A pin that was half made is none: the memory comes back as soon as it is unmapped.
fn check_pin<T>(mut pin: impl FnMut(&Mapping) -> Result<T>) -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    each(|shot| {
        let mapping = map_fresh(&bound, ODD_LEN)?;
        mapping.fill(OURS);
        let pinned = match shot.fire(|| pin(&mapping))? {
            Ok(pinned) => Ok(pinned),
            Err(error) => Err(errno(error)?),
        };
        let pinned = shot.check(pinned, &[Errno::ENOMEM])?;
        mapping.check(OURS)?;
        drop(mapping);
        if pinned.is_some() {
            bound.wait_draining(ODD_LEN)?;
        }
        drop(pinned);
        bound.wait_all_free()
    })?;
    check_device(&bound)
}

/// What the kernel said.
fn errno(error: anyhow::Error) -> Result<Errno> {
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        let number = error.raw_os_error().context("no error of the kernel's")?;
        return Ok(Errno::from_raw(number));
    }
    error.downcast()
}

pub fn registration() -> Result<()> {
    let rdma = Rdma::open()?;
    check_pin(|mapping| Ok(rdma.register(mapping)?))
}

pub fn io_uring_registration() -> Result<()> {
    check_pin(Ring::with_buffer)
}
