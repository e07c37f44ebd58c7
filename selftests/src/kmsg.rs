// SPDX-License-Identifier: GPL-2.0

//! The kernel log, read from `/dev/kmsg`.

use crate::poll;
use anyhow::{bail, Context, Result};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

/// Severity as in the kernel's `KERN_ERR` and `KERN_WARNING`.
pub const ERROR: u8 = 3;
pub const WARNING: u8 = 4;

/// What must not be in the log of a healthy kernel.
const ALARMS: &[&str] = &[
    "WARNING",
    "BUG:",
    "kernel BUG",
    "Oops",
    "Call Trace",
    "lockdep",
    "ODEBUG disabled",
    "debugging out of memory",
    // The module's own: see `abstractions/folio.rs`.
    "memory is lost",
    "possible circular locking",
    "possible recursive locking",
    "suspicious RCU usage",
    "sleeping function called",
    "KASAN",
    "KCSAN",
    "UBSAN",
    "refcount_t",
    "bad page",
    "Bad page",
    "Bad rss-counter",
    "general protection",
    "nable to handle",
    "soft lockup",
    "hard LOCKUP",
    "hung_task",
    "blocked for more than",
    "rcu: INFO",
];

thread_local! {
    /// The sequence numbers of records that are no alarm, whatever they say.
    static EXCUSED: RefCell<HashSet<u64>> = RefCell::default();
}

/// From now on the record is no alarm: it says what a test did on purpose.
pub fn excuse(record: &Record) {
    EXCUSED.with_borrow_mut(|excused| excused.insert(record.sequence));
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    sequence: u64,
    pub level: u8,
    pub text: String,
}

impl Record {
    /// From `priority,sequence,time,flags;text`; `None` for what user space
    /// wrote into the log.
    fn parse(raw: &str) -> Option<Record> {
        let (header, text) = raw.split_once(';')?;
        let mut fields = header.split(',');
        let priority: u32 = fields.next()?.parse().ok()?;
        let sequence = fields.next()?.parse().ok()?;
        (priority >> 3 == 0).then(|| Record {
            sequence,
            level: (priority & 7) as u8,
            text: text.lines().next().unwrap_or("").to_owned(),
        })
    }

    pub fn is_alarm(&self) -> bool {
        ALARMS.iter().any(|alarm| self.text.contains(alarm))
            && !EXCUSED.with_borrow(|excused| excused.contains(&self.sequence))
    }
}

/// The log from the moment this was made.
pub struct Log {
    file: File,
    records: Vec<Record>,
}

impl Log {
    pub fn from_now() -> Result<Log> {
        Log::from(SeekFrom::End(0))
    }

    /// All of the log that has not been overwritten yet.
    pub fn from_boot() -> Result<Log> {
        Log::from(SeekFrom::Start(0))
    }

    fn from(start: SeekFrom) -> Result<Log> {
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open("/dev/kmsg")
            .context("/dev/kmsg")?;
        file.seek(start).context("/dev/kmsg")?;
        Ok(Log {
            file,
            records: Vec::new(),
        })
    }

    /// All records so far.
    pub fn records(&mut self) -> Result<&[Record]> {
        let mut raw = [0; 8192];
        loop {
            match self.file.read(&mut raw) {
                Ok(len) => self
                    .records
                    .extend(Record::parse(&String::from_utf8_lossy(&raw[..len]))),
                Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => return Ok(&self.records),
                Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {
                    bail!("the kernel log was overwritten before it was read")
                }
                Err(e) => return Err(e).context("/dev/kmsg"),
            }
        }
    }

    /// The texts so far that are about the device `bdf` and come from p2pmem.
    pub fn of_device(&mut self, bdf: &str) -> Result<Vec<Record>> {
        let prefix = format!("p2pmem {bdf}: ");
        let mut records = self.records()?.to_vec();
        records.retain(|record| record.text.starts_with(&prefix));
        Ok(records)
    }

    /// Waits until at least `count` of the device's lines contain `part`.
    pub fn wait_for(&mut self, bdf: &str, part: &str, count: usize) -> Result<Vec<String>> {
        poll::until_some(&format!("{count} log lines of {bdf} with `{part}`"), || {
            let mut lines: Vec<String> = self.of_device(bdf)?.into_iter().map(|r| r.text).collect();
            lines.retain(|line| line.contains(part));
            Ok((lines.len() >= count).then_some(lines))
        })
    }

    /// Every line that a healthy kernel does not write.
    pub fn alarms(&mut self) -> Result<Vec<String>> {
        let records = self.records()?;
        let alarms = (0..records.len())
            .filter(|&i| records[i].is_alarm() && !is_race_of_others(&records[i..]))
            .map(|i| records[i].text.clone());
        Ok(alarms.collect())
    }
}

/// Whether this begins with a report of KCSAN's that p2pmem is on no stack of. Those are about the
/// core kernel, whose developers know many of them and put up with them.
fn is_race_of_others(records: &[Record]) -> bool {
    let mut report = records
        .iter()
        .take_while(|record| !record.text.starts_with("====="));
    records[0].text.starts_with("BUG: KCSAN") && !report.any(|r| r.text.contains("[p2pmem]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_kernel_is_read_without_its_dictionary() {
        let raw = "3,1234,99,-;p2pmem 0000:00:12.0: no CMB\n SUBSYSTEM=pci\n DEVICE=+pci:x\n";
        let record = Record::parse(raw).unwrap();
        assert_eq!(record.level, ERROR);
        assert_eq!(record.text, "p2pmem 0000:00:12.0: no CMB");
        assert!(!record.is_alarm());
    }

    #[test]
    fn a_record_of_user_space_is_not_the_kernels() {
        assert_eq!(Record::parse("12,1,1,-;systemd[1]: WARNING: x\n"), None);
    }

    #[test]
    fn a_race_is_an_alarm_if_p2pmem_is_in_it() {
        let of_others = |lines: &[&str]| {
            let records = lines.iter().map(|line| Record {
                sequence: 0,
                level: ERROR,
                text: line.to_string(),
            });
            is_race_of_others(&records.collect::<Vec<_>>())
        };
        let first = "BUG: KCSAN: data-race in a / b";
        let ours = " fault+0x1/0x2 [p2pmem]";
        let last = "==================";
        assert!(of_others(&[first, " a+0x1/0x2", last]));
        assert!(of_others(&[first, " a+0x1/0x2", last, first, ours, last]));
        assert!(!of_others(&[first, " a+0x1/0x2", ours, last]));
        assert!(!of_others(&["BUG: something else", last]));
    }

    #[test]
    fn a_splat_is_an_alarm_and_debug_is_none() {
        let of = |text: &str| Record {
            sequence: 0,
            level: 4,
            text: text.to_owned(),
        };
        assert!(of("WARNING: CPU: 0 PID: 1 at mm/memory.c:1").is_alarm());
        assert!(of("BUG: kernel NULL pointer dereference").is_alarm());
        assert!(!of("DEBUG_INFO=y").is_alarm());
        excuse(&of("WARNING: to be expected"));
        assert!(!of("WARNING: to be expected").is_alarm());
    }
}
