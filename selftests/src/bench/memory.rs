// SPDX-License-Identifier: GPL-2.0

//! A contestant's memory, ready to be mapped.

use super::contestant::{Contestant, Origin};
use super::source::Source;
use super::venue::{self, Venue};
use super::MUCH;
use crate::device::{Bound, Pci};
use crate::poll;
use anyhow::{bail, ensure, Context, Result};
use std::fs;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Pauses between looks at `available`, shortest and longest. In between it is a fixed part of what
/// has been waited: the looks must not hold up those who are waited for.
const PAUSES: (Duration, Duration) = (Duration::from_micros(50), Duration::from_millis(5));
const PART: u32 = 32;

/// As much is used at once when it is bound.
const SOON_USED: usize = 1 << 30;

pub struct Memory {
    pub who: Contestant,
    backing: Backing,
}

enum Backing {
    /// The nvme driver has the device. Its queues are in the CMB too, so not all is available
    /// when nothing is mapped, but this.
    Kernel {
        pci: Pci,
        idle: usize,
    },
    Module(Bound),
    Tmpfs(PathBuf),
    Hugetlb,
    Anonymous,
}

impl Memory {
    /// Makes it the contestant's turn.
    pub fn set_up(who: Contestant, venue: &Venue) -> Result<Memory> {
        let backing = match who.origin() {
            Origin::Nvme(pci) => Backing::Kernel {
                pci,
                idle: wait_for_controller(pci)?,
            },
            Origin::Module(pci) => Backing::Module(Bound::new(pci)?),
            Origin::Tmpfs => Backing::Tmpfs(venue.tmpfs().to_owned()),
            Origin::Hugetlb => Backing::Hugetlb,
            Origin::Anonymous => Backing::Anonymous,
        };
        let memory = Memory { who, backing };
        memory.use_all()?;
        Ok(memory)
    }

    /// Lets all memory of p2pmem have been in use once since the device was bound: what the device
    /// held before is zeroed at the first use, and never again. Not where that takes long.
    fn use_all(&self) -> Result<()> {
        if let Backing::Module(bound) = &self.backing {
            let size = bound.size()?;
            if size <= SOON_USED {
                drop(self.open()?.map(size)?);
                self.settle()?;
            }
        }
        Ok(())
    }

    /// Bytes that the device donates.
    pub fn size(&self) -> Result<usize> {
        let pci = self.device().context("it has no device")?;
        Ok(pci.number("p2pmem/size")? as usize)
    }

    /// The file that is mapped to allocate some.
    pub fn allocate(&self) -> Option<PathBuf> {
        Some(self.device()?.path("p2pmem/allocate"))
    }

    fn device(&self) -> Option<Pci> {
        match &self.backing {
            Backing::Kernel { pci, .. } => Some(*pci),
            Backing::Module(bound) => Some(bound.pci),
            _ => None,
        }
    }

    /// Takes the device from its driver. Nothing may be mapped: this is not left to a process that
    /// could be waited for with a deadline, since starting one takes time itself.
    pub fn unbind(&self) -> Result<()> {
        let pci = self.device().context("it has no device")?;
        let path = pci.unbind_file().context("it has no driver")?;
        fs::write(&path, pci.0).context(path)
    }

    /// Gives it back.
    pub fn bind(&self) -> Result<()> {
        match &self.backing {
            Backing::Kernel { pci, .. } => pci.bind_default("nvme"),
            Backing::Module(bound) => bound.bind(),
            _ => bail!("{} has no driver", self.who.name()),
        }
    }

    /// Gives the device back. Nothing may be mapped any more.
    pub fn tear_down(self) -> Result<()> {
        self.settle()?;
        match self.backing {
            Backing::Module(bound) => bound.unbind(),
            _ => Ok(()),
        }
    }

    pub fn open(&self) -> Result<Source> {
        Ok(match &self.backing {
            Backing::Kernel { pci, .. } => Source::kernel(pci.open_allocate()?),
            Backing::Module(bound) => Source::p2pmem(bound.open()?),
            Backing::Tmpfs(tmpfs) => Source::tmpfs(venue::file_with_memory(tmpfs, MUCH)?),
            Backing::Hugetlb => Source::hugetlb(),
            Backing::Anonymous => Source::anonymous(),
        })
    }

    /// Waits until all memory can be had again.
    pub fn settle(&self) -> Result<()> {
        self.settle_but(0)
    }

    /// The same for all but `used` bytes.
    pub fn settle_but(&self, used: usize) -> Result<()> {
        let (pci, idle) = match &self.backing {
            Backing::Kernel { pci, idle } => (*pci, *idle),
            Backing::Module(bound) => (bound.pci, bound.size()?),
            _ => return Ok(()),
        };
        // To zero much takes long.
        let deadline = poll::deadline() * (1 + (idle >> 30) as u32);
        let start = Instant::now();
        loop {
            let available = pci.number("p2pmem/available")? as usize;
            if available == idle - used {
                return Ok(());
            }
            ensure!(
                start.elapsed() < deadline,
                "{available} bytes of {} are available, not {}",
                pci.0,
                idle - used
            );
            sleep((start.elapsed() / PART).clamp(PAUSES.0, PAUSES.1));
        }
    }

    /// Waits until so much is unmapped, but pinned.
    pub fn wait_draining(&self, bytes: usize) -> Result<()> {
        match &self.backing {
            Backing::Module(bound) => bound.wait_draining(bytes),
            _ => bail!("{} knows no draining", self.who.name()),
        }
    }
}

/// The nvme driver has set the controller up: its queues have their memory. Returns what is left.
fn wait_for_controller(pci: Pci) -> Result<usize> {
    ensure!(
        pci.exists(),
        "the guest lacks the device {}: start it by `make bench`",
        pci.0
    );
    poll::until(&format!("nvme on {}", pci.0), || {
        let controllers = fs::read_dir(pci.path("nvme")).into_iter().flatten();
        Ok(controllers.flatten().any(|controller| {
            let state = fs::read_to_string(controller.path().join("state"));
            state.is_ok_and(|state| state == "live\n")
        }))
    })?;
    Ok(pci.number("p2pmem/available")? as usize)
}
