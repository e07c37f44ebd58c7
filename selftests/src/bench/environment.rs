// SPDX-License-Identifier: GPL-2.0

//! What was measured on.

use super::record::Unit;
use crate::setting::{self, THP};
use anyhow::{Context, Result};
use std::fs;

/// What the machine's clock goes by.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    Time,
    /// A nanosecond is an instruction that was executed (QEMU's `-icount shift=0`).
    Instructions,
}

impl Clock {
    pub fn heading(self) -> &'static str {
        match self {
            Clock::Time => "median",
            Clock::Instructions => "instructions",
        }
    }

    /// What samples are that were taken by this clock.
    pub fn reading(self, unit: Unit, samples: &[f64]) -> (Unit, Vec<f64>) {
        match (self, unit) {
            (Clock::Instructions, Unit::Seconds) => (
                Unit::Instructions,
                samples
                    .iter()
                    .map(|seconds| (seconds * 1e9).round())
                    .collect(),
            ),
            _ => (unit, samples.to_vec()),
        }
    }
}

pub struct Environment {
    pub kernel: String,
    /// Of the source that module and bench were built from, as whoever started the bench says.
    pub revision: String,
    /// In software emulation it says so.
    pub processor: String,
    pub processors: usize,
    pub transparent_hugepage: String,
    pub clock: Clock,
}

impl Environment {
    pub fn read(revision: String, clock: Clock) -> Result<Environment> {
        let read = |path: &str| fs::read_to_string(path).context(path.to_owned());
        let cpuinfo = read("/proc/cpuinfo")?;
        let models: Vec<&str> = cpuinfo
            .lines()
            .filter_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map(|(_, model)| model)
            .collect();
        Ok(Environment {
            kernel: nix::sys::utsname::uname()?
                .release()
                .to_string_lossy()
                .into_owned(),
            revision,
            processor: models.first().context("no processor")?.to_string(),
            processors: models.len(),
            transparent_hugepage: setting::value(THP)?,
            clock,
        })
    }

    pub fn text(&self) -> String {
        format!(
            "kernel {}, p2pmem {}, {} x {}, transparent_hugepage {}",
            self.kernel, self.revision, self.processors, self.processor, self.transparent_hugepage
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_of_instructions_counts_them() {
        let (unit, samples) = Clock::Instructions.reading(Unit::Seconds, &[2e-6]);
        assert_eq!((unit, samples), (Unit::Instructions, vec![2000.0]));
        let (unit, samples) = Clock::Instructions.reading(Unit::Bytes, &[3.0]);
        assert_eq!((unit, samples), (Unit::Bytes, vec![3.0]));
        let (unit, samples) = Clock::Time.reading(Unit::Seconds, &[2e-6]);
        assert_eq!((unit, samples), (Unit::Seconds, vec![2e-6]));
    }
}
