// SPDX-License-Identifier: GPL-2.0

//! The directory `p2pmem` of a bound device; README describes it for users.
//!
//! Names and meaning are those of the kernel's own p2pmem (`drivers/pci/p2pdma.c`), so that
//! programs made for it work unchanged.

use crate::{
    abstractions::sysfs::{Group, Mappable, Number},
    buffer::Buffer,
    pool::Pool,
};
use kernel::{
    device::{Bound, Device},
    prelude::*,
    sync::Arc,
};

const NUMBERS: [Number<Pool>; 4] = [
    Number {
        name: c"size",
        value: |pool| pool.account().size() as u64,
    },
    Number {
        name: c"available",
        value: |pool| pool.account().available() as u64,
    },
    Number {
        // Kernel drivers cannot find this memory through pci_p2pmem_find().
        name: c"published",
        value: |_| 0,
    },
    Number {
        name: c"draining",
        value: |pool| pool.account().draining() as u64,
    },
];

const ALLOCATE: Mappable<Pool, Buffer> = Mappable {
    name: c"allocate",
    mmap: |pool, vma| pool.map(vma),
};

/// The directory of one device.
pub(crate) type Files = Group<Pool, Buffer>;

/// Adds the directory. Dropping what is returned removes it and waits for calls in progress. May
/// sleep.
pub(crate) fn add(dev: &Device<Bound>, pool: Arc<Pool>) -> Result<Files> {
    // Programs look at the file's size before they map it.
    let size = pool.account().size();
    Group::new(dev, c"p2pmem", pool, &NUMBERS, &ALLOCATE, size)
}
