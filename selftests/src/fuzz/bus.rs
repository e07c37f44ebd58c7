// SPDX-License-Identifier: GPL-2.0

//! Random text into the files by which a driver is told what to do.
//!
//! A process of its own: it has none of the memory, so that an unbind in it waits for others only.

use super::tally::{Slot, Tally};
use crate::device::{Pci, SMALL, UNASSIGNED};
use crate::random::Random;
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::sleep;
use std::time::Duration;

pub const FILES: [&str; 5] = ["bind", "unbind", "new_id", "remove_id", "driver_override"];

/// Writes so many texts. Only if it may `rebind`, it binds and unbinds the device.
pub fn main(mut random: Random, pci: Pci, rebind: bool, tally: &Tally, slot: &Slot) -> i32 {
    for _ in 0..50 {
        let index = random.below(FILES.len());
        let text = text(&mut random, FILES[index], pci);
        // As the kernel compares it.
        let names_device = text.strip_suffix(b"\n").unwrap_or(&text) == pci.0.as_bytes();
        let binds = index < 2 && names_device;
        // An unbind takes what the others are at away from them: not all the time.
        if binds && !(rebind && random.chance(1, 20)) {
            continue;
        }
        slot.kind
            .store((super::calls::KINDS.len() + index) as u32, Relaxed);
        slot.calls.fetch_add(1, Relaxed);
        let directory = match FILES[index] {
            "driver_override" => pci.path(""),
            _ => Path::new("/sys/bus/pci/drivers/p2pmem").to_path_buf(),
        };
        match fs::write(directory.join(FILES[index]), text) {
            Ok(()) => tally.bus[index].succeeded.fetch_add(1, Relaxed),
            Err(_) => tally.bus[index].failed.fetch_add(1, Relaxed),
        };
        sleep(Duration::from_millis(5));
    }
    0
}

/// Something for a file: half of it what could be meant for it.
fn text(random: &mut Random, file: &str, pci: Pci) -> Vec<u8> {
    // 1af4:1110 is what the plain BARs have; the last one is too short, or no number.
    const IDS: &[&str] = &[
        "1af4 1110",
        "1af4 1110 1af4 1100 50000 ffffff 0",
        "1af4 1110 ffffffff ffffffff 0 0 1",
        "ffff fffe",
        "ffff",
        "zzzz yyyy",
        "",
    ];
    const DRIVERS: &[&str] = &["p2pmem", "p2pmem2", "p2p", "no-such-driver", ""];
    let mut text = match random.below(4) {
        0 => {
            let most = *random.choose(&[4, 64, 5000]);
            let len = random.below(most);
            (0..len).map(|_| random.next_u64() as u8).collect()
        }
        1 => random
            .choose(&[pci, SMALL, UNASSIGNED, Pci("0000:ff:1f.7")])
            .0
            .into(),
        _ => match file {
            "new_id" | "remove_id" => random.choose(IDS).as_bytes().to_vec(),
            "driver_override" => random.choose(DRIVERS).as_bytes().to_vec(),
            _ => pci.0.into(),
        },
    };
    match random.below(8) {
        0 => text.truncate(random.below(text.len() + 1)),
        1 => text.extend(b" and more"),
        2 => text.push(0),
        3..=5 => text.push(b'\n'),
        _ => {}
    }
    text
}
