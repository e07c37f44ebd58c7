// SPDX-License-Identifier: GPL-2.0

//! How often the kernel calls one of its functions (`Documentation/trace/kprobetrace.rst`).

use crate::harness;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

const EVENTS: &str = "/sys/kernel/tracing/kprobe_events";
const PROFILE: &str = "/sys/kernel/tracing/kprobe_profile";

/// Whether this kernel has it; distributions' have.
pub fn is_possible() -> bool {
    Path::new(EVENTS).exists()
}

/// Counts the calls of a function until drop.
pub struct Calls {
    name: String,
}

impl Calls {
    pub fn of(function: &str) -> Result<Calls> {
        let name = format!("calls_of_{function}");
        append(&format!("p:p2pmem_selftest/{name} {function}"))?;
        let calls = Calls { name };
        calls.enable("1")?;
        Ok(calls)
    }

    fn enable(&self, value: &str) -> Result<()> {
        let path = format!(
            "/sys/kernel/tracing/events/p2pmem_selftest/{}/enable",
            self.name
        );
        fs::write(&path, value).context(path)
    }

    /// Calls so far.
    pub fn count(&self) -> Result<u64> {
        let text = fs::read_to_string(PROFILE).context(PROFILE)?;
        let count = count_of(&self.name, &text);
        count.with_context(|| format!("{} in {PROFILE}: `{text}`", self.name))
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let disabled = self.enable("0");
        harness::note_problem(
            disabled.and_then(|()| append(&format!("-:p2pmem_selftest/{}", self.name))),
        );
    }
}

/// A line of the file; written anew it would remove everybody's events.
fn append(line: &str) -> Result<()> {
    let mut file = File::options().append(true).open(EVENTS).context(EVENTS)?;
    let written = file.write_all(line.as_bytes());
    written.with_context(|| format!("`{line}` to {EVENTS}"))
}

/// Hits and those that were missed: both are calls.
fn count_of(name: &str, profile: &str) -> Option<u64> {
    let line = profile
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name))?;
    let numbers = line.split_whitespace().skip(1).take(2);
    numbers.map(|number| number.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hits_and_misses_are_counted_for_one_name() {
        let profile = "  one_more   7   0\n  one   40   2\n";
        assert_eq!(count_of("one", profile), Some(42));
        assert_eq!(count_of("two", profile), None);
        assert_eq!(count_of("one", "  one   forty   2\n"), None);
    }
}
