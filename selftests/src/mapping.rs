// SPDX-License-Identifier: GPL-2.0

//! A mapping and all that user space may do to one, behind safe calls.
//!
//! The memory is another's too (a device's, a child's), so it is only touched
//! word by word with volatile accesses, never as a slice.

use crate::pattern::Pattern;
use anyhow::{bail, Result};
use nix::errno::Errno;
use std::fs::File;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr;

pub const PAGE: usize = 4096;
pub const HUGE: usize = 2 << 20;
/// What one table of 2 MiB entries is for.
pub const GIB: usize = 1 << 30;

pub const READ: i32 = libc::PROT_READ;
pub const WRITE: i32 = libc::PROT_WRITE;
pub const EXEC: i32 = libc::PROT_EXEC;

const WORD: usize = size_of::<u64>();
const LAST_WORD: usize = PAGE - WORD;

/// The arguments of an mmap.
#[derive(Clone, Copy)]
pub struct Request {
    pub len: usize,
    pub prot: i32,
    pub flags: i32,
    pub offset: i64,
    /// Exactly there, where nothing may be mapped yet.
    pub at: Option<usize>,
}

impl Request {
    /// What the ABI asks for: readable, writable, MAP_SHARED, offset 0.
    pub fn shared(len: usize) -> Request {
        Request {
            len,
            prot: READ | WRITE,
            flags: libc::MAP_SHARED,
            offset: 0,
            at: None,
        }
    }

    pub fn map(self, file: &File) -> nix::Result<Mapping> {
        self.call(file.as_raw_fd())
    }

    /// With flags that need none, as MAP_ANONYMOUS.
    pub fn map_no_file(self) -> nix::Result<Mapping> {
        self.call(-1)
    }

    fn call(self, fd: i32) -> nix::Result<Mapping> {
        let (hint, fixed) = match self.at {
            Some(at) => (at, libc::MAP_FIXED_NOREPLACE),
            None => (0, 0),
        };
        // SAFETY: without MAP_FIXED, mmap changes nothing that is mapped already.
        let address = unsafe {
            libc::mmap(
                ptr::without_provenance_mut(hint),
                self.len,
                self.prot,
                self.flags | fixed,
                fd,
                self.offset,
            )
        };
        Errno::result(address).map(|address| Mapping {
            address: address as usize,
            len: self.len,
            sparse: false,
        })
    }
}

/// A free range of addresses that starts `misalignment` behind a 2 MiB boundary.
pub fn free_address(len: usize, misalignment: usize) -> nix::Result<usize> {
    let room = Request {
        prot: libc::PROT_NONE,
        flags: libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        ..Request::shared(len + 2 * HUGE)
    }
    .map_no_file()?;
    Ok(room.address.next_multiple_of(HUGE) + misalignment)
}

/// The first address of an unused table of 2 MiB entries; the next is not in use either.
pub fn free_table() -> nix::Result<usize> {
    Ok(free_address(3 * GIB, 0)?.next_multiple_of(GIB))
}

/// Mapped memory; unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    address: usize,
    len: usize,
    /// See [`Mapping::sparsely`].
    sparse: bool,
}

impl Mapping {
    /// Ordinary memory, zeroed, page-aligned.
    pub fn anonymous(len: usize) -> nix::Result<Mapping> {
        Request {
            flags: libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            ..Request::shared(len)
        }
        .map_no_file()
    }

    pub fn address(&self) -> usize {
        self.address
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn range(&self) -> Range<usize> {
        self.address..self.address + self.len
    }

    /// The addresses of the bytes at `offsets`.
    pub fn addresses(&self, offsets: &Range<usize>) -> Range<usize> {
        assert!(offsets.start <= offsets.end && offsets.end <= self.len);
        self.address + offsets.start..self.address + offsets.end
    }

    /// An iovec of the bytes at `offsets`, for calls that pin them.
    pub fn iovec(&self, offsets: Range<usize>) -> libc::iovec {
        let range = self.addresses(&offsets);
        libc::iovec {
            iov_base: range.start as *mut _,
            iov_len: range.len(),
        }
    }

    fn word(&self, offset: usize) -> *mut u64 {
        assert!(offset % WORD == 0 && offset + WORD <= self.len);
        (self.address + offset) as *mut u64
    }

    pub fn read(&self, offset: usize) -> u64 {
        // SAFETY: `word` checked that the word lies in the mapping. Whether it may be read is
        // for the kernel to say, and a test that expects a signal does this in a child.
        unsafe { self.word(offset).read_volatile() }
    }

    pub fn write(&self, offset: usize, value: u64) {
        // SAFETY: as for `read`; nothing has a Rust reference into the mapping.
        unsafe { self.word(offset).write_volatile(value) }
    }

    /// Reads one word of each page.
    pub fn touch(&self) {
        for offset in (0..self.len).step_by(PAGE) {
            self.read(offset);
        }
    }

    /// Writes all of it, whole words as fast as one processor can.
    pub fn overwrite(&self, value: u64) {
        // SAFETY: the range is ours, nothing has a Rust reference into it, and a mapping is of
        // whole words. The direction flag is clear, as the ABI has it.
        unsafe {
            std::arch::asm!(
                "rep stosq",
                inout("rdi") self.address => _,
                inout("rcx") self.len / WORD => _,
                in("rax") value,
                options(nostack, preserves_flags),
            );
        }
    }

    /// From now on only the first and the last word of each page are filled and checked.
    ///
    /// For much memory of an emulated NVMe controller: each access to it leaves the guest.
    pub fn sparsely(self) -> Mapping {
        let mut mapping = self;
        mapping.sparse = true;
        mapping
    }

    /// Offsets of the words in a range that are filled and checked.
    fn words(&self, offsets: Range<usize>) -> impl Iterator<Item = usize> {
        let sparse = self.sparse;
        offsets
            .step_by(WORD)
            .filter(move |offset| !sparse || matches!(offset % PAGE, 0 | LAST_WORD))
    }

    pub fn fill(&self, pattern: Pattern) {
        for offset in self.words(0..self.len) {
            self.write(offset, pattern.word(offset / WORD));
        }
    }

    /// Fails at the first word that is not the pattern's.
    pub fn check(&self, pattern: Pattern) -> Result<()> {
        self.check_range(0..self.len, pattern)
    }

    /// The same for part of what [`Mapping::fill`] filled as a whole.
    pub fn check_range(&self, offsets: Range<usize>, pattern: Pattern) -> Result<()> {
        self.check_words(offsets, |index| pattern.word(index))
    }

    pub fn check_zero(&self) -> Result<()> {
        self.check_words(0..self.len, |_| 0)
    }

    fn check_words(&self, offsets: Range<usize>, expected: impl Fn(usize) -> u64) -> Result<()> {
        for offset in self.words(offsets) {
            let (found, expected) = (self.read(offset), expected(offset / WORD));
            if found != expected {
                bail!(
                    "at offset {offset:#x} of {:#x}: {found:#018x} instead of {expected:#018x}",
                    self.len
                );
            }
        }
        Ok(())
    }

    pub fn advise(&self, offsets: Range<usize>, advice: i32) -> nix::Result<()> {
        let range = self.addresses(&offsets);
        // SAFETY: the range is ours and nothing has a Rust reference into it.
        let result = unsafe { libc::madvise(range.start as *mut _, range.len(), advice) };
        Errno::result(result).map(drop)
    }

    pub fn protect(&self, offsets: Range<usize>, prot: i32) -> nix::Result<()> {
        let range = self.addresses(&offsets);
        // SAFETY: as for `advise`.
        let result = unsafe { libc::mprotect(range.start as *mut _, range.len(), prot) };
        Errno::result(result).map(drop)
    }

    /// New memory of `file` in place of what is mapped there.
    pub fn replace(&self, offsets: Range<usize>, file: &File) -> nix::Result<()> {
        let range = self.addresses(&offsets);
        // SAFETY: the range is ours and nothing has a Rust reference into it.
        let result = unsafe {
            libc::mmap(
                range.start as *mut _,
                range.len(),
                READ | WRITE,
                libc::MAP_SHARED | libc::MAP_FIXED,
                file.as_raw_fd(),
                0,
            )
        };
        Errno::result(result).map(drop)
    }

    /// remap_file_pages: the pages from page `page` of the file on, at these offsets.
    pub fn remap_pages(&self, offsets: Range<usize>, page: usize) -> nix::Result<()> {
        let range = self.addresses(&offsets);
        // SAFETY: as for `replace`.
        let result = unsafe {
            libc::syscall(
                libc::SYS_remap_file_pages,
                range.start,
                range.len(),
                0,
                page,
                0,
            )
        };
        Errno::result(result).map(drop)
    }

    pub fn lock(&self) -> nix::Result<()> {
        // SAFETY: mlock changes no contents.
        let result = unsafe { libc::mlock(self.address as *const _, self.len) };
        Errno::result(result).map(drop)
    }

    pub fn unlock(&self) -> nix::Result<()> {
        // SAFETY: munlock changes no contents.
        let result = unsafe { libc::munlock(self.address as *const _, self.len) };
        Errno::result(result).map(drop)
    }

    pub fn sync(&self, flags: i32) -> nix::Result<()> {
        // SAFETY: msync changes no contents.
        let result = unsafe { libc::msync(self.address as *mut _, self.len, flags) };
        Errno::result(result).map(drop)
    }

    /// mremap to another place, of the same length.
    pub fn move_to(&mut self, new_address: usize) -> nix::Result<()> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
        self.address = self.remap(self.len, self.len, flags, new_address)?;
        Ok(())
    }

    /// mremap to another length, wherever there is room.
    pub fn resize(&mut self, new_len: usize) -> nix::Result<()> {
        self.address = self.remap(self.len, new_len, libc::MREMAP_MAYMOVE, 0)?;
        self.len = new_len;
        Ok(())
    }

    /// mremap of length 0: a second mapping of the same memory.
    pub fn duplicate(&self) -> nix::Result<Mapping> {
        let address = self.remap(0, self.len, libc::MREMAP_MAYMOVE, 0)?;
        Ok(Mapping { address, ..*self })
    }

    /// mremap that leaves the old addresses mapped, but empty.
    pub fn move_and_keep(&self) -> nix::Result<Mapping> {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_DONTUNMAP;
        let address = self.remap(self.len, self.len, flags, 0)?;
        Ok(Mapping { address, ..*self })
    }

    fn remap(&self, old: usize, new: usize, flags: i32, to: usize) -> nix::Result<usize> {
        let to: *mut libc::c_void = ptr::without_provenance_mut(to);
        // SAFETY: the old range is ours; a fixed new one comes from `free_address`.
        let result = unsafe { libc::mremap(self.address as *mut _, old, new, flags, to) };
        Errno::result(result).map(|address| address as usize)
    }

    /// Two halves, to be unmapped one by one.
    pub fn split(self, at: usize) -> (Mapping, Mapping) {
        assert!(at % PAGE == 0 && at > 0 && at < self.len);
        let whole = ManuallyDrop::new(self);
        let head = Mapping { len: at, ..*whole };
        let tail = Mapping {
            address: whole.address + at,
            len: whole.len - at,
            ..*whole
        };
        (head, tail)
    }

    /// munmap, for a test of how it fails.
    pub fn unmap(self) -> Result<(), (Mapping, Errno)> {
        let whole = ManuallyDrop::new(self);
        // SAFETY: the range is ours, and with `self` the last way to it goes.
        match Errno::result(unsafe { libc::munmap(whole.address as *mut _, whole.len) }) {
            Ok(_) => Ok(()),
            Err(error) => Err((ManuallyDrop::into_inner(whole), error)),
        }
    }

    /// pread into the mapping; O_DIRECT when the file is open that way.
    pub fn pread_from(&self, file: &File, offsets: Range<usize>, at: i64) -> nix::Result<usize> {
        let range = self.addresses(&offsets);
        // SAFETY: the kernel writes to memory of ours that nothing has a Rust reference into.
        let result =
            unsafe { libc::pread(file.as_raw_fd(), range.start as *mut _, range.len(), at) };
        Errno::result(result).map(|len| len as usize)
    }

    /// pwrite from the mapping.
    pub fn pwrite_to(&self, file: &File, offsets: Range<usize>, at: i64) -> nix::Result<usize> {
        let range = self.addresses(&offsets);
        // SAFETY: the kernel only reads the memory.
        let result =
            unsafe { libc::pwrite(file.as_raw_fd(), range.start as *const _, range.len(), at) };
        Errno::result(result).map(|len| len as usize)
    }

    /// vmsplice: the pages themselves go into the pipe, and are held until they are read.
    pub fn splice_into(&self, pipe: &impl AsRawFd, offsets: Range<usize>) -> nix::Result<usize> {
        let iovec = self.iovec(offsets);
        // SAFETY: one iovec, whose memory is ours and is only read.
        let result =
            unsafe { libc::vmsplice(pipe.as_raw_fd(), &iovec, 1, libc::SPLICE_F_NONBLOCK) };
        Errno::result(result).map(|len| len as usize)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is ours, and with `self` the last way to it goes.
        unsafe { libc::munmap(self.address as *mut _, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Pattern = Pattern(1);

    #[test]
    fn contents_are_filled_and_checked_word_by_word() {
        let mapping = Mapping::anonymous(4 * PAGE).unwrap();
        mapping.check_zero().unwrap();
        mapping.fill(OURS);
        mapping.check(OURS).unwrap();
        mapping.check(Pattern(2)).unwrap_err();
        mapping.check_zero().unwrap_err();
        mapping.write(3 * PAGE + 8, 0);
        mapping.check(OURS).unwrap_err();
        mapping.check_range(0..3 * PAGE, OURS).unwrap();
        // A sparse look does not see the second word of a page.
        mapping.sparsely().check(OURS).unwrap();
    }

    #[test]
    fn all_words_are_overwritten() {
        let mapping = Mapping::anonymous(2 * PAGE).unwrap();
        mapping.overwrite(7);
        for offset in (0..2 * PAGE).step_by(WORD) {
            assert_eq!(mapping.read(offset), 7);
        }
        mapping.overwrite(0);
        mapping.check_zero().unwrap();
    }

    #[test]
    fn a_sparse_look_sees_both_ends_of_each_page() {
        for offset in [0, PAGE - 8, PAGE, 2 * PAGE - 8] {
            let mapping = Mapping::anonymous(2 * PAGE).unwrap().sparsely();
            mapping.write(offset, 1);
            mapping.check_zero().unwrap_err();
        }
    }

    #[test]
    fn a_mapping_moves_and_splits() {
        let mut mapping = Mapping::anonymous(4 * PAGE).unwrap();
        mapping.fill(OURS);
        let address = free_address(4 * PAGE, 3 * PAGE).unwrap();
        assert_eq!(address % HUGE, 3 * PAGE);
        mapping.move_to(address).unwrap();
        assert_eq!(mapping.address(), address);
        mapping.check(OURS).unwrap();

        let (head, tail) = mapping.split(PAGE);
        assert_eq!((head.len(), tail.len()), (PAGE, 3 * PAGE));
        assert_eq!(head.range().end, tail.range().start);
        drop(head);
        assert_eq!(tail.read(0), OURS.word(PAGE / 8));
    }

    #[test]
    fn an_address_in_use_is_not_mapped_over() {
        let mapping = Mapping::anonymous(PAGE).unwrap();
        let request = Request {
            at: Some(mapping.address()),
            ..Request::shared(PAGE)
        };
        let file = File::options()
            .read(true)
            .write(true)
            .open("/dev/zero")
            .unwrap();
        assert_eq!(request.map(&file).map(drop), Err(Errno::EEXIST));
    }
}
