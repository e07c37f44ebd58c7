// SPDX-License-Identifier: GPL-2.0

//! Where the kernel puts a mapping that asks for no address.

use super::memory::Memory;
use super::source::Source;
use crate::mapping::{Mapping, Request, HUGE, PAGE};
use crate::random::Random;
use anyhow::Result;

/// Lets the next mappings begin where they would in most processes: at no multiple of 2 MiB.
///
/// A mapping goes to the end of the highest free addresses that have room for it. Where that is
/// depends on what has been mapped before, and below a heap of glibc's, say, it is such a multiple.
pub struct Ceiling {
    _plugs: Vec<Mapping>,
}

impl Ceiling {
    /// For mappings of `len` bytes. Lasts until drop.
    pub fn new(
        memory: &Memory,
        source: &Source,
        len: usize,
        random: &mut Random,
    ) -> Result<Ceiling> {
        let mut plugs = Vec::new();
        loop {
            let place = source.reserve(len)?.range();
            memory.settle()?;
            if source.is_aligned() || !plugs.is_empty() && place.start % HUGE != 0 {
                return Ok(Ceiling { _plugs: plugs });
            }
            let plug = PAGE * (1 + random.below(HUGE / PAGE - 1));
            let request = Request {
                prot: libc::PROT_NONE,
                flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                at: Some(place.end - plug),
                ..Request::shared(plug)
            };
            plugs.push(request.map_no_file()?);
        }
    }
}
