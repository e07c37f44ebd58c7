// SPDX-License-Identifier: GPL-2.0

//! What was measured on.

use crate::setting::{self, THP};
use anyhow::{Context, Result};
use std::fs;

pub struct Environment {
    pub kernel: String,
    /// Of the source that module and bench were built from, as whoever started the bench says.
    pub revision: String,
    /// In software emulation it says so.
    pub processor: String,
    pub processors: usize,
    pub transparent_hugepage: String,
}

impl Environment {
    pub fn read(revision: String) -> Result<Environment> {
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
        })
    }

    pub fn text(&self) -> String {
        format!(
            "kernel {}, p2pmem {}, {} x {}, transparent_hugepage {}",
            self.kernel, self.revision, self.processors, self.processor, self.transparent_hugepage
        )
    }
}
