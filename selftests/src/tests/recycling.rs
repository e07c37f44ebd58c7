// SPDX-License-Identifier: GPL-2.0

//! What is done to a block's pages each time that it is used, and what only once.

use super::OURS;
use crate::device::{Bound, PLAIN};
use crate::kprobe::Calls;
use crate::mapping::{free_address, Mapping, HUGE, PAGE};
use anyhow::Result;

/// What makes a folio of pages, one by one.
const MAKE: &str = "zone_device_page_init";

/// Mappings of one block and of several, by length and what their addresses have beyond a multiple
/// of 2 MiB, and how many blocks that is.
const SHAPES: &[(usize, usize, u64)] = &[
    (PAGE, 0, 1),
    (4 * PAGE, 0, 1),
    (7 * PAGE, 0, 3),
    (HUGE / 2, 0, 1),
    (HUGE, 0, 1),
    (HUGE, PAGE, 1),
    (3 * HUGE + 3 * PAGE, 0, 5),
];

fn map(bound: &Bound, (len, misalignment, _): (usize, usize, u64)) -> Result<Mapping> {
    bound.map_at(len, free_address(len, misalignment)?)
}

/// How many folios it takes to map and use that, and to give it back.
fn made(bound: &Bound, shape: (usize, usize, u64)) -> Result<u64> {
    let available = bound.available()?;
    let calls = Calls::of(MAKE)?;
    let mapping = map(bound, shape)?;
    mapping.check_zero()?;
    mapping.fill(OURS);
    mapping.check(OURS)?;
    drop(mapping);
    bound.wait_available(available)?;
    calls.count()
}

/// The next who gets a block that has been a folio of its order takes it as it is.
pub fn a_block_that_keeps_its_order_is_made_a_folio_once() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    for &shape in SHAPES {
        bound.unbind()?;
        bound.bind()?;
        assert_eq!(made(&bound, shape)?, shape.2, "{shape:x?}, never used");
        for _ in 0..3 {
            assert_eq!(made(&bound, shape)?, 0, "{shape:x?}, again");
        }
    }
    Ok(())
}

/// Pages that were a part of another folio meanwhile are not, whether that was larger or smaller.
pub fn a_block_whose_pages_had_another_order_is_made_again() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let (page, huge) = ((PAGE, 0, 1), (HUGE, 0, 1));
    for shape in [page, huge, page, huge] {
        assert_eq!(made(&bound, shape)?, 1, "{shape:x?}");
        assert_eq!(made(&bound, shape)?, 0, "{shape:x?}, again");
    }
    // A block in the middle of a larger one, whose other pages are left alone.
    let quarter = (HUGE / 4, 0, 1);
    assert_eq!(made(&bound, quarter)?, 1);
    let first = map(&bound, page)?;
    assert_eq!(made(&bound, (16 * PAGE, 0, 1))?, 1);
    assert_eq!(made(&bound, (16 * PAGE, 0, 1))?, 0);
    drop(first);
    bound.wait_all_free()?;
    assert_eq!(
        made(&bound, page)?,
        0,
        "nobody has made anything else of it"
    );
    assert_eq!(made(&bound, quarter)?, 1);
    assert_eq!(made(&bound, (16 * PAGE, 0, 1))?, 1);
    Ok(())
}
