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

pub fn measure(memory: &Memory, sheet: &mut Sheet) -> Result<()> {
    for transfer in TRANSFERS {
        let seconds = read(memory, transfer)?;
        memory.settle()?;
        sheet.add(Quantity::Read(transfer), seconds);
    }
    Ok(())
}

/// What one transfer takes while several are in flight. fio tells it without its own start and end.
fn read(memory: &Memory, transfer: Transfer) -> Result<f64> {
    let iomem = match memory.allocate() {
        Some(path) => format!("mmapshared:{}", path.display()),
        None => "mmap".to_owned(),
    };
    let output = Command::new("fio")
        .args([
            "--name=bench",
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
        .args(["--output-format=json", "--size=256m"])
        .arg(format!("--bs={}", transfer.bytes()))
        .arg(format!(
            "--filename={}",
            disk::block_device(SOURCE)?.display()
        ))
        .arg(format!("--iomem={iomem}"))
        .output()
        .context("fio")?;
    ensure!(output.status.success(), "fio: {output:?}");
    seconds(&output.stdout, transfer).context("fio gave no bandwidth")
}

fn seconds(json: &[u8], transfer: Transfer) -> Option<f64> {
    let report: Value = serde_json::from_slice(json).ok()?;
    let bandwidth = report["jobs"][0]["read"]["bw_bytes"].as_f64()?;
    (bandwidth > 0.0).then(|| transfer.bytes() as f64 / bandwidth)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bandwidth_is_a_time_for_each_transfer() {
        let json = br#"{"jobs": [{"read": {"bw_bytes": 409600}, "write": {"bw_bytes": 0}}]}"#;
        assert_eq!(seconds(json, Transfer::Small), Some(0.01));
        assert_eq!(seconds(json, Transfer::Large), Some(0.32));
    }

    #[test]
    fn nothing_read_is_no_time() {
        let json = br#"{"jobs": [{"read": {"bw_bytes": 0}}]}"#;
        assert_eq!(seconds(json, Transfer::Small), None);
        assert_eq!(seconds(b"fio: cannot", Transfer::Small), None);
    }
}
