// SPDX-License-Identifier: GPL-2.0

//! Allocations that fail when a test says so, by the kernel's fault injection.
//!
//! A task counts its own allocations down and fails the one that it was told to
//! (`/proc/thread-self/fail-nth`, `Documentation/fault-injection/`). Nobody else's fail: the
//! probability, which is about everyone's, stays 0.

use crate::harness;
use crate::kmsg::{self, Log};
use crate::setting::Setting;
use anyhow::{bail, ensure, Context, Result};
use nix::errno::Errno;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

const NTH: &str = "/proc/thread-self/fail-nth";

/// Whether this kernel has it; a distribution's has not.
pub fn is_possible() -> bool {
    Path::new(NTH).exists()
}

/// What the core kernel reports of an allocation that failed, whoever asked for it: what the first
/// line contains and the last that could be an alarm. None of it is one while failures are injected.
const REPORTS: &[(&str, &str)] = &[
    // mm/vmalloc.c tells everyone who had asked it for memory.
    (": vmalloc error: size ", "</TASK>"),
    // mm/sparse-vmemmap.c: no page for the struct pages of a device's memory.
    (": vmemmap alloc failure: order:", "</TASK>"),
    // WARN_ON_ONCE(ret) in add_pages(): the same failure on its way to memremap_pages().
    ("WARNING: arch/x86/mm/init_64.c:", "---[ end trace "),
];

/// A function of the core kernel that does not survive a failure: no allocation fails that it asks
/// for or what it calls. It maps new memory for the kernel, does not look at what it is given for
/// page tables (`alloc_low_page()` in arch/x86/mm/init_64.c), and stops the machine. Any driver that
/// adds memory is exposed to it.
const SPARED: &str = "init_memory_mapping";

/// Failures of every kind of allocation are possible, until drop.
pub struct Injection {
    _settings: Vec<Setting>,
    log: Log,
}

impl Injection {
    pub fn new() -> Result<Injection> {
        let (start, end) = symbol(SPARED)?;
        let (start, end) = (format!("{start:#x}"), format!("{end:#x}"));
        let values = [
            // Allocations that may sleep are most of all.
            ("failslab/ignore-gfp-wait", "N"),
            ("failslab/verbose", "0"),
            ("failslab/reject-start", start.as_str()),
            ("failslab/reject-end", end.as_str()),
            ("fail_page_alloc/ignore-gfp-wait", "N"),
            ("fail_page_alloc/ignore-gfp-highmem", "N"),
            ("fail_page_alloc/min-order", "0"),
            ("fail_page_alloc/verbose", "0"),
            ("fail_page_alloc/reject-start", start.as_str()),
            ("fail_page_alloc/reject-end", end.as_str()),
        ];
        let mut settings = Vec::new();
        for (name, value) in values {
            settings.push(Setting::set(&format!("/sys/kernel/debug/{name}"), value)?);
        }
        for name in ["failslab", "fail_page_alloc"] {
            let path = format!("/sys/kernel/debug/{name}/probability");
            let probability = fs::read_to_string(&path).with_context(|| path.clone())?;
            ensure!(probability.trim_end() == "0", "{path}: {probability}");
        }
        // The reports above are of level warning (4). Whoever reads the console does not know
        // that they were to come; the tests read the log itself.
        settings.push(Setting::set("/proc/sys/kernel/printk", "4")?);
        Ok(Injection {
            _settings: settings,
            log: Log::from_now()?,
        })
    }

    /// Lets the first allocation in what [`Shot::fire`] calls fail, then the second, and so on,
    /// until all of them have failed once. `attempt` prepares, fires once, and looks at the result.
    pub fn each(&self, mut attempt: impl FnMut(&mut Shot) -> Result<()>) -> Result<()> {
        let (mut failures, mut unnoticed) = (0, 0);
        for n in 1.. {
            let mut shot = Shot::at(n);
            attempt(&mut shot).with_context(|| format!("allocation {n}"))?;
            if !shot.injected {
                break;
            }
            failures += 1;
            unnoticed += usize::from(!shot.noticed);
        }
        ensure!(failures > 0, "it allocates nothing");
        // In the line that the test's result ends.
        print!("{failures} allocations failed, {unnoticed} unnoticed: ");
        Ok(())
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        harness::note_problem(excuse_reports(&mut self.log));
    }
}

fn excuse_reports(log: &mut Log) -> Result<()> {
    let records = log.records()?;
    let texts = records.iter().map(|record| record.text.as_str());
    for (record, is_report) in records.iter().zip(are_reports(texts)) {
        if is_report {
            kmsg::excuse(record);
        }
    }
    Ok(())
}

/// Which of these lines belong to one of [`REPORTS`].
fn are_reports<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<bool> {
    let mut last_line = None;
    let is_report = |text: &str| {
        let report = REPORTS.iter().find(|(first, _)| text.contains(first));
        last_line = report.map(|(_, last)| last).or(last_line);
        let is_report = last_line.is_some();
        last_line = last_line.filter(|last| !text.contains(*last));
        is_report
    };
    texts.map(is_report).collect()
}

/// The addresses of a function of the kernel.
fn symbol(name: &str) -> Result<(u64, u64)> {
    const FILE: &str = "/proc/kallsyms";
    let mut start = None;
    let mut following = Vec::new();
    for line in fs::read_to_string(FILE).context(FILE)?.lines() {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next().context(FILE)?, 16)?;
        match words.nth(1) {
            Some(found) if found == name => start = Some(address),
            _ => following.push(address),
        }
    }
    let start = start.with_context(|| format!("{name} in {FILE}"))?;
    let end = following.into_iter().filter(|&a| a > start).min();
    Ok((start, end.with_context(|| format!("end of {name}"))?))
}

/// One allocation that fails.
pub struct Shot {
    n: u32,
    injected: bool,
    noticed: bool,
}

/// Disarmed on drop, whatever became of the call.
struct Armed(File);

impl Armed {
    fn new(n: u32) -> Result<Armed> {
        let file = File::options()
            .read(true)
            .write(true)
            .open(NTH)
            .context(NTH)?;
        let value = n.to_string();
        file.write_at(value.as_bytes(), 0).context(NTH)?;
        Ok(Armed(file))
    }

    /// Whether the allocation has come, and failed.
    fn has_fired(&self) -> Result<bool> {
        let mut value = [0; 16];
        let len = self.0.read_at(&mut value, 0).context(NTH)?;
        Ok(&value[..len] == b"0\n")
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        harness::note_problem(self.0.write_at(b"0", 0).map(drop).context(NTH));
    }
}

impl Shot {
    fn at(n: u32) -> Shot {
        Shot {
            n,
            injected: false,
            noticed: false,
        }
    }

    /// One at an allocation that nothing comes to.
    pub fn blank() -> Shot {
        Shot::at(u32::MAX)
    }

    /// Lets the allocation fail if `call` comes to it. `call` should do no more than one system
    /// call: what fails of this program's own allocations ends it.
    pub fn fire<T>(&mut self, call: impl FnOnce() -> T) -> Result<T> {
        let armed = Armed::new(self.n)?;
        let value = call();
        self.injected = armed.has_fired()?;
        Ok(value)
    }

    /// The value of what was called, or `None` if it failed as it may: with one of `errors`, and
    /// only if an allocation did.
    pub fn check<T>(&mut self, result: nix::Result<T>, errors: &[Errno]) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if !self.injected => bail!("{error}, though no allocation failed"),
            Err(error) if errors.contains(&error) => {
                self.noticed = true;
                Ok(None)
            }
            Err(error) => bail!("{error} instead of one of {errors:?}"),
        }
    }

    /// Whether the allocation failed: for what reports no error of its own.
    pub fn was_injected(&self) -> bool {
        self.injected
    }

    /// Says so when somebody else was called than `fire` can see into.
    pub fn note_injected(&mut self) {
        self.injected = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_excused_from_its_first_line_to_its_last() {
        let lines = [
            (false, "BUG: something else"),
            (
                true,
                "test: vmalloc error: size 4096, failed to allocate pages",
            ),
            (true, "Call Trace:"),
            (true, " </TASK>"),
            (false, "WARNING: mm/memory.c:1 at insert_page+0x1/0x2"),
            (false, "Call Trace:"),
            (
                true,
                "WARNING: arch/x86/mm/init_64.c:968 at add_pages+0x1/0x2",
            ),
            (true, " </TASK>"),
            (true, "---[ end trace 0000000000000000 ]---"),
            (false, "BUG: something else"),
        ];
        let expected: Vec<bool> = lines.iter().map(|line| line.0).collect();
        assert_eq!(are_reports(lines.iter().map(|line| line.1)), expected);
    }
}
