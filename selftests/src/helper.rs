// SPDX-License-Identifier: GPL-2.0

//! This program started again as another process, to be waited for, or to hold memory.
//!
//! Unlike a forked child it has none of the test's mappings, and when it hangs in the kernel
//! the test does not hang with it.

use crate::device::Pci;
use crate::mapping::Mapping;
use crate::module;
use crate::pattern::Pattern;
use crate::poll;
use crate::uring::Ring;
use crate::verbs::Rdma;
use anyhow::{bail, ensure, Context, Result};
use nix::poll::{poll as poll_fds, PollFd, PollFlags, PollTimeout};
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

/// First argument of such a process.
const FLAG: &str = "--helper";

/// What takes the long-term pin.
#[derive(Clone, Copy, Debug)]
pub enum Pin {
    Verbs,
    Uring,
}

/// What becomes of the mapping after that.
#[derive(Clone, Copy, Debug)]
pub enum After {
    StayMapped,
    Unmap,
}

/// Another process that was told to do one thing; killed and reaped on drop.
pub struct Helper(Child);

impl Helper {
    fn start(arguments: &[&str]) -> Result<Helper> {
        // The real path and not /proc/self/exe, for the process to have the program's name.
        let child = Command::new(std::env::current_exe()?)
            .arg(FLAG)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a helper")?;
        Ok(Helper(child))
    }

    /// Maps `len` bytes of a device, fills them with `pattern`, and holds them pinned.
    pub fn hold(pci: Pci, len: usize, pattern: Pattern, pin: Pin, after: After) -> Result<Helper> {
        let (len, seed) = (len.to_string(), pattern.0.to_string());
        let (pin, after) = (format!("{pin:?}"), format!("{after:?}"));
        let mut helper = Helper::start(&["hold", pci.0, &len, &seed, &pin, &after])?;
        helper.wait_until_ready()?;
        Ok(helper)
    }

    /// Writes to a file, as `echo value > path` does.
    pub fn write(path: &str, value: &str) -> Result<Helper> {
        Helper::start(&["write", path, value])
    }

    /// rmmod, once.
    pub fn unload() -> Result<Helper> {
        Helper::start(&["unload"])
    }

    /// A helper says one word when it has what it is to hold.
    fn wait_until_ready(&mut self) -> Result<()> {
        let stdout = self.0.stdout.as_mut().context("stdout is piped")?;
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(poll::deadline())?;
        ensure!(poll_fds(&mut fds, timeout)? == 1, "the helper hangs");
        let mut ready = [0; 6];
        stdout.read_exact(&mut ready).context("the helper failed")?;
        Ok(())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The name that ps shows.
    pub fn comm(&self) -> Result<String> {
        let comm = fs::read_to_string(format!("/proc/{}/comm", self.pid()))?;
        Ok(comm.trim_end().to_owned())
    }

    pub fn has_ended(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_some())
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        poll::until_some("end of a helper", || Ok(self.0.try_wait()?))
    }

    /// Lets go of what it holds, after it has looked at it once more.
    pub fn release(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        let status = self.wait()?;
        ensure!(status.success(), "the helper ended with {status}");
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.0.kill()?;
        self.wait()?;
        Ok(())
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        // It may hang in the kernel: that is the test's to report, not a reason to hang too.
        let _ = self.wait();
    }
}

/// What such a process does; `None` if this is none. To be asked first in each program that may
/// start one: they are all started from the program itself.
pub fn main() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (&FLAG, arguments) = arguments.split_first()? else {
        return None;
    };
    let result = match *arguments {
        ["write", path, value] => fs::write(path, value).context(path.to_owned()),
        ["unload"] => module::try_unload().context("rmmod"),
        ["hold", bdf, len, seed, pin, after] => hold(bdf, len, seed, pin, after),
        _ => Err(anyhow::anyhow!("unknown: {arguments:?}")),
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("helper {arguments:?}: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn hold(bdf: &str, len: &str, seed: &str, pin: &str, after: &str) -> Result<()> {
    let pattern = Pattern(seed.parse()?);
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(format!("/sys/bus/pci/devices/{bdf}/p2pmem/allocate"))?;
    let mapping = crate::mapping::Request::shared(len.parse()?).map(&file)?;
    // An open sysfs file is not what the tests are about.
    drop(file);
    mapping.fill(pattern);

    match pin {
        "Verbs" => {
            let rdma = Rdma::open()?;
            let region = rdma.register(&mapping)?;
            wait_with(mapping, after)?;
            drop(region);
        }
        "Uring" => {
            let ring = Ring::with_buffer(&mapping)?;
            wait_with(mapping, after)?;
            drop(ring);
        }
        _ => bail!("unknown pin: {pin}"),
    }
    Ok(())
}

/// Keeps or drops the mapping, says that all is held, and waits for the end of its input.
fn wait_with(mapping: Mapping, after: &str) -> Result<()> {
    let _mapping = match after {
        "StayMapped" => Some(mapping),
        "Unmap" => {
            drop(mapping);
            None
        }
        _ => bail!("unknown: {after}"),
    };
    println!("ready");
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
