// SPDX-License-Identifier: GPL-2.0

//! The machine's setting for transparent huge pages.

use crate::harness;
use anyhow::{Context, Result};
use std::fs;

const FILE: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// `always`, `madvise` or `never`.
pub fn current() -> Result<String> {
    let text = fs::read_to_string(FILE).context(FILE)?;
    // As in `always [madvise] never`.
    let setting = text.split(['[', ']']).nth(1).context("no setting")?;
    Ok(setting.to_owned())
}

/// A setting that lasts until drop.
pub struct Setting(String);

impl Setting {
    /// One of those.
    pub fn set(value: &str) -> Result<Setting> {
        let setting = Setting(current()?);
        fs::write(FILE, value).context(FILE)?;
        Ok(setting)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        harness::note_problem(fs::write(FILE, &self.0).context(FILE));
    }
}
