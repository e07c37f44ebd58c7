// SPDX-License-Identifier: GPL-2.0

//! Reading from a disk with O_DIRECT, as fio does it.

use super::Sheet;
use crate::bench::contestant::SOURCE;
use crate::bench::memory::Memory;
use crate::bench::record::{Quantity, Transfer};
use crate::disk;
use anyhow::{ensure, Context, Result};
use serde_json::Value;
use std::process::Command;

/// Of the same memory, one after the other.
pub const TRANSFERS: [Transfer; 2] = [Transfer::Small, Transfer::Large];

/// What one transfer takes while several are in flight. fio tells it without its own start and end.
pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    let iomem = match memory.allocate() {
        Some(path) => format!("mmapshared:{}", path.display()),
        None => "mmap".to_owned(),
    };
    let mut fio = Command::new("fio");
    // For all of the jobs.
    fio.arg("--output-format=json")
        .args([
            "--name=global",
            "--direct=1",
            "--ioengine=libaio",
            "--rw=read",
        ])
        .args([
            "--iodepth=8",
            "--runtime=1",
            "--time_based",
            "--ramp_time=200ms",
        ])
        .arg("--size=256m")
        .arg(format!(
            "--filename={}",
            disk::block_device(SOURCE)?.display()
        ))
        .arg(format!("--iomem={iomem}"));
    for transfer in TRANSFERS {
        let bytes = transfer.bytes();
        fio.args([&format!("--name={bytes}"), "--stonewall"])
            .arg(format!("--bs={bytes}"));
    }
    let output = fio.output().context("fio")?;
    ensure!(output.status.success(), "fio: {output:?}");
    memory.settle()?;
    let seconds = seconds(&output.stdout).context("fio gave no bandwidth")?;
    for (transfer, seconds) in TRANSFERS.into_iter().zip(seconds) {
        sheet.add(Quantity::Read(transfer), seconds);
    }
    Ok(())
}

/// Of each job.
fn seconds(json: &[u8]) -> Option<Vec<f64>> {
    let report: Value = serde_json::from_slice(json).ok()?;
    let seconds = |(number, transfer): (usize, Transfer)| {
        let bandwidth = report["jobs"][number]["read"]["bw_bytes"].as_f64()?;
        (bandwidth > 0.0).then(|| transfer.bytes() as f64 / bandwidth)
    };
    TRANSFERS.into_iter().enumerate().map(seconds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_is_a_time_for_each_transfer() {
        let json = br#"{"jobs": [{"read": {"bw_bytes": 409600}, "write": {"bw_bytes": 0}},
            {"read": {"bw_bytes": 1310720}}]}"#;
        assert_eq!(seconds(json), Some(vec![0.01, 0.1]));
    }

    #[test]
    fn nothing_read_is_no_time() {
        let json = br#"{"jobs": [{"read": {"bw_bytes": 0}}, {"read": {"bw_bytes": 7}}]}"#;
        assert_eq!(seconds(json), None);
        assert_eq!(seconds(b"fio: cannot"), None);
    }
}
