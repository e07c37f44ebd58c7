// SPDX-License-Identifier: GPL-2.0

//! The controller memory buffer (CMB) of an NVMe controller.
//!
//! Since revision 1.4 of the specification it has to be enabled (CAP.CMBS, CMBMSC); older
//! controllers have it always on. `nvme_map_cmb` in `drivers/nvme/host/pci.c` is the relative.

use super::{
    nvme_regs::{self as regs, CapHigh, CmbLoc, CmbMsc, CmbSts, CmbSz, Place, Unfit},
    Unusable,
};
use crate::abstractions::pci::{self, is_forgotten};
use kernel::{
    device::Bound,
    io::Io,
    pci::{Bar, Device},
    prelude::*,
    time::{delay::fsleep, Delta},
};

/// How often [`Buffer::disable`] tries to map the registers, and the pause between.
const TRIES: u32 = 10;
const PAUSE: Delta = Delta::from_millis(100);

type Registers<'a> = Bar<'a, { regs::LEN }>;

/// Maps the registers. Only for as long as they are needed: the buffer may lie in the same BAR.
fn registers<'a>(pdev: &'a Device<Bound>) -> Result<Registers<'a>> {
    pdev.iomap_region_sized::<{ regs::LEN }>(0, c"p2pmem registers")
}

fn needs_enabling(registers: &Registers<'_>) -> bool {
    CapHigh(registers.read32(regs::CAP_HIGH)).cmb_needs_enabling()
}

/// The half with the enable bits last: they take effect on an address that is complete.
fn control(registers: &Registers<'_>, value: CmbMsc) {
    registers.write32(value.high(), regs::CMBMSC_HIGH);
    registers.write32(value.low(), regs::CMBMSC);
}

/// Finds the controller's buffer. May sleep.
pub(super) fn locate(pdev: &Device<Bound>) -> Result<Place, Unusable> {
    if is_forgotten(pdev, 0) {
        return Err(Unusable::NotAssigned(0));
    }
    let registers =
        registers(pdev).map_err(|err| Unusable::Kernel("map the NVMe registers", err))?;
    let enabling = needs_enabling(&registers);

    if enabling {
        control(&registers, CmbMsc::REGISTERS);
    }
    let place = regs::place(
        CmbLoc(registers.read32(regs::CMBLOC)),
        CmbSz(registers.read32(regs::CMBSZ)),
    );
    if enabling {
        control(&registers, CmbMsc::OFF);
    }
    place.map_err(|unfit| match unfit {
        Unfit::Missing => Unusable::NoBuffer,
        Unfit::NotForData => Unusable::BufferKind("not for data of commands (CMBSZ.RDS, WDS)"),
        Unfit::Reserved => Unusable::BufferKind("reserved value in CMBLOC or CMBSZ"),
    })
}

/// A buffer that answers.
pub(super) struct Buffer {
    enabled: bool,
}

impl Buffer {
    /// Makes the buffer answer at the addresses of its BAR. May sleep.
    pub(super) fn enable(pdev: &Device<Bound>, place: Place) -> Result<Self, Unusable> {
        let kernel = |err| Unusable::Kernel("enable the CMB", err);
        let registers = registers(pdev).map_err(kernel)?;

        if !needs_enabling(&registers) {
            return Ok(Self { enabled: false });
        }
        let base = pci::bus_address(pdev, place.bar).map_err(kernel)? + place.offset;
        let value = CmbMsc::memory_at(base).ok_or(kernel(EINVAL))?;
        control(&registers, value);
        if CmbSts(registers.read32(regs::CMBSTS)).address_refused() {
            control(&registers, CmbMsc::OFF);
            return Err(Unusable::BufferKind(
                "the controller refuses its address (CMBSTS)",
            ));
        }
        Ok(Self { enabled: true })
    }

    /// Puts the controller back into the state in which it came. May sleep.
    ///
    /// Mapping the registers takes memory, and unbind is not asked for a second time: it tries
    /// again for a second.
    pub(super) fn disable(&self, pdev: &Device<Bound>) -> Result {
        if !self.enabled {
            return Ok(());
        }
        let mut result = registers(pdev);
        for _ in 1..TRIES {
            if result.is_ok() {
                break;
            }
            fsleep(PAUSE);
            result = registers(pdev);
        }
        control(&result?, CmbMsc::OFF);
        Ok(())
    }
}
