// SPDX-License-Identifier: GPL-2.0

//! Processors that have hardly any time for the kernel's own threads.

use crate::child::Child;
use crate::setting::Setting;
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sched::{sched_setaffinity, CpuSet};
use nix::unistd::{sysconf, Pid, SysconfVar};
use std::hint;
use std::path::Path;

/// What gives each session the same share of the processors, whatever its processes' priorities.
const AUTOGROUP: &str = "/proc/sys/kernel/sched_autogroup_enabled";

/// Until drop, a child of the highest priority keeps each processor busy, and leaves about a
/// hundredth of it to those of the usual one. The children inherit mappings as after any fork.
pub struct Busy {
    _children: Vec<Child>,
    _autogroup: Option<Setting>,
}

impl Busy {
    pub fn start() -> Result<Busy> {
        let autogroup = match Path::new(AUTOGROUP).exists() {
            true => Some(Setting::set(AUTOGROUP, "0")?),
            false => None,
        };
        let processors = sysconf(SysconfVar::_NPROCESSORS_ONLN)?.context("no processors")?;
        let children = (0..processors).map(|processor| {
            Child::start(|| {
                let mut only = CpuSet::new();
                only.set(processor as usize)?;
                sched_setaffinity(Pid::this(), &only)?;
                // SAFETY: changes nothing but this process's priority.
                Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) })?;
                // Without a pause, for which an emulator stops and lets others in.
                loop {
                    hint::black_box(());
                }
            })
        });
        Ok(Busy {
            _children: children.collect::<Result<_>>()?,
            _autogroup: autogroup,
        })
    }
}
