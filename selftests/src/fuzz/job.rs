// SPDX-License-Identifier: GPL-2.0

//! What the supervisor does to the device and the driver. It may wait for pins and cannot be
//! killed then, so that it is done in another process.

use super::process::Process;
use super::tally::{Oracle, Tally};
use super::watched::HANG;
use crate::device::Pci;
use crate::module;
use anyhow::Result;
use std::fs;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    Unbind,
    Unload,
    Override,
    Probe,
}

impl Job {
    /// Returns the exit status of the process.
    fn run(self, pci: Pci) -> i32 {
        let succeeded = match self {
            Job::Unbind => fs::write("/sys/bus/pci/drivers/p2pmem/unbind", pci.0).is_ok(),
            Job::Override => fs::write(pci.path("driver_override"), "p2pmem\n").is_ok(),
            Job::Probe => fs::write("/sys/bus/pci/drivers_probe", pci.0).is_ok(),
            // It is refused, again and again, as long as there are mappings.
            Job::Unload => module::unload().is_ok(),
        };
        i32::from(!succeeded)
    }
}

pub struct RunningJob {
    pub job: Job,
    process: Process,
    since: Instant,
    /// After so long it is time to end those whose pins it may wait for.
    grace: Duration,
    reported: bool,
}

impl RunningJob {
    pub fn start(job: Job, pci: Pci, grace: Duration) -> Result<RunningJob> {
        Ok(RunningJob {
            job,
            process: Process::start(|| job.run(pci))?,
            since: Instant::now(),
            grace,
            reported: false,
        })
    }

    pub fn has_waited_enough(&self) -> bool {
        self.since.elapsed() >= self.grace
    }

    /// Once it is over, whether it succeeded. Reports when it hangs.
    pub fn result(&mut self, tally: &Tally) -> Option<bool> {
        if self.process.is_gone(tally) {
            return Some(self.process.exit_status() == Some(0));
        }
        if !self.reported && self.since.elapsed() > self.grace + HANG {
            let what = format!("{:?} hangs:\n{}", self.job, self.process.describe());
            tally.violation(Oracle::NothingHangs, &what);
            self.reported = true;
        }
        None
    }
}
