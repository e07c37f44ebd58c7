// SPDX-License-Identifier: GPL-2.0

//! A second thread that touches memory while the first maps, moves and unmaps it.

use super::arena::Arena;
use super::probe;
use crate::random::Random;
use std::thread;
use std::time::Duration;

/// Touches random words of the arena until the process ends.
///
/// It changes nothing: between two calls of the other thread the memory may be anybody's. It does
/// not allocate either, so that a fork in the other thread finds no lock taken.
pub fn start(arena: &Arena, mut random: Random) {
    let range = arena.range();
    thread::spawn(move || loop {
        // Near one place for a while: small mappings would hardly be hit otherwise.
        let near = range.start + random.below(range.len()) / 8 * 8;
        for _ in 0..64 {
            let address = (near + random.below(1 << 16) / 8 * 8).min(range.end - 8);
            match random.chance(1, 2) {
                true => probe::load(address).map(drop),
                false => probe::add_zero(address),
            };
        }
        thread::sleep(Duration::from_micros(500));
    });
}
