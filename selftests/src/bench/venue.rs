// SPDX-License-Identifier: GPL-2.0

//! What the machine has to provide for the whole run, taken before its memory fragments.

use crate::mapping::HUGE;
use crate::setting::{self, Setting};
use anyhow::{ensure, Context, Result};
use nix::fcntl::{fallocate, FallocateFlags};
use nix::mount::{mount, umount2, MntFlags, MsFlags};
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Hugetlb pages, until drop.
fn reserve_huge_pages(bytes: usize) -> Result<Setting> {
    let wanted = bytes / HUGE;
    let setting = Setting::set(NR_HUGEPAGES, &wanted.to_string())?;
    let got: usize = setting::value(NR_HUGEPAGES)?.parse()?;
    ensure!(got >= wanted, "{got} hugetlb pages instead of {wanted}");
    Ok(setting)
}

/// A mounted tmpfs with huge=always, until drop.
struct Tmpfs {
    directory: PathBuf,
}

impl Tmpfs {
    fn mount() -> Result<Tmpfs> {
        let directory = std::env::temp_dir().join(format!("p2pmem-bench-{}", std::process::id()));
        fs::create_dir(&directory).with_context(|| directory.display().to_string())?;
        // From here on drop removes it.
        let tmpfs = Tmpfs { directory };
        mount(
            Some("tmpfs"),
            &tmpfs.directory,
            Some("tmpfs"),
            MsFlags::empty(),
            Some("huge=always"),
        )
        .context("mounting a tmpfs")?;
        Ok(tmpfs)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&self.directory);
    }
}

/// All of it.
pub struct Venue {
    _huge_pages: Setting,
    tmpfs: Tmpfs,
}

impl Venue {
    /// With hugetlb pages for so many bytes.
    pub fn new(bytes: usize) -> Result<Venue> {
        Ok(Venue {
            _huge_pages: reserve_huge_pages(bytes)?,
            tmpfs: Tmpfs::mount()?,
        })
    }

    pub fn tmpfs(&self) -> &Path {
        &self.tmpfs.directory
    }
}

/// A file without a name, of a tmpfs, that has its memory already.
pub fn file_with_memory(tmpfs: &Path, bytes: usize) -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_TMPFILE)
        .open(tmpfs)
        .with_context(|| format!("a file in {}", tmpfs.display()))?;
    fallocate(&file, FallocateFlags::empty(), 0, bytes as i64).context("memory of a tmpfs")?;
    Ok(file)
}
