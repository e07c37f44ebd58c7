// SPDX-License-Identifier: GPL-2.0

//! The controller registers that a controller memory buffer is described by.
//!
//! NVM Express Base Specification 2.0, section 3.1.3 (in 1.4: section 3.1). Pure: needs nothing
//! but `core`, so that the host's tests compile this very file.

/// Number of bytes of BAR 0 that hold the registers below.
pub(crate) const LEN: usize = 0x60;

/// Offset of CAP, controller capabilities, upper half.
pub(crate) const CAP_HIGH: usize = 0x04;
/// Offset of CMBLOC, controller memory buffer location.
pub(crate) const CMBLOC: usize = 0x38;
/// Offset of CMBSZ, controller memory buffer size.
pub(crate) const CMBSZ: usize = 0x3c;
/// Offset of CMBMSC, controller memory buffer memory space control, lower half.
pub(crate) const CMBMSC: usize = 0x50;
/// Offset of the upper half of CMBMSC.
pub(crate) const CMBMSC_HIGH: usize = 0x54;
/// Offset of CMBSTS, controller memory buffer status.
pub(crate) const CMBSTS: usize = 0x58;

/// Upper half of CAP.
#[derive(Clone, Copy)]
pub(crate) struct CapHigh(pub(crate) u32);

impl CapHigh {
    /// CMBS, bit 57 of CAP: CMBLOC and CMBSZ tell nothing until CMBMSC has enabled them.
    pub(crate) fn cmb_needs_enabling(self) -> bool {
        self.0 & (1 << (57 - 32)) != 0
    }
}

/// CMBLOC.
#[derive(Clone, Copy)]
pub(crate) struct CmbLoc(pub(crate) u32);

impl CmbLoc {
    /// BIR, bits 2:0: the BAR that the buffer lies in; `None` if the value is reserved.
    pub(crate) fn bar(self) -> Option<u32> {
        match self.0 & 0x7 {
            bar @ (0 | 2 | 3 | 4 | 5) => Some(bar),
            _ => None,
        }
    }

    /// OFST, bits 31:12: offset of the buffer in its BAR, in units of CMBSZ.SZU.
    pub(crate) fn offset(self) -> u32 {
        self.0 >> 12
    }
}

/// CMBSZ.
#[derive(Clone, Copy)]
pub(crate) struct CmbSz(pub(crate) u32);

impl CmbSz {
    /// RDS and WDS, bits 3 and 4: the buffer may hold data and metadata of commands that read and
    /// that write. Without both it is of no use to anybody but the controller.
    pub(crate) fn holds_data(self) -> bool {
        self.0 & 0x18 == 0x18
    }

    /// SZU, bits 11:8: the unit of size and offset in bytes; `None` if the value is reserved.
    pub(crate) fn unit(self) -> Option<u64> {
        match (self.0 >> 8) & 0xf {
            szu @ 0..=6 => Some(4096 << (4 * szu)),
            _ => None,
        }
    }

    /// SZ, bits 31:12: size of the buffer in units of SZU.
    pub(crate) fn size(self) -> u32 {
        self.0 >> 12
    }
}

/// CMBMSC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CmbMsc(u64);

impl CmbMsc {
    /// CRE, bit 0: CMBLOC and CMBSZ are valid.
    pub(crate) const REGISTERS: Self = Self(1);
    /// Nothing enabled, the state after a reset.
    pub(crate) const OFF: Self = Self(0);

    /// CRE and CMSE, bits 0 and 1, with CBA: the buffer answers, and the controller takes bus
    /// addresses from `base` on for it. `None` if `base` is not a multiple of 4 KiB.
    pub(crate) fn memory_at(base: u64) -> Option<Self> {
        (base % 4096 == 0).then_some(Self(base | 0x3))
    }

    /// Lower half, which holds the enable bits.
    pub(crate) fn low(self) -> u32 {
        self.0 as u32
    }

    /// Upper half.
    pub(crate) fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// CMBSTS.
#[derive(Clone, Copy)]
pub(crate) struct CmbSts(pub(crate) u32);

impl CmbSts {
    /// CBAI, bit 0: the controller refuses the address in CMBMSC.
    pub(crate) fn address_refused(self) -> bool {
        self.0 & 1 != 0
    }
}

/// Why a controller's buffer cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unfit {
    /// There is none.
    Missing,
    /// It is not for data.
    NotForData,
    /// A field has a reserved value.
    Reserved,
}

/// Where the buffer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// Its BAR.
    pub(crate) bar: u32,
    /// Offset in the BAR in bytes.
    pub(crate) offset: u64,
    /// Size in bytes, which may go beyond the BAR.
    pub(crate) size: u64,
}

/// Decodes the two registers that describe the buffer.
pub(crate) fn place(loc: CmbLoc, sz: CmbSz) -> Result<Place, Unfit> {
    if sz.size() == 0 {
        return Err(Unfit::Missing);
    }
    let (Some(unit), Some(bar)) = (sz.unit(), loc.bar()) else {
        return Err(Unfit::Reserved);
    };
    if !sz.holds_data() {
        return Err(Unfit::NotForData);
    }
    Ok(Place {
        bar,
        offset: u64::from(loc.offset()) * unit,
        size: u64::from(sz.size()) * unit,
    })
}
