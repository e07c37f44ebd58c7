// SPDX-License-Identifier: GPL-2.0

//! No byte that one owner wrote is ever readable by the next.

use super::{LEN, OURS, THEIRS};
use crate::device::{Bound, Pci, CMB, LEGACY_CMB, PLAIN};
use crate::mapping::{Mapping, HUGE, PAGE};
use crate::poll;
use crate::verbs::{Loopback, Rdma};
use anyhow::Result;

/// What the device held when it was bound counts as another owner's.
fn check_contents_of_before(pci: Pci) -> Result<()> {
    let bound = Bound::to_be(pci)?;
    pci.with_raw_bar(2, |bar| {
        let bar = owners_view(pci, bar);
        bar.fill(THEIRS);
        bar.check(THEIRS)
    })?;
    bound.bind()?;
    owners_view(pci, bound.map(bound.size()?)?).check_zero()
}

/// All of a plain BAR, the ends of each page of a controller memory buffer.
fn owners_view(pci: Pci, mapping: Mapping) -> Mapping {
    match pci {
        PLAIN => mapping,
        _ => mapping.sparsely(),
    }
}

pub fn contents_of_before_binding_are_not_seen() -> Result<()> {
    check_contents_of_before(PLAIN)
}

pub fn contents_of_a_cmb_before_binding_are_not_seen() -> Result<()> {
    check_contents_of_before(LEGACY_CMB)
}

/// A part of it, mapped in small pieces, first.
pub fn contents_of_before_binding_are_not_seen_in_small_mappings() -> Result<()> {
    let bound = Bound::to_be(PLAIN)?;
    PLAIN.with_raw_bar(2, |bar| {
        bar.fill(THEIRS);
        Ok(())
    })?;
    bound.bind()?;
    check_all_zero_in_pieces(&bound)
}

/// All of the memory in mappings of all kinds of lengths.
fn check_all_zero_in_pieces(bound: &Bound) -> Result<()> {
    let lens = [PAGE, 3 * PAGE, HUGE / 2, HUGE, HUGE + PAGE, 4 * HUGE - PAGE];
    let mut pieces = Vec::new();
    for len in lens.into_iter().cycle() {
        let available = bound.available()?;
        if available == 0 {
            break;
        }
        let piece = bound.map(len.min(available))?;
        piece.check_zero()?;
        pieces.push(piece);
    }
    Ok(())
}

pub fn contents_of_the_last_owner_are_not_seen() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    for _ in 0..2 {
        // By large blocks, then again by small ones, and back.
        bound.map(size)?.fill(OURS);
        bound.wait_all_free()?;
        check_all_zero_in_pieces(&bound)?;
        bound.wait_all_free()?;

        let pieces: Vec<Mapping> = (0..size / (HUGE / 2))
            .map(|_| bound.map(HUGE / 2))
            .collect::<Result<_>>()?;
        pieces.iter().for_each(|piece| piece.fill(THEIRS));
        drop(pieces);
        bound.wait_all_free()?;
        bound.map(size)?.check_zero()?;
        bound.wait_all_free()?;
    }
    Ok(())
}

pub fn contents_of_the_last_owner_of_a_cmb_are_not_seen() -> Result<()> {
    let bound = Bound::new(CMB)?;
    // All but a little, so that the next owner gets some of it, wherever it looks first.
    bound.map(bound.size()? - HUGE)?.sparsely().fill(OURS);
    bound.wait_all_free()?;
    bound.map(bound.size()?)?.sparsely().check_zero()?;
    Ok(())
}

/// No sooner is it available again than it is zero: no waiting in between.
pub fn contents_are_not_seen_however_soon_it_is_mapped_again() -> Result<()> {
    let bound = Bound::new(PLAIN)?;
    let size = bound.size()?;
    for _ in 0..8 {
        bound.map(size)?.fill(OURS);
        // Whatever can be had of it at each moment, until that was all.
        let mut pieces = Vec::new();
        let mut had = 0;
        poll::until("all of it is mapped again", || {
            let available = bound.available()?;
            if available > 0 {
                let piece = bound.map(available)?;
                piece.check_zero()?;
                pieces.push(piece);
                had += available;
            }
            Ok(had == size)
        })?;
        drop(pieces);
        bound.wait_all_free()?;
    }
    Ok(())
}

/// A device may go on writing after munmap, through a registration; that is zeroed too.
pub fn contents_written_through_a_pin_after_munmap_are_not_seen() -> Result<()> {
    let rdma = Rdma::open()?;
    let loopback = Loopback::new(&rdma)?;
    let source = Mapping::anonymous(LEN)?;
    source.fill(THEIRS);
    let source_region = rdma.register(&source)?;

    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    let region = rdma.register(&mapping)?;
    drop(mapping);
    bound.wait_draining(LEN)?;
    loopback.write((&source_region, 0..LEN), (&region, 0..LEN))?;
    drop(region);
    bound.wait_all_free()?;
    bound.map(bound.size()?)?.check_zero()?;
    Ok(())
}

/// What owners wrote is gone before the device is another driver's.
fn check_gone_after_unbind(pci: Pci, unmap_first: bool) -> Result<()> {
    let bound = Bound::new(pci)?;
    let mapping = owners_view(pci, bound.map(bound.size()?)?);
    mapping.fill(OURS);
    let mapping = match unmap_first {
        true => {
            drop(mapping);
            None
        }
        false => Some(mapping),
    };
    bound.unbind()?;
    pci.with_raw_bar(2, |bar| owners_view(pci, bar).check_zero())?;
    drop(mapping);
    Ok(())
}

pub fn contents_are_gone_after_unbind() -> Result<()> {
    check_gone_after_unbind(PLAIN, true)
}

pub fn contents_are_gone_after_unbind_of_mapped_memory() -> Result<()> {
    check_gone_after_unbind(PLAIN, false)
}

pub fn contents_of_a_cmb_are_gone_after_unbind() -> Result<()> {
    check_gone_after_unbind(LEGACY_CMB, false)
}

/// Also what a pin wrote while unbind waited for it.
pub fn contents_written_through_a_pin_during_unbind_are_gone_after_it() -> Result<()> {
    let rdma = Rdma::open()?;
    let loopback = Loopback::new(&rdma)?;
    let source = Mapping::anonymous(LEN)?;
    source.fill(THEIRS);
    let source_region = rdma.register(&source)?;

    let bound = Bound::new(PLAIN)?;
    let mapping = bound.map(LEN)?;
    let region = rdma.register(&mapping)?;
    let mut log = crate::kmsg::Log::from_now()?;
    let mut unbind = bound.begin_unbind()?;
    log.wait_for(PLAIN.0, "unbind waits", 1)?;
    loopback.write((&source_region, 0..LEN), (&region, 0..LEN))?;
    drop(region);
    assert!(unbind.wait()?.success());
    PLAIN.with_raw_bar(2, |bar| bar.check_zero())?;
    drop(mapping);
    Ok(())
}
