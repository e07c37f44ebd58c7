// SPDX-License-Identifier: GPL-2.0

//! The kernel's settings: files that tests write to, and leave as they were.

use crate::harness;
use anyhow::{Context, Result};
use std::fs;

/// Whether mappings get transparent huge pages: `always`, `madvise` or `never`.
pub const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// What the file says; of several values to choose from (`always [madvise] never`), the chosen one.
pub fn value(path: &str) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| path.to_owned())?;
    Ok(chosen(&text).to_owned())
}

fn chosen(text: &str) -> &str {
    let text = text.trim_end();
    text.split(['[', ']']).nth(1).unwrap_or(text)
}

/// A setting that lasts until drop.
pub struct Setting {
    path: String,
    before: String,
}

impl Setting {
    pub fn set(path: &str, value: &str) -> Result<Setting> {
        let setting = Setting {
            path: path.to_owned(),
            before: self::value(path)?,
        };
        fs::write(path, value).with_context(|| format!("{value} to {path}"))?;
        Ok(setting)
    }
}

impl Drop for Setting {
    fn drop(&mut self) {
        let result = fs::write(&self.path, &self.before);
        harness::note_problem(result.with_context(|| format!("{} to {}", self.before, self.path)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_alone_or_among_others() {
        assert_eq!(chosen("120\n"), "120");
        assert_eq!(chosen("always [madvise] never\n"), "madvise");
        assert_eq!(chosen("\n"), "");
    }
}
