// SPDX-License-Identifier: GPL-2.0

//! What the kernel has in use of the things that a mapping and a bound device are made of.
//!
//! For what is forgotten but still referred to, which kmemleak cannot see (what is not referred to,
//! the module's own structures among that, is for kmemleak: `scripts/guest-leaks`). It needs a kernel that
//! gives each kind of object a slab cache of its own, as one with KASAN does.

use crate::poll;
use anyhow::{Context, Result};
use std::fs;

const CACHES: [&str; 4] = [
    "inode_cache",
    "kernfs_node_cache",
    "pool_workqueue",
    "vm_area_struct",
];
const VMAS: usize = CACHES.len() - 1;

/// Objects in use of each of [`CACHES`], and open files. (The kernel counts those itself, and their
/// cache now and then keeps some that are not in use.)
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objects([u64; CACHES.len() + 1]);

impl Objects {
    fn now() -> Result<Objects> {
        const FILE: &str = "/proc/slabinfo";

        // Without what is only kept in case that it is wanted again, and what waits to be freed.
        fs::write("/proc/sys/vm/drop_caches", "2").context("drop_caches")?;
        for name in CACHES {
            let path = format!("/sys/kernel/slab/{name}/shrink");
            fs::write(&path, "1").context(path)?;
        }
        let text = fs::read_to_string(FILE).context(FILE)?;
        let mut counts = [0u64; CACHES.len() + 1];
        for (name, count) in CACHES.iter().zip(&mut counts) {
            let mut lines = text.lines().map(str::split_whitespace);
            let mut line = lines
                .find_map(|mut words| (words.next() == Some(*name)).then_some(words))
                .with_context(|| format!("{name} in {FILE}"))?;
            *count = line.next().context(FILE)?.parse()?;
        }
        // This process grows, too.
        let own = fs::read_to_string("/proc/self/maps")?.lines().count();
        counts[VMAS] = counts[VMAS].saturating_sub(own as u64);
        counts[CACHES.len()] = open_files()?;
        Ok(Objects(counts))
    }

    /// What is in use for good: whatever is freed late has been. Looking takes some too, so that
    /// two looks are hardly ever the same: the least of each kind counts.
    pub fn settled() -> Result<Objects> {
        const LOOKS: usize = 5;
        let mut least = Objects::now()?;
        let mut since = 0;
        poll::until("an end of objects' being freed", || {
            let lower = least.lower(Objects::now()?);
            since = if lower == least { since + 1 } else { 0 };
            least = lower;
            Ok(since == LOOKS)
        })?;
        Ok(least)
    }

    /// The lower count of each kind.
    fn lower(self, other: Objects) -> Objects {
        Objects(std::array::from_fn(|kind| self.0[kind].min(other.0[kind])))
    }

    /// Waits until no more are in use than there were.
    pub fn wait_until_back(self) -> Result<()> {
        let mut least = Objects::now()?;
        poll::until("all objects' being freed", || {
            let is_back = least.lower(self) == least;
            least = least.lower(Objects::now()?);
            Ok(is_back)
        })
        .with_context(|| {
            let (were, are) = (self.0, least.0);
            format!("{CACHES:?} and files were {were:?} and are {are:?}")
        })
    }
}

/// Of all processes, and of none.
fn open_files() -> Result<u64> {
    const FILE: &str = "/proc/sys/fs/file-nr";
    let text = fs::read_to_string(FILE).context(FILE)?;
    let first = text.split_whitespace().next().context(FILE)?;
    first.parse().context(FILE)
}
