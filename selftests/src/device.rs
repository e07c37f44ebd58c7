// SPDX-License-Identifier: GPL-2.0

//! The guest's PCI devices, and binding them to p2pmem and back.

use crate::harness;
use crate::helper::Helper;
use crate::kmsg::Log;
use crate::mapping::{Mapping, Request};
use crate::poll;
use anyhow::{bail, ensure, Context, Result};
use std::fs::{self, File};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// A PCI device by its address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Pci(pub &'static str);

/// NVMe controller with a CMB of 64 MiB, registers as of NVMe 1.4.
pub const CMB: Pci = Pci("0000:00:10.0");
/// NVMe controller with a disk and without a CMB.
pub const DISK: Pci = Pci("0000:00:11.0");
/// A plain, prefetchable BAR 2 of 64 MiB.
pub const PLAIN: Pci = Pci("0000:00:12.0");
/// NVMe controller with a CMB of 64 MiB that stays with the nvme driver.
pub const CONTROL: Pci = Pci("0000:00:13.0");
/// NVMe controller with a CMB of 16 MiB, registers as before NVMe 1.4.
pub const LEGACY_CMB: Pci = Pci("0000:00:14.0");
/// A plain BAR 2 of only 1 MiB.
pub const SMALL: Pci = Pci("0000:00:15.0");
/// BAR 0 small memory, BAR 1 I/O, BAR 2 prefetchable memory of 4 MiB.
pub const MIXED: Pci = Pci("0000:00:16.0");
/// Has a large memory BAR that got no address.
pub const UNASSIGNED: Pci = Pci("0000:00:17.0");
/// What is in the slot of [`crate::hotplug`]: an NVMe controller with a disk and a CMB of 16 MiB.
/// Behind the first bridge, so the bus is always this one.
pub const HOT: Pci = Pci("0000:01:00.0");
/// A plain, prefetchable BAR 2 of 256 MiB.
pub const LARGE: Pci = Pci("0000:00:1a.0");

/// NVMe controller with a CMB of 256 MiB, which takes long to be zeroed.
pub const LARGE_CMB: Pci = Pci("0000:00:0f.0");
/// A plain, prefetchable BAR 2 of 1 GiB.
pub const GIB_BAR: Pci = Pci("0000:00:0e.0");

/// NVMe register CMBMSC, controller memory buffer memory space control, in BAR 0.
pub const CMBMSC: usize = 0x50;

/// One line of a device's `resource` file.
pub struct Bar {
    pub range: RangeInclusive<u64>,
    flags: u64,
}

impl Bar {
    const IO: u64 = 0x100;
    const MEMORY: u64 = 0x200;
    const PREFETCHABLE: u64 = 0x2000;
    const UNSET: u64 = 0x2000_0000;

    fn parse(line: &str) -> Option<Bar> {
        let mut numbers = line
            .split_whitespace()
            .map(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        let (start, end) = (numbers.next()??, numbers.next()??);
        Some(Bar {
            range: start..=end,
            flags: numbers.next()??,
        })
    }

    pub fn len(&self) -> u64 {
        match self.flags {
            0 => 0,
            _ => self.range.end() - self.range.start() + 1,
        }
    }

    pub fn is_io(&self) -> bool {
        self.flags & Self::IO != 0
    }

    pub fn is_memory(&self) -> bool {
        self.flags & Self::MEMORY != 0
    }

    pub fn is_prefetchable(&self) -> bool {
        self.flags & Self::PREFETCHABLE != 0
    }

    /// Linux found it, but could not give it an address.
    pub fn is_unassigned(&self) -> bool {
        self.is_memory() && (self.flags & Self::UNSET != 0 || *self.range.start() == 0)
    }
}

impl Pci {
    pub fn path(self, name: &str) -> PathBuf {
        PathBuf::from("/sys/bus/pci/devices")
            .join(self.0)
            .join(name)
    }

    pub fn exists(self) -> bool {
        self.path("").exists()
    }

    pub fn write(self, name: &str, value: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, value).with_context(|| format!("`{value}` to {}", path.display()))
    }

    /// The name of the driver that it is bound to.
    pub fn driver(self) -> Option<String> {
        let link = fs::read_link(self.path("driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// Opens the file that is mapped to allocate memory, whoever's driver offers it.
    pub fn open_allocate(self) -> Result<File> {
        let path = self.path("p2pmem/allocate");
        let file = File::options().read(true).write(true).open(&path);
        file.with_context(|| path.display().to_string())
    }

    /// A decimal number from a file of the device.
    pub fn number(self, name: &str) -> Result<u64> {
        let path = self.path(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let number = text.trim_end().parse();
        number.with_context(|| format!("{}: `{text}`", path.display()))
    }

    pub fn bar(self, number: usize) -> Result<Bar> {
        let path = self.path("resource");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let line = text.lines().nth(number);
        line.and_then(Bar::parse)
            .with_context(|| format!("line {number} of {}", path.display()))
    }

    /// Which driver may have it; none in particular when `None`.
    pub fn set_override(self, driver: Option<&str>) -> Result<()> {
        self.write("driver_override", &format!("{}\n", driver.unwrap_or("")))
    }

    /// Lets the kernel look for a driver. Whether it found one is to be read from
    /// [`Pci::driver`]: the write says little.
    pub fn probe(self) {
        let _ = fs::write("/sys/bus/pci/drivers_probe", self.0);
    }

    /// Takes it from whatever driver it has. Done by another process, for it may hang.
    pub fn unbind(self) -> Result<()> {
        match self.begin_unbind()? {
            Some(mut helper) => {
                let status = helper
                    .wait()
                    .with_context(|| format!("unbind {}", self.0))?;
                ensure!(status.success(), "unbind {}: {status}", self.0);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn begin_unbind(self) -> Result<Option<Helper>> {
        let Some(path) = self.unbind_file() else {
            return Ok(None);
        };
        Helper::write(&path, self.0).map(Some)
    }

    /// Where its address is written to take it from its driver, if it has one.
    pub fn unbind_file(self) -> Option<String> {
        let driver = self.driver()?;
        Some(format!("/sys/bus/pci/drivers/{driver}/unbind"))
    }

    /// Gives it back to the driver that the kernel would choose.
    pub fn bind_default(self, driver: &str) -> Result<()> {
        self.set_override(None)?;
        self.probe();
        ensure!(
            self.driver().as_deref() == Some(driver),
            "{} did not go to {driver} but to {:?}",
            self.0,
            self.driver()
        );
        Ok(())
    }

    /// Maps a BAR as the device has it, past all drivers; the device must have none.
    pub fn with_raw_bar(self, bar: usize, body: impl FnOnce(Mapping) -> Result<()>) -> Result<()> {
        let len = self.bar(bar)?.len() as usize;
        self.write("enable", "1")?;
        let result = (|| {
            let file = File::options()
                .read(true)
                .write(true)
                .open(self.path(&format!("resource{bar}")))?;
            body(Request::shared(len).map(&file).context("mapping a BAR")?)
        })();
        self.write("enable", "0")?;
        result
    }
}

/// A device bound to p2pmem; on drop all its memory must be back, and it goes back to the
/// driver that had it.
pub struct Bound {
    pub pci: Pci,
    home: Option<String>,
}

impl Bound {
    pub fn new(pci: Pci) -> Result<Bound> {
        let bound = Bound::to_be(pci)?;
        bound.bind()?;
        Ok(bound)
    }

    /// Takes the device from its driver, but does not bind it yet.
    pub fn to_be(pci: Pci) -> Result<Bound> {
        ensure!(pci.exists(), "the guest lacks the device {}", pci.0);
        let home = pci.driver();
        ensure!(
            home.as_deref() != Some("p2pmem"),
            "{} is still bound to p2pmem by an earlier test",
            pci.0
        );
        pci.unbind()?;
        // From here on drop restores.
        let bound = Bound { pci, home };
        pci.set_override(Some("p2pmem"))?;
        Ok(bound)
    }

    /// Binds it (again).
    pub fn bind(&self) -> Result<()> {
        let mut log = Log::from_now()?;
        self.pci.set_override(Some("p2pmem"))?;
        self.pci.probe();
        if !self.is_bound() {
            let lines = log.of_device(self.pci.0)?;
            bail!("{} did not bind to p2pmem: {lines:?}", self.pci.0);
        }
        Ok(())
    }

    pub fn is_bound(&self) -> bool {
        self.pci.driver().as_deref() == Some("p2pmem")
    }

    /// Unbinds it and waits for that.
    pub fn unbind(&self) -> Result<()> {
        ensure!(self.is_bound(), "{} is not bound", self.pci.0);
        self.pci.unbind()?;
        ensure!(!self.is_bound(), "{} is bound after unbind", self.pci.0);
        Ok(())
    }

    /// Starts to unbind it, in another process.
    pub fn begin_unbind(&self) -> Result<Helper> {
        let helper = self.pci.begin_unbind()?;
        helper.with_context(|| format!("{} is not bound", self.pci.0))
    }

    pub fn size(&self) -> Result<usize> {
        Ok(self.pci.number("p2pmem/size")? as usize)
    }

    pub fn available(&self) -> Result<usize> {
        Ok(self.pci.number("p2pmem/available")? as usize)
    }

    pub fn draining(&self) -> Result<usize> {
        Ok(self.pci.number("p2pmem/draining")? as usize)
    }

    /// `p2pmem/allocate`, open for reading and writing.
    pub fn open(&self) -> Result<File> {
        self.pci.open_allocate()
    }

    /// New memory of the device, mapped as the ABI asks for.
    pub fn map(&self, len: usize) -> Result<Mapping> {
        self.request(Request::shared(len), len)
    }

    /// The same at that address.
    pub fn map_at(&self, len: usize, at: usize) -> Result<Mapping> {
        let request = Request {
            at: Some(at),
            ..Request::shared(len)
        };
        self.request(request, len)
    }

    fn request(&self, request: Request, len: usize) -> Result<Mapping> {
        let mapping = request.map(&self.open()?);
        mapping.with_context(|| format!("mapping {len:#x} bytes of {}", self.pci.0))
    }

    /// Waits until `available` is that; memory comes back when a worker has zeroed it.
    pub fn wait_available(&self, expected: usize) -> Result<()> {
        let what = format!("{expected:#x} bytes available on {}", self.pci.0);
        poll::until(&what, || Ok(self.available()? == expected))
            .with_context(|| format!("available is {:?}", self.available()))
    }

    /// Waits until `draining` is that.
    pub fn wait_draining(&self, expected: usize) -> Result<()> {
        let what = format!("{expected:#x} bytes draining on {}", self.pci.0);
        poll::until(&what, || Ok(self.draining()? == expected))
            .with_context(|| format!("draining is {:?}", self.draining()))
    }

    /// Waits until nobody has any of the memory.
    pub fn wait_all_free(&self) -> Result<()> {
        self.wait_available(self.size()?)?;
        self.wait_draining(0)
    }

    fn restore(&self) -> Result<()> {
        if !self.pci.exists() {
            return Ok(());
        }
        if self.pci.driver() != self.home {
            self.pci.unbind()?;
        }
        self.pci.set_override(None)?;
        match &self.home {
            Some(driver) if self.pci.driver().is_none() => self.pci.bind_default(driver),
            _ => Ok(()),
        }
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.is_bound() && self.pci.path("p2pmem").exists() {
            harness::note_problem(self.wait_all_free());
        }
        harness::note_problem(self.restore());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_line_is_a_bar() {
        let line = "0x0000000800000000 0x0000000803ffffff 0x000000000014220c";
        let bar = Bar::parse(line).unwrap();
        assert_eq!(bar.len(), 64 << 20);
        assert!(bar.is_memory() && bar.is_prefetchable());
        assert!(!bar.is_io() && !bar.is_unassigned());
    }

    #[test]
    fn a_resource_without_address_is_unassigned() {
        let line = "0x0000000000000000 0x0000000003ffffff 0x000000002014220c";
        let bar = Bar::parse(line).unwrap();
        assert_eq!(bar.len(), 64 << 20);
        assert!(bar.is_unassigned());
    }
}
