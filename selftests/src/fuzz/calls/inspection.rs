// SPDX-License-Identifier: GPL-2.0

//! Memory as the files in /proc show it.

use crate::fuzz::syscall::call;
use crate::fuzz::worker::Worker;
use crate::mapping::PAGE;
use nix::errno::Errno;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn open(name: &str, write: bool) -> nix::Result<File> {
    let path = format!("/proc/self/{name}");
    let mut options = File::options();
    options.read(true).write(write).open(path).map_err(errno)
}

/// Reads and writes that go past the protection of the pages.
pub fn proc_mem(w: &mut Worker) -> nix::Result<()> {
    let mem = open("mem", true)?;
    let fd = mem.as_raw_fd() as usize;
    let mut own = [0x77u8; 2 * PAGE];
    let address = w.arena.target(&mut w.random).0;
    let len = 1 + w.random.below(own.len());
    match w.random.chance(1, 2) {
        true => call(
            libc::SYS_pread64,
            [fd, own.as_mut_ptr() as usize, len, address],
        ),
        // Not more, which could be beyond the arena or the area.
        false => call(
            libc::SYS_pwrite64,
            [fd, own.as_ptr() as usize, 8, address & !7],
        ),
    }
    .map(drop)
}

pub fn proc_pagemap(w: &mut Worker) -> nix::Result<()> {
    let pagemap = open("pagemap", false)?;
    let pages = w.arena.pages(&mut w.random);
    let mut entries = vec![0u64; (pages.len() / PAGE).min(4096)];
    let (address, len) = (entries.as_mut_ptr() as usize, entries.len() * 8);
    let offset = pages.start / PAGE * 8;
    call(
        libc::SYS_pread64,
        [pagemap.as_raw_fd() as usize, address, len, offset],
    )
    .map(drop)
}

/// Looks for pages by what they are, and write-protects them or tries to.
pub fn pagemap_scan(w: &mut Worker) -> nix::Result<()> {
    const PAGEMAP_SCAN: usize = 0xc060_6610;
    let pagemap = open("pagemap", false)?;
    let (address, len) = w.arena.target(&mut w.random);
    let mut found = [[0u64; 3]; 32];
    let mut categories = || w.random.below(512) as u64;
    let (inverted, mask, any_of, shown) =
        (categories(), categories(), categories(), categories() | 1);
    let mut request = [
        96,
        *w.random.choose(&[0, 0, 1, 2, 3]),
        address as u64,
        address.wrapping_add(len) as u64,
        0,
        found.as_mut_ptr() as u64,
        *w.random.choose(&[0, 1, found.len() as u64]),
        w.random.below(64) as u64,
        if w.random.chance(1, 2) { inverted } else { 0 },
        if w.random.chance(1, 2) { mask } else { 0 },
        any_of,
        shown,
    ];
    let request = request.as_mut_ptr() as usize;
    call(
        libc::SYS_ioctl,
        [pagemap.as_raw_fd() as usize, PAGEMAP_SCAN, request],
    )
    .map(drop)
}

pub fn proc_text(w: &mut Worker) -> nix::Result<()> {
    let names = [
        "smaps",
        "smaps_rollup",
        "numa_maps",
        "maps",
        "status",
        "statm",
    ];
    let name = w.random.choose(&names);
    io::copy(&mut open(name, false)?, &mut io::sink()).map_err(errno)?;
    Ok(())
}

pub fn clear_refs(w: &mut Worker) -> nix::Result<()> {
    let what = *w.random.choose(&["1", "2", "3", "4", "5", "6", "x"]);
    fs::write("/proc/self/clear_refs", what).map_err(errno)
}

/// Opens the anonymous file behind a mapping by the only name that it has; never succeeds.
pub fn map_files(w: &mut Worker) -> nix::Result<()> {
    if w.arena.areas().is_empty() {
        return Err(Errno::ENOENT);
    }
    let area = w.random.choose(w.arena.areas());
    let name = format!("map_files/{:x}-{:x}", area.start, area.end);
    fs::read_link(format!("/proc/self/{name}")).map_err(errno)?;
    let write = w.random.chance(1, 2);
    open(&name, write).map(drop)
}
