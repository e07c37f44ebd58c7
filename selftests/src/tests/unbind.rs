// SPDX-License-Identifier: GPL-2.0

//! Unbind: retires what is mapped, waits for what is pinned, and gives the device back.

use super::{LEN, OURS, THEIRS};
use crate::child::{self, Child};
use crate::device::{Bound, Pci, CMB, PLAIN};
use crate::harness;
use crate::helper::{After, Helper, Pin};
use crate::kmsg::Log;
use crate::mapping::{free_address, Mapping, Request, HUGE, PAGE};
use crate::pace;
use crate::poll;
use crate::setting::Setting;
use crate::verbs::{Loopback, Rdma};
use anyhow::{ensure, Context, Result};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use std::fs::{self, File};

/// Neither a read nor a write of any page survives.
pub(super) fn check_sigbus(mapping: &Mapping) -> Result<()> {
    for offset in [0, PAGE, HUGE, mapping.len() - PAGE] {
        let reads = || _ = mapping.read(offset);
        assert_eq!(
            child::signal_of(reads)?,
            Some(Signal::SIGBUS),
            "{offset:#x}"
        );
        let writes = || mapping.write(offset, 1);
        assert_eq!(
            child::signal_of(writes)?,
            Some(Signal::SIGBUS),
            "{offset:#x}"
        );
    }
    // The kernel gets an error, on whose behalf ever it looks.
    let zero = File::open("/dev/zero")?;
    assert_eq!(mapping.pread_from(&zero, 0..PAGE, 0), Err(Errno::EFAULT));
    Ok(())
}

pub fn mapped_memory_gives_sigbus_after_it() -> Result<()> {
    for pci in [PLAIN, CMB] {
        let bound = Bound::new(pci)?;
        let (touched, untouched) = (bound.map(LEN)?, bound.map(LEN)?);
        touched.fill(OURS);
        bound.unbind()?;
        check_sigbus(&touched)?;
        check_sigbus(&untouched)?;

        // A rebind does not bring them back to life, nor do they take anything of it.
        bound.bind()?;
        assert_eq!(bound.available()?, bound.size()?);
        check_sigbus(&touched)?;
        check_sigbus(&untouched)?;
        let new = bound.map(LEN)?;
        new.check_zero()?;
        new.fill(THEIRS);
        drop((touched, untouched));
        new.check(THEIRS)?;
        drop(new);
        bound.wait_all_free()?;
    }
    Ok(())
}

/// As it is for a mapping that a child has, or that was moved.
pub fn inherited_and_moved_memory_gives_sigbus_after_it() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mut mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    mapping.move_to(free_address(LEN, PAGE)?)?;
    mapping.check(OURS)?;
    let inherited = Child::start(|| {
        mapping.check(OURS)?;
        // The link to the driver goes before the driver's own unbind begins.
        poll::until("SIGBUS", || {
            mapping.touch();
            Ok(false)
        })
    })?;
    bound.unbind()?;
    let status = inherited.wait()?;
    ensure!(
        matches!(status, WaitStatus::Signaled(_, Signal::SIGBUS, _)),
        "the child ended with {status:?}"
    );
    check_sigbus(&mapping)
}

/// "unbind waits" with how much and for whom.
pub(super) fn check_line(line: &str, len: usize, holder: &Helper) -> Result<()> {
    let amounts = [
        format!("{} MiB", len >> 20),
        format!("{} KiB", len >> 10),
        format!("{len} bytes"),
    ];
    ensure!(
        amounts.iter().any(|amount| line.contains(amount)),
        "does not say how much ({amounts:?}): {line}"
    );
    let pid = holder.pid().to_string();
    let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
    ensure!(
        words.any(|word| word == pid),
        "does not name pid {pid}: {line}"
    );
    let comm = holder.comm()?;
    ensure!(line.contains(&comm), "does not name {comm}: {line}");
    Ok(())
}

/// No new mapping, neither by a file that is open nor by one opened now.
fn check_no_new_mapping(bound: &Bound, open: &File) {
    let result = Request::shared(PAGE).map(open).map(drop);
    assert_eq!(result, Err(Errno::ENODEV));
    if let Ok(file) = bound.open() {
        let result = Request::shared(PAGE).map(&file).map(drop);
        assert_eq!(result, Err(Errno::ENODEV));
    }
}

/// Unbind waits for another process, says so, and ends when that lets go.
fn check_unbind_waits(pci: Pci, pin: Pin, after: After) -> Result<()> {
    let bound = Bound::new(pci)?;
    let open = bound.open()?;
    let holder = Helper::hold(pci, LEN, OURS, pin, after)?;
    let mut log = Log::from_now()?;
    let mut unbind = bound.begin_unbind()?;
    let lines = log.wait_for(pci.0, "unbind waits", 1)?;
    check_line(&lines[0], LEN, &holder)?;
    check_no_new_mapping(&bound, &open);
    assert!(!unbind.has_ended()?, "unbind with pinned memory");

    holder.release()?;
    assert!(unbind.wait()?.success());
    assert!(!bound.is_bound());
    check_no_new_mapping(&bound, &open);

    bound.bind()?;
    assert_eq!(bound.available()?, bound.size()?);
    bound.map(bound.size()?)?.check_zero()?;
    Ok(())
}

pub fn waits_for_a_registration_of_mapped_memory() -> Result<()> {
    check_unbind_waits(PLAIN, Pin::Verbs, After::StayMapped)
}

pub fn waits_for_a_registration_of_unmapped_memory() -> Result<()> {
    check_unbind_waits(PLAIN, Pin::Verbs, After::Unmap)
}

pub fn waits_for_io_uring_with_mapped_memory() -> Result<()> {
    check_unbind_waits(PLAIN, Pin::Uring, After::StayMapped)
}

pub fn waits_for_io_uring_with_unmapped_memory() -> Result<()> {
    check_unbind_waits(PLAIN, Pin::Uring, After::Unmap)
}

/// Nor does the kernel complain meanwhile of a task that hangs.
pub fn says_every_ten_seconds_that_it_waits() -> Result<()> {
    // It looks as often as that, and what it finds is an alarm.
    let _setting = Setting::set("/proc/sys/kernel/hung_task_timeout_secs", "5")?;
    let bound = Bound::new(PLAIN)?;
    let holder = Helper::hold(PLAIN, LEN, OURS, Pin::Uring, After::Unmap)?;
    let mut log = Log::from_now()?;
    let mut unbind = bound.begin_unbind()?;
    let start = std::time::Instant::now();
    let lines = log.wait_for(PLAIN.0, "unbind waits", 3)?;
    let seconds = start.elapsed().as_secs();
    assert!(
        (15..=30).contains(&seconds),
        "three lines in {seconds} s: {lines:?}"
    );
    for line in &lines {
        check_line(line, LEN, &holder)?;
    }
    assert!(!unbind.has_ended()?, "unbind with pinned memory");
    holder.release()?;
    assert!(unbind.wait()?.success());
    Ok(())
}

/// Without a pin there is nothing to wait for, nor to say.
pub fn says_nothing_when_nothing_is_pinned() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let mut log = Log::from_now()?;
    bound.unbind()?;
    let lines = log.of_device(PLAIN.0)?;
    assert!(
        !lines.iter().any(|r| r.text.contains("unbind waits")),
        "{lines:?}"
    );
    Ok(())
}

pub fn ends_when_the_holder_is_killed() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for pin in [Pin::Verbs, Pin::Uring] {
        let holder = Helper::hold(PLAIN, LEN, OURS, pin, After::StayMapped)?;
        let mut log = Log::from_now()?;
        let mut unbind = bound.begin_unbind()?;
        log.wait_for(PLAIN.0, "unbind waits", 1)?;
        holder.kill()?;
        assert!(unbind.wait()?.success());
        bound.bind()?;
    }
    Ok(())
}

/// What is pinned stays what it is while unbind waits, for those who hold it.
pub fn leaves_pinned_memory_alone_while_it_waits() -> Result<()> {
    let rdma = Rdma::open()?;
    let loopback = Loopback::new(&rdma)?;
    let copy = Mapping::anonymous(LEN)?;
    let copy_region = rdma.register(&copy)?;

    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let region = rdma.register(&mapping)?;
    let mut log = Log::from_now()?;
    let mut unbind = bound.begin_unbind()?;
    log.wait_for(PLAIN.0, "unbind waits", 1)?;
    check_sigbus(&mapping)?;
    loopback.read((&copy_region, 0..LEN), (&region, 0..LEN))?;
    copy.check(OURS)?;
    assert!(!unbind.has_ended()?, "unbind with pinned memory");
    drop(region);
    assert!(unbind.wait()?.success());
    check_sigbus(&mapping)
}

/// The controller is nvme's again afterwards, its memory included.
pub fn gives_the_controller_back_to_nvme() -> Result<()> {
    let bound = Bound::new(CMB)?;
    let holder = Helper::hold(CMB, LEN, OURS, Pin::Verbs, After::Unmap)?;
    let mut log = Log::from_now()?;
    let mut unbind = bound.begin_unbind()?;
    log.wait_for(CMB.0, "unbind waits", 1)?;
    holder.release()?;
    assert!(unbind.wait()?.success());

    CMB.bind_default("nvme")?;
    assert_eq!(CMB.number("p2pmem/size")?, 64 << 20);
    poll::until("the controller is live", || {
        let controller = fs::read_dir(CMB.path("nvme"))?.next().context("none")??;
        let state = fs::read_to_string(controller.path().join("state"))?;
        Ok(state.trim_end() == "live")
    })?;

    // And p2pmem's again after that.
    CMB.unbind()?;
    bound.bind()?;
    bound.map(LEN)?.check_zero()?;
    Ok(())
}

/// Removal of the device is an unbind too.
pub fn comes_with_the_removal_of_the_device() -> Result<()> {
    /// Finds the device again, whatever happens.
    struct Rescan;
    impl Drop for Rescan {
        fn drop(&mut self) {
            let rescan = fs::write("/sys/bus/pci/rescan", "1").context("rescan");
            harness::note_problem(rescan);
        }
    }

    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    let holder = Helper::hold(PLAIN, LEN, OURS, Pin::Verbs, After::Unmap)?;
    let mut log = Log::from_now()?;
    let rescan = Rescan;
    let remove = PLAIN.path("remove");
    let mut removal = Helper::write(&remove.to_string_lossy(), "1")?;
    log.wait_for(PLAIN.0, "unbind waits", 1)?;
    check_sigbus(&mapping)?;
    assert!(!removal.has_ended()?, "removed with pinned memory");
    holder.release()?;
    assert!(removal.wait()?.success());
    assert!(!PLAIN.exists());
    check_sigbus(&mapping)?;

    drop(rescan);
    assert!(PLAIN.exists());
    bound.bind()?;
    bound.map(bound.size()?)?.check_zero()?;
    Ok(())
}

fn memory_available() -> Result<usize> {
    let meminfo = fs::read_to_string("/proc/meminfo")?;
    let line = meminfo.lines().find(|l| l.starts_with("MemAvailable:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1));
    Ok(kib.context("no MemAvailable")?.parse::<usize>()? * 1024)
}

pub fn works_again_and_again() -> Result<()> {
    let cycles = pace::scaled(200);
    let bound = Bound::to_be(PLAIN)?;
    let before = memory_available()?;
    let mut left_mapped = Vec::new();
    for cycle in 0..cycles {
        bound.bind()?;
        let mapping = bound.map(HUGE + cycle % 7 * PAGE)?;
        assert_eq!(mapping.read(HUGE - 8), 0);
        mapping.write(HUGE - 8, cycle as u64);
        // One is unmapped before, the next after it; the last few of those stay a while.
        if cycle % 2 == 0 {
            left_mapped.push(mapping);
        }
        if left_mapped.len() > 3 {
            left_mapped.remove(0);
        }
        bound.unbind()?;
    }
    drop(left_mapped);
    // 200 times the struct pages of the device would be 200 MiB.
    let lost = before.saturating_sub(memory_available()?);
    assert!(lost < 64 << 20, "{lost} bytes less are available");
    bound.bind()?;
    assert_eq!(bound.available()?, bound.size()?);
    Ok(())
}
