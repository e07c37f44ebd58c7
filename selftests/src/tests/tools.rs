// SPDX-License-Identifier: GPL-2.0

//! Unmodified programs of others.

use crate::device::{Bound, Pci, CMB, DISK, PLAIN};
use crate::disk;
use crate::poll;
use crate::verbs;
use anyhow::{ensure, Context, Result};
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};

/// A program that was started; killed and reaped on drop.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Result<Program> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(name)?;
        Ok(Program(child))
    }

    /// Waits for its success and gives its output, and the least memory that was available
    /// meanwhile.
    fn finish(&mut self, bound: &Bound) -> Result<(String, usize)> {
        let mut least = bound.available()?;
        let status = poll::until_some("end of a program", || {
            least = least.min(bound.available()?);
            Ok(self.0.try_wait()?)
        })?;
        let mut output = String::new();
        if let Some(mut stdout) = self.0.stdout.take() {
            stdout.read_to_string(&mut output)?;
        }
        if let Some(mut stderr) = self.0.stderr.take() {
            stderr.read_to_string(&mut output)?;
        }
        ensure!(status.success(), "{status}:\n{output}");
        Ok((output, least))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn allocate_file(pci: Pci) -> String {
    pci.path("p2pmem/allocate").to_string_lossy().into_owned()
}

/// Whether some socket listens on the TCP port.
fn listens(port: u16) -> bool {
    const LISTEN: &str = "0A";
    let sockets = ["/proc/net/tcp", "/proc/net/tcp6"].map(fs::read_to_string);
    sockets
        .iter()
        .flatten()
        .flat_map(|text| text.lines())
        .any(|line| {
            let mut words = line.split_whitespace().skip(1);
            let local = words.next().unwrap_or_default();
            local.ends_with(&format!(":{port:04X}")) && words.nth(1) == Some(LISTEN)
        })
}

/// perftest, both ends with buffers in device memory.
pub fn ib_write_bw() -> Result<()> {
    const PORT: u16 = 18600;
    verbs::set_up_device()?;
    let gid_index = verbs::gid_index()?.to_string();
    for pci in [PLAIN, CMB] {
        let bound = Bound::new(pci)?;
        let command = || {
            let mut command = Command::new("ib_write_bw");
            command
                .args(["--ib-dev", verbs::DEVICE, "--gid-index", &gid_index])
                .args(["--size", "65536", "--iters", "20", "--CPU-freq"])
                .args(["--port", &PORT.to_string()])
                .arg(format!("--mmap={}", allocate_file(pci)));
            command
        };
        let mut server = Program::start(&mut command())?;
        poll::until("ib_write_bw listens", || Ok(listens(PORT)))?;
        let mut client = Program::start(command().arg("127.0.0.1"))?;
        let (output, least) = client.finish(&bound)?;
        let reported = output
            .lines()
            .any(|line| line.split_whitespace().take(2).eq(["65536", "20"]));
        ensure!(reported, "no result:\n{output}");
        ensure!(least < bound.size()?, "it did not use the device's memory");
        server.finish(&bound)?;
    }
    Ok(())
}

/// fio with verification: from device memory to the disk, and back into it.
pub fn fio() -> Result<()> {
    let disk = disk::block_device(DISK)?;
    for (pci, size) in [(PLAIN, "8m"), (CMB, "1m")] {
        let bound = Bound::new(pci)?;
        let mut fio = Program::start(
            Command::new("fio")
                .args(["--name=selftest", "--direct=1", "--ioengine=libaio"])
                .args(["--rw=randwrite", "--bs=64k", "--iodepth=4"])
                .args([
                    "--verify=crc32c",
                    "--verify_fatal=1",
                    "--verify_state_save=0",
                ])
                .arg(format!("--size={size}"))
                .arg(format!("--filename={}", disk.display()))
                .arg(format!("--iomem=mmapshared:{}", allocate_file(pci))),
        )?;
        let (output, least) = fio.finish(&bound)?;
        ensure!(output.contains("err= 0"), "no result:\n{output}");
        for direction in ["read:", "write:"] {
            ensure!(output.contains(direction), "no {direction}\n{output}");
        }
        ensure!(least < bound.size()?, "it did not use the device's memory");
    }
    Ok(())
}
