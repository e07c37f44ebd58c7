// SPDX-License-Identifier: GPL-2.0

//! Which bytes of which BAR a device donates.

mod nvme;
mod nvme_regs;

use crate::{
    abstractions::pci::{bar_info, is_forgotten, EnabledMemory, BARS},
    layout::{self, Misfit},
};
use core::ops::Range;
use kernel::{
    device::{Bound, Core},
    fmt,
    pci::{self, Class},
    prelude::*,
};

/// What a device donates, and what has to be undone when it is taken back.
///
/// Fields are dropped in order.
pub(crate) struct Donation {
    /// The BAR.
    pub(crate) bar: u32,
    /// Offsets in the BAR, in bytes; whole chunks.
    pub(crate) range: Range<u64>,
    buffer: Option<nvme::Buffer>,
    _memory: EnabledMemory,
}

impl Donation {
    /// What the donated memory is, for the log.
    pub(crate) fn kind(&self) -> &'static str {
        match self.buffer {
            Some(_) => "controller memory buffer",
            None => "memory",
        }
    }

    /// Tells the device that its memory is no longer used. May sleep.
    pub(crate) fn withdraw(&self, pdev: &pci::Device<Bound>) -> Result {
        match &self.buffer {
            Some(buffer) => buffer.disable(pdev),
            None => Ok(()),
        }
    }
}

/// Value of the parameter `bar=` that leaves the choice to [`find`].
const AUTOMATIC: i32 = -1;

/// Why a device has nothing to donate.
pub(crate) enum Unusable {
    /// The parameter `bar=` names a BAR that cannot exist.
    NoSuchBar(i32),
    /// The device does not have this memory BAR.
    MissingBar(u32),
    /// The parameter names an I/O BAR.
    IoBar(u32),
    /// No memory BAR is prefetchable.
    NoMemoryBar,
    /// The BAR has no address.
    NotAssigned(u32),
    /// The BAR does not begin on a multiple of 2 MiB.
    NotAligned(u32, u64),
    /// There is no whole aligned 2 MiB in it: BAR, offset and size in bytes.
    TooSmall(u32, u64, u64),
    /// The controller has no memory buffer.
    NoBuffer,
    /// It has one that nobody else may use.
    BufferKind(&'static str),
    /// The kernel refused something.
    Kernel(&'static str, Error),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchBar(bar) => write!(f, "bar={bar} is out of range, use 0 to {}", BARS - 1),
            Self::MissingBar(bar) => {
                write!(f, "the device has no BAR {bar}, name another with bar=")
            }
            Self::IoBar(bar) => write!(f, "bar={bar} is an I/O BAR, name a memory BAR"),
            Self::NoMemoryBar => write!(f, "no prefetchable memory BAR, name one with bar="),
            Self::NotAssigned(bar) => {
                write!(f, "BAR {bar} is not assigned an address, see pci=realloc")
            }
            Self::NotAligned(bar, start) => {
                write!(f, "BAR {bar} at {start:#x} is not aligned to 2 MiB")
            }
            Self::TooSmall(bar, offset, size) => write!(
                f,
                "{} KiB at offset {offset:#x} of BAR {bar} hold no whole aligned 2 MiB",
                size / 1024
            ),
            Self::NoBuffer => write!(f, "the controller has no CMB (controller memory buffer)"),
            Self::BufferKind(why) => write!(f, "CMB of unsupported kind: {why}"),
            Self::Kernel(what, err) => write!(f, "cannot {what}: {err:?}"),
        }
    }
}

impl Unusable {
    /// The error that `probe` returns. To `ENODEV` the driver core adds no line of its own.
    pub(crate) fn to_error(&self) -> Error {
        match self {
            Self::Kernel(_, err) => *err,
            _ => ENODEV,
        }
    }
}

/// Switches the device's memory on and finds what it donates: BAR `choice` if that is not
/// [`AUTOMATIC`], else its controller memory buffer if it is an NVMe controller, else its largest
/// prefetchable memory BAR. May sleep.
pub(crate) fn find(pdev: &pci::Device<Core<'_>>, choice: i32) -> Result<Donation, Unusable> {
    let nvme = choice == AUTOMATIC && pdev.pci_class() == Class::STORAGE_EXPRESS;
    let chosen = if nvme {
        None
    } else {
        Some(choose(pdev, choice)?)
    };

    // The PCI core would say it too, but not what to do.
    for bar in 0..BARS {
        let info = bar_info(pdev, bar).map_err(|err| Unusable::Kernel("read BARs", err))?;
        if info.len > 0 && info.is_memory() && !info.is_assigned() {
            return Err(Unusable::NotAssigned(bar));
        }
    }
    let memory =
        EnabledMemory::new(pdev).map_err(|err| Unusable::Kernel("enable the device", err))?;

    let (bar, offset, size, buffer) = match chosen {
        Some((bar, size)) => (bar, 0, size, None),
        None => {
            let place = nvme::locate(pdev)?;
            (place.bar, place.offset, place.size, Some(place))
        }
    };
    let range = extent(pdev, bar, offset, size)?;
    let buffer = match buffer {
        Some(place) => Some(nvme::Buffer::enable(pdev, place)?),
        None => None,
    };
    Ok(Donation {
        bar,
        range,
        buffer,
        _memory: memory,
    })
}

/// Returns BAR and size: BAR `choice`, or the largest prefetchable one.
fn choose(pdev: &pci::Device<Bound>, choice: i32) -> Result<(u32, u64), Unusable> {
    if choice != AUTOMATIC {
        let bar = u32::try_from(choice).map_err(|_| Unusable::NoSuchBar(choice))?;
        let info = bar_info(pdev, bar).map_err(|_| Unusable::NoSuchBar(choice))?;
        return if info.len == 0 {
            Err(missing(pdev, bar))
        } else if !info.is_memory() {
            Err(Unusable::IoBar(bar))
        } else {
            Ok((bar, info.len))
        };
    }
    if let Some(bar) = (0..BARS).find(|&bar| is_forgotten(pdev, bar)) {
        return Err(Unusable::NotAssigned(bar));
    }
    (0..BARS)
        .filter_map(|bar| bar_info(pdev, bar).ok().map(|info| (bar, info)))
        .filter(|(_, info)| info.is_memory() && info.is_prefetchable() && info.len > 0)
        .max_by_key(|(_, info)| info.len)
        .map(|(bar, info)| (bar, info.len))
        .ok_or(Unusable::NoMemoryBar)
}

fn missing(pdev: &pci::Device<Bound>, bar: u32) -> Unusable {
    if is_forgotten(pdev, bar) {
        Unusable::NotAssigned(bar)
    } else {
        Unusable::MissingBar(bar)
    }
}

/// Checks the BAR and returns the whole chunks of the extent in it.
fn extent(
    pdev: &pci::Device<Bound>,
    bar: u32,
    offset: u64,
    size: u64,
) -> Result<Range<u64>, Unusable> {
    let info = bar_info(pdev, bar).map_err(|err| Unusable::Kernel("read BARs", err))?;
    if !info.is_memory() || info.len == 0 {
        return Err(missing(pdev, bar));
    }
    layout::whole_chunks(info.start..info.start + info.len, offset, size).map_err(|misfit| {
        match misfit {
            Misfit::Unaligned => Unusable::NotAligned(bar, info.start),
            Misfit::TooSmall => Unusable::TooSmall(bar, offset, size),
        }
    })
}
