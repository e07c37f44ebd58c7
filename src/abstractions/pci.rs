// SPDX-License-Identifier: GPL-2.0

//! What `kernel::pci` lacks: BAR attributes, and memory and regions that are given back.
//!
//! C header: [`include/linux/pci.h`](srctree/include/linux/pci.h)

use crate::bindings as helpers;
use core::ops::Range;
use kernel::{
    bindings,
    device::{Bound, Core},
    error::to_result,
    io::Io,
    pci,
    prelude::*,
    str::CStr,
    sync::aref::ARef,
};

/// Number of standard BARs of a device (PCI Local Bus Specification 3.0, section 6.2.5).
pub(crate) const BARS: u32 = bindings::PCI_STD_NUM_BARS;

fn as_raw<Ctx: kernel::device::DeviceContext>(pdev: &pci::Device<Ctx>) -> *mut bindings::pci_dev {
    // CAST: `pci::Device` is a transparent wrapper of `Opaque<struct pci_dev>`.
    core::ptr::from_ref(pdev).cast_mut().cast()
}

/// What the PCI core knows of one BAR. Made by [`bar_info`].
#[derive(Clone, Copy)]
pub(crate) struct BarInfo {
    /// CPU physical address of the first byte.
    pub(crate) start: u64,
    /// Size in bytes; 0 if the device does not have this BAR.
    pub(crate) len: u64,
    flags: usize,
}

impl BarInfo {
    /// Whether this is a memory BAR rather than an I/O one.
    pub(crate) fn is_memory(&self) -> bool {
        self.flags & bindings::IORESOURCE_MEM as usize != 0
    }

    /// Whether reads have no side effects and writes may be merged.
    pub(crate) fn is_prefetchable(&self) -> bool {
        self.flags & bindings::IORESOURCE_PREFETCH as usize != 0
    }

    /// Whether the BAR has been given an address.
    pub(crate) fn is_assigned(&self) -> bool {
        self.start != 0 && self.flags & helpers::HELPER_IORESOURCE_UNSET == 0
    }
}

/// Returns what the PCI core knows of BAR `bar`, or `EINVAL` if there can be no such BAR. Any
/// context.
pub(crate) fn bar_info(pdev: &pci::Device, bar: u32) -> Result<BarInfo> {
    if bar >= BARS {
        return Err(EINVAL);
    }
    Ok(BarInfo {
        start: pdev.resource_start(bar)?,
        len: pdev.resource_len(bar)?,
        // SAFETY: `pdev` is a valid device, `bar` one of its standard BARs.
        flags: unsafe { helpers::helper_pci_resource_flags(as_raw(pdev), bar as i32) },
    })
}

/// Whether BAR `bar` is one that the PCI core knows nothing of although the device has it: the core
/// forgets a BAR that it found no address for. Tells it from the type bits in configuration space,
/// and so not of a 32-bit BAR that is not prefetchable, which has none set. Any context.
pub(crate) fn is_forgotten(pdev: &pci::Device<Bound>, bar: u32) -> bool {
    const BASE_ADDRESS: usize = 0x10;
    const IO: u32 = 0x1;
    const TYPE: u32 = 0xe;
    const WIDTH: u32 = 0x6;
    const WIDTH_64: u32 = 0x4;

    let config = pdev.config_space();
    let mut index = 0;
    while index < bar {
        // The upper half of a 64-bit BAR has no type bits.
        match config.try_read32(BASE_ADDRESS + 4 * index as usize) {
            Ok(low) if low & IO == 0 && low & WIDTH == WIDTH_64 => index += 2,
            _ => index += 1,
        }
    }
    let low = config.try_read32(BASE_ADDRESS + 4 * bar as usize);
    index == bar
        && bar_info(pdev, bar).is_ok_and(|info| info.len == 0)
        && low.is_ok_and(|low| low & IO == 0 && low & TYPE != 0)
}

/// Returns the address of the first byte of BAR `bar` as the device's bus sees it. Any context.
pub(crate) fn bus_address(pdev: &pci::Device<Bound>, bar: u32) -> Result<u64> {
    if bar >= BARS {
        return Err(EINVAL);
    }
    // SAFETY: `pdev` is a valid device, `bar` one of its standard BARs.
    Ok(unsafe { helpers::helper_pci_bus_address(as_raw(pdev), bar as i32) })
}

/// Memory decoding that is switched on, until this is dropped (`pci_enable_device_mem`).
///
/// # Invariants
///
/// Holds one count of the device's enable count.
pub(crate) struct EnabledMemory(ARef<pci::Device>);

impl EnabledMemory {
    /// Switches memory decoding on. May sleep.
    pub(crate) fn new(pdev: &pci::Device<Core<'_>>) -> Result<Self> {
        pdev.enable_device_mem()?;
        // INVARIANT: The call above took one count.
        Ok(Self(ARef::from(&**pdev)))
    }
}

impl Drop for EnabledMemory {
    fn drop(&mut self) {
        // SAFETY: The device is valid, and by the type invariant this holds an enable count.
        unsafe { bindings::pci_disable_device(as_raw(&self.0)) };
    }
}

/// Exclusive use of one memory BAR, without mapping it (`pci_request_region`).
///
/// # Invariants
///
/// The region of BAR `bar` of `pdev` has been requested and is released by `Drop` alone.
pub(crate) struct Region {
    pdev: ARef<pci::Device>,
    bar: u32,
    info: BarInfo,
}

impl Region {
    /// Requests BAR `bar`. `name` shows in `/proc/iomem`. `EBUSY` if another driver has it. May
    /// sleep.
    pub(crate) fn request(
        pdev: &pci::Device<Bound>,
        bar: u32,
        name: &'static CStr,
    ) -> Result<Self> {
        let info = bar_info(pdev, bar)?;
        // SAFETY: `pdev` is a valid device, `bar` one of its standard BARs, `name` lives forever.
        to_result(unsafe {
            bindings::pci_request_region(as_raw(pdev), bar as i32, name.as_char_ptr())
        })?;
        // INVARIANT: The region was requested just now.
        Ok(Self {
            pdev: ARef::from(&**pdev),
            bar,
            info,
        })
    }

    /// CPU physical addresses of the BAR.
    pub(crate) fn addresses(&self) -> Range<u64> {
        self.info.start..self.info.start + self.info.len
    }

    /// NUMA node of the device, or -1.
    pub(crate) fn node(&self) -> i32 {
        // SAFETY: `self.pdev` is a valid device, and so is the `struct device` in it.
        unsafe { helpers::helper_dev_to_node(&raw mut (*as_raw(&self.pdev)).dev) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the region is requested and nobody else releases it.
        unsafe { bindings::pci_release_region(as_raw(&self.pdev), self.bar as i32) };
    }
}

/// A device ID that no device has: device IDs are 16 bits wide.
///
/// For the table of a driver that binds by `driver_override` alone. The table must have an entry,
/// and one that could match would attract devices.
pub(crate) const NO_DEVICE: pci::DeviceId = pci::DeviceId::from_id(pci::Vendor::REDHAT, 0x1_0000);
