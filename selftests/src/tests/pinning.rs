// SPDX-License-Identifier: GPL-2.0

//! Pinning device memory, by every road there is, with the contents compared.

use super::{LEN, OURS, THEIRS};
use crate::device::{Bound, Pci, CMB, CONTROL, PLAIN};
use crate::disk;
use crate::mapping::{Mapping, Request, PAGE};
use crate::pattern::Pattern;
use crate::uring::Ring;
use crate::verbs::{Loopback, Rdma};
use anyhow::{ensure, Context, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::uio::{process_vm_readv, process_vm_writev, RemoteIoVec};
use nix::unistd::{getpid, pipe2};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read};

/// Emulated NVMe memory is slow to reach: every access leaves the guest.
const CMB_LEN: usize = 64 * PAGE;

pub fn registration_succeeds() -> Result<()> {
    let rdma = Rdma::open()?;
    for pci in [PLAIN, CMB] {
        let bound = Bound::new(pci)?;
        // Before and after the first touch, all of it and parts.
        let mapping = bound.map(LEN + PAGE)?;
        drop(rdma.register(&mapping)?);
        mapping.fill(OURS);
        let regions = [
            rdma.register(&mapping)?,
            rdma.register_part(&mapping, PAGE..LEN - PAGE)?,
            rdma.register_part(&mapping, 0..1)?,
        ];
        mapping.check(OURS)?;
        drop(regions);
    }
    Ok(())
}

/// The control: the kernel's own p2pmem memory can be mapped and used, but not registered.
pub fn registration_of_the_kernels_own_p2pmem_fails() -> Result<()> {
    let rdma = Rdma::open()?;
    assert_eq!(CONTROL.driver().as_deref(), Some("nvme"));
    let file = File::options()
        .read(true)
        .write(true)
        .open(CONTROL.path("p2pmem/allocate"))?;
    let mapping = Request::shared(CMB_LEN).map(&file)?;
    mapping.fill(OURS);
    mapping.check(OURS)?;
    let error = rdma.register(&mapping).map(drop).expect_err("registered");
    assert_eq!(error, Errno::EFAULT);

    // It is that memory, not the registration.
    rdma.register(&Mapping::anonymous(CMB_LEN)?)?;
    Ok(())
}

/// RDMA write and read with that memory at the near and at the far end.
fn check_rdma(near: &Mapping, far: &Mapping) -> Result<()> {
    let rdma = Rdma::open()?;
    let loopback = Loopback::new(&rdma)?;
    let (near_region, far_region) = (rdma.register(near)?, rdma.register(far)?);
    let len = near.len();
    let all = 0..len;

    near.fill(OURS);
    far.fill(THEIRS);
    loopback.write((&near_region, all.clone()), (&far_region, all.clone()))?;
    near.check(OURS)?;
    far.check(OURS)?;

    far.fill(THEIRS);
    loopback.read((&near_region, all.clone()), (&far_region, all))?;
    near.check(THEIRS)?;
    far.check(THEIRS)?;

    // A part that begins and ends within a page leaves its neighbours alone.
    near.fill(OURS);
    let part = PAGE - 8..len - PAGE + 16;
    loopback.write((&near_region, part.clone()), (&far_region, part.clone()))?;
    far.check_range(0..part.start, THEIRS)?;
    far.check_range(part.clone(), OURS)?;
    far.check_range(part.end..len, THEIRS)
}

pub fn rdma_from_device_memory_to_ram() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    check_rdma(&bound.map(LEN)?, &Mapping::anonymous(LEN)?)
}

pub fn rdma_from_ram_to_device_memory() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    check_rdma(&Mapping::anonymous(LEN)?, &bound.map(LEN)?)
}

pub fn rdma_within_device_memory() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    check_rdma(&bound.map(LEN)?, &bound.map(LEN)?)
}

pub fn rdma_between_two_devices() -> Result<()> {
    let (plain, cmb) = (Bound::new(PLAIN)?, Bound::new(CMB)?);
    check_rdma(&plain.map(CMB_LEN)?, &cmb.map(CMB_LEN)?)
}

/// Disk to device memory and back, all past the page cache.
fn check_uring(pci: Pci, len: usize) -> Result<()> {
    let disk = disk::open()?;
    let bound = Bound::new(pci)?;
    let ram = Mapping::anonymous(len)?;
    let mapping = bound.map(len)?;
    let mut ring = Ring::with_buffer(&mapping)?;

    ram.fill(OURS);
    assert_eq!(ram.pwrite_to(&disk, 0..len, 0)?, len);
    ring.read_fixed(&disk, 0..len, 0)?;
    mapping.check(OURS)?;

    mapping.fill(THEIRS);
    ring.write_fixed(&disk, 0..len, 0)?;
    assert_eq!(ram.pread_from(&disk, 0..len, 0)?, len);
    ram.check(THEIRS)?;

    // A part, elsewhere on the disk.
    ram.fill(OURS);
    assert_eq!(ram.pwrite_to(&disk, 0..len, len as i64)?, len);
    let part = PAGE..len / 2 + PAGE;
    ring.read_fixed(&disk, part.clone(), (len + part.start) as u64)?;
    mapping.check_range(0..part.start, THEIRS)?;
    mapping.check_range(part.clone(), OURS)?;
    mapping.check_range(part.end..len, THEIRS)
}

pub fn io_uring_fixed_buffers() -> Result<()> {
    check_uring(PLAIN, LEN)
}

pub fn io_uring_fixed_buffers_in_a_cmb() -> Result<()> {
    check_uring(CMB, CMB_LEN)
}

pub fn o_direct() -> Result<()> {
    let disk = disk::open()?;
    for (pci, len) in [(PLAIN, LEN), (CMB, CMB_LEN)] {
        let bound = Bound::new(pci)?;
        let ram = Mapping::anonymous(len)?;
        let mapping = bound.map(len)?;
        // Not touched before: the kernel faults it in.
        ram.fill(OURS);
        assert_eq!(ram.pwrite_to(&disk, 0..len, 0)?, len);
        assert_eq!(mapping.pread_from(&disk, 0..len, 0)?, len);
        mapping.check(OURS)?;
        mapping.fill(THEIRS);
        assert_eq!(mapping.pwrite_to(&disk, 0..len, 0)?, len);
        assert_eq!(ram.pread_from(&disk, 0..len, 0)?, len);
        ram.check(THEIRS)?;
    }
    Ok(())
}

pub fn process_vm_readv_and_writev() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let remote = [RemoteIoVec {
        base: mapping.address(),
        len: LEN,
    }];
    let mut bytes = vec![0; LEN];
    let mut local = [IoSliceMut::new(&mut bytes)];
    assert_eq!(process_vm_readv(getpid(), &mut local, &remote)?, LEN);
    check_bytes(&bytes, OURS)?;

    let words = (0..LEN / 8).flat_map(|index| THEIRS.word(index).to_ne_bytes());
    let bytes: Vec<u8> = words.collect();
    let local = [IoSlice::new(&bytes)];
    assert_eq!(process_vm_writev(getpid(), &local, &remote)?, LEN);
    mapping.check(THEIRS)
}

pub fn vmsplice() -> Result<()> {
    const LEN: usize = 8 * PAGE;
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    assert_eq!(mapping.splice_into(&writer, 0..LEN)?, LEN);
    // The pages themselves are in the pipe: a later write is seen through it.
    mapping.fill(THEIRS);
    let mut bytes = vec![0; LEN];
    File::from(reader).read_exact(&mut bytes)?;
    check_bytes(&bytes, THEIRS)
}

/// To a file and back from it, by copy.
pub fn read_and_write() -> Result<()> {
    const LEN: usize = 8 * PAGE;
    let bound = Bound::new(PLAIN)?;
    let (from, to) = (bound.map(LEN)?, bound.map(LEN)?);
    from.fill(OURS);
    let path = std::env::temp_dir().join("p2pmem-selftest");
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    std::fs::remove_file(&path)?;
    assert_eq!(from.pwrite_to(&file, 0..LEN, 0)?, LEN);
    from.fill(THEIRS);
    assert_eq!(to.pread_from(&file, 0..LEN, 0)?, LEN);
    to.check(OURS)
}

/// The words of `bytes` are the pattern's.
pub(super) fn check_bytes(bytes: &[u8], pattern: Pattern) -> Result<()> {
    for (index, word) in bytes.chunks_exact(8).enumerate() {
        let word = u64::from_ne_bytes(word.try_into()?);
        ensure!(
            word == pattern.word(index),
            "word {index}: {word:#x} instead of {:#x}",
            pattern.word(index)
        );
    }
    Ok(())
}
