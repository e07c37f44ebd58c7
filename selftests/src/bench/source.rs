// SPDX-License-Identifier: GPL-2.0

//! Where a thread gets a contestant's memory from.

use crate::mapping::{Mapping, Request, HUGE};
use crate::pagemap;
use anyhow::{ensure, Result};
use std::fs::File;
use std::ops::Range;

/// How all of a mapping's page table entries are made at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Populate {
    /// mmap does that, asked or not.
    ByItself,
    ByFlag,
    /// After the kernel has been told to make no huge ones.
    AsSmallPages,
}

/// Which entries those must be, for the measurement to be of what it says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entries {
    Small,
    Huge,
    /// Huge wherever a whole aligned 2 MiB is mapped.
    Suitable,
}

/// Something to map. Threads need one each: mmap calls on one open file of sysfs wait for
/// each other.
pub struct Source {
    file: Option<File>,
    flags: i32,
    populate: Populate,
    entries: Entries,
    aligned: bool,
}

impl Source {
    /// The kernel's own `p2pmem/allocate`.
    pub fn kernel(allocate: File) -> Source {
        Source {
            file: Some(allocate),
            flags: libc::MAP_SHARED,
            populate: Populate::ByItself,
            entries: Entries::Small,
            aligned: false,
        }
    }

    /// p2pmem's.
    pub fn p2pmem(allocate: File) -> Source {
        Source {
            file: Some(allocate),
            flags: libc::MAP_SHARED,
            populate: Populate::ByFlag,
            entries: Entries::Suitable,
            aligned: false,
        }
    }

    pub fn tmpfs(file: File) -> Source {
        Source {
            file: Some(file),
            flags: libc::MAP_SHARED,
            populate: Populate::ByFlag,
            entries: Entries::Huge,
            aligned: true,
        }
    }

    pub fn hugetlb() -> Source {
        Source {
            file: None,
            flags: libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB,
            populate: Populate::ByFlag,
            entries: Entries::Huge,
            aligned: true,
        }
    }

    pub fn anonymous() -> Source {
        Source {
            file: None,
            flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            populate: Populate::AsSmallPages,
            entries: Entries::Small,
            aligned: true,
        }
    }

    /// New memory with all its page table entries, wherever the kernel puts it.
    pub fn map(&self, len: usize) -> Result<Mapping> {
        self.map_at(len, None)
    }

    /// The same at an address that is free, if there is one.
    pub fn map_at(&self, len: usize, at: Option<usize>) -> Result<Mapping> {
        let populate = match self.populate {
            Populate::ByFlag => libc::MAP_POPULATE,
            Populate::ByItself | Populate::AsSmallPages => 0,
        };
        let mapping = self.call(len, at, populate)?;
        if self.populate == Populate::AsSmallPages {
            mapping.advise(0..len, libc::MADV_NOHUGEPAGE)?;
            mapping.advise(0..len, libc::MADV_POPULATE_WRITE)?;
        }
        Ok(mapping)
    }

    /// New memory, but no entries unless they come by themselves.
    pub fn reserve(&self, len: usize) -> Result<Mapping> {
        self.reserve_at(len, None)
    }

    /// The same at an address that is free, if there is one.
    pub fn reserve_at(&self, len: usize, at: Option<usize>) -> Result<Mapping> {
        self.call(len, at, 0)
    }

    fn call(&self, len: usize, at: Option<usize>, populate: i32) -> Result<Mapping> {
        let request = Request {
            flags: self.flags | populate,
            at,
            ..Request::shared(len)
        };
        Ok(match &self.file {
            Some(file) => request.map(file)?,
            None => request.map_no_file()?,
        })
    }

    /// Whether the kernel puts what is large at a multiple of 2 MiB.
    pub fn is_aligned(&self) -> bool {
        self.aligned
    }

    /// Whether all that is mapped has huge entries.
    pub fn is_huge(&self) -> bool {
        self.entries == Entries::Huge
    }

    /// The mapping has its entries, and those are what the contestant stands for.
    pub fn check(&self, mapping: &Mapping) -> Result<()> {
        let present = pagemap::physical_addresses(mapping)?;
        ensure!(
            present.iter().all(Option::is_some),
            "a mapping is not populated"
        );
        let huge: usize = pagemap::huge_ranges(mapping)?
            .iter()
            .map(ExactSizeIterator::len)
            .sum();
        let Range { start, end } = mapping.range();
        let expected = match self.entries {
            Entries::Small => 0,
            Entries::Huge => mapping.len(),
            Entries::Suitable => (end - end % HUGE).saturating_sub(start.next_multiple_of(HUGE)),
        };
        ensure!(
            huge == expected,
            "{huge:#x} bytes at {start:#x} to {end:#x} have entries of 2 MiB, not {expected:#x}"
        );
        Ok(())
    }

    /// The same of one for which [`Source::map`] was called, below a ceiling.
    pub fn check_plain(&self, mapping: &Mapping) -> Result<()> {
        let address = mapping.address();
        ensure!(
            self.aligned == (address % HUGE == 0),
            "unexpected address {address:#x}"
        );
        self.check(mapping)
    }
}
