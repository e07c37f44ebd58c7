// SPDX-License-Identifier: GPL-2.0

//! The module's own `src/region/nvme_regs.rs`, compiled here: bits and units as the NVM Express
//! Base Specification gives them.

#[path = "../../src/region/nvme_regs.rs"]
#[allow(dead_code)]
mod regs;

use proptest::prelude::*;
use regs::{place, CapHigh, CmbLoc, CmbMsc, CmbSts, CmbSz, Place, Unfit};

const RDS: u32 = 1 << 3;
const WDS: u32 = 1 << 4;

fn cmbsz(size: u32, unit: u32, flags: u32) -> CmbSz {
    CmbSz((size << 12) | (unit << 8) | flags)
}

#[test]
fn a_buffer_as_qemu_describes_it() {
    // 64 MiB in units of 1 MiB at the start of BAR 2; SQS, LISTS, RDS and WDS are set.
    assert_eq!(
        place(CmbLoc(2), CmbSz((64 << 12) | (2 << 8) | 0x1d)),
        Ok(Place {
            bar: 2,
            offset: 0,
            size: 64 << 20
        })
    );
}

#[test]
fn no_size_means_no_buffer() {
    assert_eq!(place(CmbLoc(0), CmbSz(0)), Err(Unfit::Missing));
    assert_eq!(
        place(CmbLoc(2), cmbsz(0, 2, RDS | WDS)),
        Err(Unfit::Missing)
    );
}

#[test]
fn a_buffer_must_hold_data_both_ways() {
    for flags in [0, RDS, WDS, 0x7, 0x7 | RDS, 0x7 | WDS] {
        assert_eq!(place(CmbLoc(2), cmbsz(1, 0, flags)), Err(Unfit::NotForData));
    }
    assert!(place(CmbLoc(2), cmbsz(1, 0, RDS | WDS)).is_ok());
}

#[test]
fn units_are_the_specification_s() {
    let units = [
        4 << 10,
        64 << 10,
        1 << 20,
        16 << 20,
        256 << 20,
        4 << 30,
        64u64 << 30,
    ];
    for (szu, unit) in (0..).zip(units) {
        assert_eq!(cmbsz(1, szu, 0).unit(), Some(unit));
    }
    for szu in 7..16 {
        assert_eq!(
            place(CmbLoc(2), cmbsz(1, szu, RDS | WDS)),
            Err(Unfit::Reserved)
        );
    }
}

#[test]
fn bar_one_and_above_five_are_reserved() {
    for bir in [1, 6, 7] {
        assert_eq!(
            place(CmbLoc(bir), cmbsz(1, 0, RDS | WDS)),
            Err(Unfit::Reserved)
        );
    }
}

#[test]
fn capability_and_status_bits() {
    for bit in 0..32 {
        assert_eq!(CapHigh(1 << bit).cmb_needs_enabling(), bit == 25);
        assert_eq!(CmbSts(1 << bit).address_refused(), bit == 0);
    }
}

proptest! {
    #[test]
    fn any_registers_decode_to_what_their_fields_say(loc in any::<u32>(), sz in any::<u32>()) {
        let bar = loc % 8;
        let unit = u128::from(4096u32) << (4 * ((sz >> 8) & 15));
        let offset = u128::from(loc >> 12) * unit;
        let size = u128::from(sz >> 12) * unit;
        let expected = if sz >> 12 == 0 {
            Err(Unfit::Missing)
        } else if (sz >> 8) & 15 > 6 || [1, 6, 7].contains(&bar) {
            Err(Unfit::Reserved)
        } else if sz & (RDS | WDS) != RDS | WDS {
            Err(Unfit::NotForData)
        } else {
            Ok(Place {
                bar,
                offset: offset.try_into().expect("20 bits of 64 GiB fit in 64"),
                size: size.try_into().expect("20 bits of 64 GiB fit in 64"),
            })
        };
        prop_assert_eq!(place(CmbLoc(loc), CmbSz(sz)), expected);
    }

    #[test]
    fn the_control_register_takes_page_aligned_addresses(
        base in prop_oneof![any::<u64>(), (any::<u64>(), 9u32..16).prop_map(|(base, bits)| (base >> bits) << bits)],
    ) {
        let value = CmbMsc::memory_at(base).map(|msc| (u64::from(msc.high()) << 32) | u64::from(msc.low()));
        prop_assert_eq!(value, (base % 4096 == 0).then_some(base | 3));
    }
}
