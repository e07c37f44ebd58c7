// SPDX-License-Identifier: GPL-2.0

//! The guest's NVMe disks, scratch disks, read and written with O_DIRECT.

use crate::device::{Pci, DISK};
use crate::poll;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// The block device of an NVMe controller's first namespace, once it has appeared.
pub fn block_device(pci: Pci) -> Result<PathBuf> {
    poll::until_some(&format!("block device of {}", pci.0), || {
        Ok(find(pci).filter(|path| path.exists()))
    })
}

fn find(pci: Pci) -> Option<PathBuf> {
    let controller = fs::read_dir(pci.path("nvme")).ok()?.next()?.ok()?;
    let prefix = controller.file_name().into_string().ok()?;
    let mut names = fs::read_dir(controller.path()).ok()?.flatten();
    names.find_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let rest = name.strip_prefix(&prefix)?;
        // nvme0n1, or nvme0c0n1 for one path to the multipath device nvme0n1.
        let namespace = &rest[rest.find('n')?..];
        Some(PathBuf::from(format!("/dev/{prefix}{namespace}")))
    })
}

/// The disk that no test takes from the nvme driver, past the page cache.
pub fn open() -> Result<File> {
    open_of(DISK)
}

/// The disk of a controller, past the page cache.
pub fn open_of(pci: Pci) -> Result<File> {
    let path = block_device(pci)?;
    File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(&path)
        .with_context(|| path.display().to_string())
}
