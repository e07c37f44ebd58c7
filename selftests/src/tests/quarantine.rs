// SPDX-License-Identifier: GPL-2.0

//! Memory that is unmapped while it is pinned stays out of the pool, untouched, until the
//! pins are gone; then it comes back by itself.

use super::pinning::check_bytes;
use super::{LEN, OURS, THEIRS};
use crate::child::Child;
use crate::device::{Bound, CMB, PLAIN};
use crate::disk;
use crate::helper::{After, Helper, Pin};
use crate::mapping::{Mapping, HUGE, PAGE};
use crate::poll;
use crate::uring::Ring;
use crate::verbs::{Loopback, Rdma};
use anyhow::{ensure, Result};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use std::fs::File;
use std::io::Read;

/// Never a wait in the task that unmaps: it could be the one that holds the pin.
pub fn munmap_does_not_wait_for_pins() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for pin in [Pin::Verbs, Pin::Uring] {
        // The helper gets this far only when its munmap returns.
        let holder = Helper::hold(PLAIN, LEN, OURS, pin, After::Unmap)?;
        bound.wait_draining(LEN)?;
        assert_eq!(bound.available()?, bound.size()? - LEN);
        holder.release()?;
        bound.wait_all_free()?;
    }
    Ok(())
}

/// Takes all that is available, finds it zero and fills it with other contents.
fn use_all_the_rest(bound: &Bound) -> Result<Mapping> {
    let rest = bound.map(bound.available()?)?;
    let rest = match bound.pci {
        CMB => rest.sparsely(),
        _ => rest,
    };
    rest.check_zero()?;
    rest.fill(THEIRS);
    Ok(rest)
}

pub fn registered_memory_is_kept_from_others() -> Result<()> {
    let rdma = Rdma::open()?;
    let loopback = Loopback::new(&rdma)?;
    let copy = Mapping::anonymous(LEN)?;
    let copy_region = rdma.register(&copy)?;

    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let region = rdma.register(&mapping)?;
    assert_eq!(bound.draining()?, 0, "draining while mapped");
    drop(mapping);
    bound.wait_draining(LEN)?;
    assert_eq!(bound.available()?, size - LEN);

    let rest = use_all_the_rest(&bound)?;
    loopback.read((&copy_region, 0..LEN), (&region, 0..LEN))?;
    copy.check(OURS)?;

    drop(rest);
    bound.wait_available(size - LEN)?;
    assert_eq!(bound.draining()?, LEN);
    drop(region);
    bound.wait_all_free()?;
    bound.map(size)?.check_zero()?;
    Ok(())
}

pub fn fixed_buffers_are_kept_from_others() -> Result<()> {
    let disk = disk::open()?;
    let ram = Mapping::anonymous(LEN)?;

    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let mut ring = Ring::with_buffer(&mapping)?;
    drop(mapping);
    bound.wait_draining(LEN)?;
    assert_eq!(bound.available()?, size - LEN);

    let rest = use_all_the_rest(&bound)?;
    ring.write_fixed(&disk, 0..LEN, 0)?;
    assert_eq!(ram.pread_from(&disk, 0..LEN, 0)?, LEN);
    ram.check(OURS)?;
    rest.check(THEIRS)?;

    drop(rest);
    drop(ring);
    bound.wait_all_free()
}

pub fn registered_memory_of_a_cmb_is_kept_from_others() -> Result<()> {
    const LEN: usize = HUGE + 16 * PAGE;
    let rdma = Rdma::open()?;
    let loopback = Loopback::new(&rdma)?;
    let copy = Mapping::anonymous(LEN)?;
    let copy_region = rdma.register(&copy)?;

    let bound = Bound::new(CMB)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let region = rdma.register(&mapping)?;
    drop(mapping);
    bound.wait_draining(LEN)?;
    let rest = use_all_the_rest(&bound)?;
    loopback.read((&copy_region, 0..LEN), (&region, 0..LEN))?;
    copy.check(OURS)?;
    drop((rest, region));
    bound.wait_all_free()
}

/// One pinned page keeps itself, and may keep its block; the rest is for others.
pub fn one_pinned_page_does_not_keep_all_the_rest() -> Result<()> {
    const LEN: usize = 8 * HUGE;
    let rdma = Rdma::open()?;
    let loopback = Loopback::new(&rdma)?;
    let copy = Mapping::anonymous(LEN)?;
    let copy_region = rdma.register(&copy)?;

    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    for offset in [0, 3 * HUGE + 7 * PAGE, LEN - PAGE] {
        let page = offset..offset + PAGE;
        let mapping = bound.map(LEN)?;
        mapping.fill(OURS);
        let region = rdma.register_part(&mapping, page.clone())?;
        drop(mapping);
        poll::until("all but the pinned block comes back", || {
            let (available, draining) = (bound.available()?, bound.draining()?);
            ensure!(
                available <= size - PAGE,
                "{available:#x} available with a pin"
            );
            Ok(available + draining == size && (PAGE..=HUGE).contains(&draining))
        })?;
        let rest = use_all_the_rest(&bound)?;
        loopback.read((&copy_region, page.clone()), (&region, 0..PAGE))?;
        copy.check_range(page, OURS)?;
        drop((rest, region));
        bound.wait_all_free()?;
    }
    Ok(())
}

/// Several pins on the same memory: the last one counts.
pub fn the_last_of_several_pins_counts() -> Result<()> {
    let rdma = Rdma::open()?;
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    let mut regions = Vec::new();
    for _ in 0..4 {
        regions.push(rdma.register(&mapping)?);
    }
    let ring = Ring::with_buffer(&mapping)?;
    drop(mapping);
    bound.wait_draining(LEN)?;
    drop(regions);
    // Time for a wrong return: that of another mapping of the same length to come back.
    drop(bound.map(LEN)?);
    bound.wait_available(bound.size()? - LEN)?;
    assert_eq!(bound.draining()?, LEN);
    drop(ring);
    bound.wait_all_free()
}

pub fn pages_in_a_pipe_are_kept_from_others() -> Result<()> {
    const SPLICED: usize = 8 * PAGE;
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    assert_eq!(mapping.splice_into(&writer, 0..SPLICED)?, SPLICED);
    drop(mapping);
    poll::until("all but the pages in the pipe comes back", || {
        let (available, draining) = (bound.available()?, bound.draining()?);
        Ok(draining >= SPLICED && available + draining == size)
    })?;

    let rest = use_all_the_rest(&bound)?;
    let mut bytes = vec![0; SPLICED];
    File::from(reader).read_exact(&mut bytes)?;
    check_bytes(&bytes, OURS)?;
    drop(rest);
    bound.wait_all_free()
}

/// Exit is like munmap: what is pinned outlives the process.
pub fn pages_of_a_process_that_has_exited_are_kept_from_others() -> Result<()> {
    const SPLICED: usize = 8 * PAGE;
    let bound = Bound::new(PLAIN)?;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let child = Child::start(|| {
        let mapping = bound.map(LEN)?;
        mapping.fill(OURS);
        ensure!(mapping.splice_into(&writer, 0..SPLICED)? == SPLICED);
        // Leaves without munmap.
        std::mem::forget(mapping);
        Ok(())
    })?;
    child.succeed()?;
    poll::until("draining after exit", || Ok(bound.draining()? >= SPLICED))?;
    let rest = use_all_the_rest(&bound)?;
    let mut bytes = vec![0; SPLICED];
    File::from(reader).read_exact(&mut bytes)?;
    check_bytes(&bytes, OURS)?;
    drop(rest);
    bound.wait_all_free()
}

/// Registrations end with the process that made them.
pub fn memory_of_a_killed_process_comes_back() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for pin in [Pin::Verbs, Pin::Uring] {
        for after in [After::StayMapped, After::Unmap] {
            let holder = Helper::hold(PLAIN, LEN, OURS, pin, after)?;
            assert_eq!(
                bound.available()?,
                bound.size()? - LEN,
                "{pin:?}, {after:?}"
            );
            holder.kill()?;
            bound.wait_all_free()?;
        }
    }
    bound.map(bound.size()?)?.check_zero()?;
    Ok(())
}
