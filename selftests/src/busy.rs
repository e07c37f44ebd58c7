// SPDX-License-Identifier: GPL-2.0

//! Processors that have hardly any time for the kernel's own threads.

use crate::child::Child;
use crate::setting::Setting;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{sched_setaffinity, CpuSet};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{sysconf, Pid, SysconfVar};
use std::hint;
use std::path::Path;

/// What gives each session the same share of the processors, whatever its processes' priorities.
const AUTOGROUP: &str = "/proc/sys/kernel/sched_autogroup_enabled";

/// So many children keep a processor busy.
const CHILDREN: i64 = 2;

/// Runs `body` in a child of the highest priority, an ordinary process's ninetyfold; it must succeed.
pub fn in_a_hurry(body: impl FnOnce() -> Result<()>) -> Result<()> {
    // For those that are started from now on.
    let _autogroup = match Path::new(AUTOGROUP).exists() {
        true => Some(Setting::set(AUTOGROUP, "0")?),
        false => None,
    };
    let child = Child::start(|| {
        // SAFETY: changes nothing but this process's priority.
        Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) })?;
        body()
    })?;
    child.succeed()
}

/// Until drop, children with this process's priority keep all processors busy.
pub struct Busy {
    _children: Vec<Child>,
}

impl Busy {
    pub fn start() -> Result<Busy> {
        let processors = sysconf(SysconfVar::_NPROCESSORS_ONLN)?.context("no processors")?;
        let children = (0..CHILDREN * processors).map(|child| {
            Child::start(|| {
                // They must not stay if this process is killed.
                set_pdeathsig(Signal::SIGKILL)?;
                let mut only = CpuSet::new();
                only.set((child % processors) as usize)?;
                sched_setaffinity(Pid::this(), &only)?;
                // Without a pause, for which an emulator stops and lets others in.
                loop {
                    hint::black_box(());
                }
            })
        });
        Ok(Busy {
            _children: children.collect::<Result<_>>()?,
        })
    }
}
