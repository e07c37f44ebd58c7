// SPDX-License-Identifier: GPL-2.0

//! The module itself: loading and unloading it.

use super::{LEN, OURS};
use crate::child;
use crate::device::{Bound, PLAIN};
use crate::helper::Helper;
use crate::kmsg::{Log, WARNING};
use crate::module::{self, Restore};
use crate::poll;
use crate::verbs::Rdma;
use anyhow::{ensure, Result};
use nix::errno::Errno;
use nix::sys::signal::Signal;
use std::process::Command;

pub fn loads_and_unloads_without_a_warning() -> Result<()> {
    let _restore = module::unloaded()?;
    let mut log = Log::from_now()?;
    for _ in 0..3 {
        module::load("")?;
        assert!(module::is_loaded());
        module::unload()?;
        assert!(!module::is_loaded());
    }
    let warnings: Vec<_> = log
        .records()?
        .iter()
        .filter(|r| r.level <= WARNING && r.text.contains("p2pmem"))
        // What the kernel says of every module that is not its own.
        .filter(|r| !r.text.contains("taint"))
        .collect();
    assert!(warnings.is_empty(), "{warnings:?}");
    Ok(())
}

/// An alias would make tools take it for the driver of devices that it must never grab.
pub fn has_no_alias() -> Result<()> {
    let modinfo = |field: &str| -> Result<String> {
        let mut command = Command::new("modinfo");
        let output = command
            .args(["--field", field])
            .arg(module::file())
            .output()?;
        ensure!(output.status.success(), "modinfo: {output:?}");
        Ok(String::from_utf8(output.stdout)?)
    };
    assert_eq!(modinfo("name")?.trim(), "p2pmem");
    assert_eq!(modinfo("alias")?, "");
    Ok(())
}

pub fn rmmod_is_refused_while_a_mapping_lives() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    mapping.fill(OURS);
    assert_eq!(module::try_unload(), Err(Errno::EAGAIN));
    mapping.check(OURS)?;

    // Also while the memory is gone and only its addresses are left.
    bound.unbind()?;
    assert_eq!(module::try_unload(), Err(Errno::EAGAIN));
    let touched = child::signal_of(|| mapping.touch())?;
    assert_eq!(touched, Some(Signal::SIGBUS));

    drop(mapping);
    let _restore = module::unloaded()?;
    Ok(())
}

pub fn rmmod_unbinds_a_device() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    bound.map(LEN)?.fill(OURS);
    let restore = module::unloaded()?;
    assert!(!bound.is_bound());
    assert!(!PLAIN.path("p2pmem").exists());

    drop(restore);
    bound.bind()?;
    bound.map(bound.size()?)?.check_zero()?;
    Ok(())
}

/// Either it is refused, or it waits until the memory is nobody's; it never takes it away.
pub fn rmmod_does_not_take_pinned_memory_away() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    let region = Rdma::open()?.register(&mapping)?;
    drop(mapping);
    bound.wait_draining(LEN)?;

    let _restore = Restore;
    let mut log = Log::from_now()?;
    let mut rmmod = Helper::unload()?;
    let refused = poll::until_some("rmmod is refused or waits", || {
        let waits = log
            .of_device(PLAIN.0)?
            .iter()
            .any(|r| r.text.contains("unbind waits"));
        let ended = rmmod.has_ended()?;
        Ok((waits || ended).then_some(ended))
    })?;
    if refused {
        assert!(!rmmod.wait()?.success(), "rmmod with pinned memory");
        assert!(bound.is_bound());
        assert_eq!(bound.draining()?, LEN);
    }
    drop(region);
    rmmod.wait()?;

    // Now nothing is in its way.
    if module::is_loaded() {
        module::unload()?;
    }
    Ok(())
}
