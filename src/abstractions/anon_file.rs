// SPDX-License-Identifier: GPL-2.0

//! Anonymous files that exist to be mapped.
//!
//! An [`AnonFile`] takes a VMA over in the `mmap` callback of another file
//! (`super::sysfs::Mappable`). From then on the VMAs hold the only references to it: fork, splits and
//! `mremap` are file references, and [`MappedFile::release`] is called when the last is gone.
//!
//! C headers: [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::fault::{Fault, Outcome};
use crate::bindings as helpers;
use core::{marker::PhantomData, ptr::NonNull};
use kernel::{
    bindings,
    error::from_err_ptr,
    mm::virt::VmaNew,
    prelude::*,
    str::CStr,
    sync::{Arc, ArcBorrow},
    types::ForeignOwnable,
    ThisModule,
};

/// What a mapped file does.
pub(crate) trait MappedFile: Send + Sync + Sized + 'static {
    /// Shown in `/proc/PID/maps`.
    const NAME: &'static CStr;
    /// Cannot be unloaded while such a file exists.
    const MODULE: &'static ThisModule;

    /// Answers a fault with 4 KiB entries, one of them at the address touched: where there is a table
    /// of such entries, or user space wants no others (`MADV_NOHUGEPAGE`). May sleep; mmap or VMA
    /// lock held for reading.
    fn fault(this: ArcBorrow<'_, Self>, fault: &mut Fault<'_>) -> Outcome;

    /// Answers any other fault, with entries of 2 MiB or 4 KiB, or with [`Outcome::FALLBACK`]: then
    /// [`Self::fault`] is called. Context as there.
    fn huge_fault(this: ArcBorrow<'_, Self>, fault: &mut Fault<'_>) -> Outcome;

    /// The last mapping is gone. Runs in the task that unmapped it, without the mmap lock; may
    /// sleep, but must not wait for a pin, which that very task may hold.
    fn release(this: ArcBorrow<'_, Self>);
}

/// A reference to an anonymous file of type `T`.
///
/// # Invariants
///
/// `file` is a file with [`Self::FOPS`], of which this holds a reference. Its `private_data` is an
/// `Arc<T>` turned foreign; its inode belongs to no other file.
pub(crate) struct AnonFile<T: MappedFile> {
    file: NonNull<bindings::file>,
    _data: PhantomData<Arc<T>>,
}

impl<T: MappedFile> AnonFile<T> {
    const FOPS: &'static bindings::file_operations = &bindings::file_operations {
        owner: T::MODULE.as_ptr(),
        release: Some(Self::release_callback),
        // Without it msync fails. There is no `mmap`: remap_file_pages would call it again.
        fsync: Some(bindings::noop_fsync),
        ..pin_init::zeroed()
    };

    const VM_OPS: &'static bindings::vm_operations_struct = &bindings::vm_operations_struct {
        fault: Some(Self::fault_callback),
        huge_fault: Some(Self::huge_fault_callback),
        map_pages: Some(Self::map_pages_callback),
        // No `page_mkwrite` or `pfn_mkwrite`: either makes GUP refuse long-term pins.
        ..pin_init::zeroed()
    };

    /// Makes a file. `EACCES` if a security module forbids it (no test shows that: it takes a policy
    /// that does, which distributions have none of for such files), `ENODEV` if the module is being
    /// unloaded. May sleep.
    pub(crate) fn new(data: Arc<T>) -> Result<Self> {
        let data = data.into_foreign();
        // SAFETY: Name and operations live forever. `data` is what the callbacks expect; it is
        // theirs if the call succeeds.
        let file = from_err_ptr(unsafe {
            helpers::anon_inode_create_getfile(
                T::NAME.as_char_ptr(),
                Self::FOPS,
                data.cast(),
                (bindings::O_RDWR | bindings::O_CLOEXEC) as i32,
                core::ptr::null(),
            )
        });
        let file = match file.and_then(|file| NonNull::new(file).ok_or(ENOMEM)) {
            Ok(file) => file,
            Err(err) => {
                // SAFETY: `data` came from `into_foreign`, and no file has it.
                drop(unsafe { Arc::<T>::from_foreign(data) });
                return Err(if err == ENOENT { ENODEV } else { err });
            }
        };
        // SAFETY: The inode is this file's own and nobody else has seen it yet.
        //
        // S_DAX on the mapping's host gives the VMA huge faults whatever
        // transparent_hugepage/enabled says. S_IFCHR on the file's inode, as device-dax has it,
        // keeps `vma_is_fsdax` false, for which GUP would refuse long-term pins.
        unsafe {
            let inode = (*file.as_ptr()).f_inode;
            (*inode).i_flags |= helpers::HELPER_S_DAX;
            (*inode).i_mode =
                ((u32::from((*inode).i_mode) & !bindings::S_IFMT) | bindings::S_IFCHR) as u16;
        }
        // INVARIANT: The call above made file and inode and returned the first reference.
        Ok(Self {
            file,
            _data: PhantomData,
        })
    }

    /// Returns the pages' mapping, which may outlive the file.
    pub(crate) fn mapping(&self) -> Mapping {
        // SAFETY: By the type invariant the file is valid, and so is its inode.
        unsafe {
            let inode = (*self.file.as_ptr()).f_inode;
            bindings::ihold(inode);
            // INVARIANT: The reference was taken just now; a file's inode is not null.
            Mapping(NonNull::new_unchecked(inode))
        }
    }

    /// Makes `vma` a mapping of this file.
    ///
    /// # Safety
    ///
    /// To be called last in an `mmap` callback that then succeeds: the core does not expect to
    /// find another file in a VMA that could not be mapped.
    pub(super) unsafe fn install(self, vma: &VmaNew) {
        // SAFETY: `vma` is being set up. `vma_set_file` takes a reference of its own and drops the
        // one on the old file, which the caller of the mmap callback keeps alive. From here on
        // `vm_file` is a file of `T`, as the callbacks in `VM_OPS` expect.
        unsafe {
            bindings::vma_set_file(vma.as_ptr(), self.file.as_ptr());
            (*vma.as_ptr()).vm_ops = Self::VM_OPS;
        }
        // VM_DONTEXPAND makes the VMA VM_SPECIAL: without it fork could copy huge entries without
        // references, VMAs could merge, and userfaultfd or guard regions be put in.
        vma.set_dontexpand();
        vma.set_dontdump();
    }

    /// # Safety
    ///
    /// `file` must be an [`AnonFile<T>`]'s, and valid for `'a`.
    unsafe fn data<'a>(file: *mut bindings::file) -> ArcBorrow<'a, T> {
        // SAFETY: By the type invariant `private_data` is a foreign `Arc<T>`; it is taken back
        // only in `release_callback`, after the last use of the file.
        unsafe { Arc::<T>::borrow((*file).private_data.cast()) }
    }

    unsafe extern "C" fn fault_callback(vmf: *mut bindings::vm_fault) -> bindings::vm_fault_t {
        // SAFETY: The core passes a valid `vmf`, whose VMA has the operations and so the file that
        // `install` gave it.
        unsafe {
            let vmf = NonNull::new_unchecked(vmf);
            let data = Self::data((*vmf.as_ref().__bindgen_anon_1.vma).vm_file);
            T::fault(data, &mut Fault::from_raw(vmf)).0
        }
    }

    unsafe extern "C" fn huge_fault_callback(
        vmf: *mut bindings::vm_fault,
        order: u32,
    ) -> bindings::vm_fault_t {
        // No 1 GiB entries, which the kernel asks for first. If the VMA is split within 2 MiB,
        // `mm_find_pmd` takes the device's memory below such an entry for a page table, and mremap
        // drops the entry but not its reference.
        if order != helpers::HELPER_PMD_ORDER {
            return Outcome::FALLBACK.0;
        }
        // SAFETY: As in `fault_callback`.
        unsafe {
            let vmf = NonNull::new_unchecked(vmf);
            let data = Self::data((*vmf.as_ref().__bindgen_anon_1.vma).vm_file);
            T::huge_fault(data, &mut Fault::from_raw(vmf)).0
        }
    }

    /// Maps nothing before a read fault. But only where there is such a callback does the kernel take
    /// it that `fault` needs no more than the VMA's lock (`vmf_can_call_fault`, mm/memory.c): without
    /// it, threads that fault in memory would wait for each other's `mmap`.
    unsafe extern "C" fn map_pages_callback(
        _vmf: *mut bindings::vm_fault,
        _start: usize,
        _end: usize,
    ) -> bindings::vm_fault_t {
        0
    }

    unsafe extern "C" fn release_callback(
        _inode: *mut bindings::inode,
        file: *mut bindings::file,
    ) -> i32 {
        // SAFETY: `file` was made by `new`; this is the last use of its `private_data`.
        let data = unsafe { Arc::<T>::from_foreign((*file).private_data.cast()) };
        T::release(data.as_arc_borrow());
        0
    }
}

impl<T: MappedFile> Drop for AnonFile<T> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this holds a reference.
        unsafe { bindings::fput(self.file.as_ptr()) };
    }
}

/// All mappings of one [`AnonFile`], whether the file still exists or not.
///
/// # Invariants
///
/// Holds a reference on the inode.
pub(crate) struct Mapping(NonNull<bindings::inode>);

impl Mapping {
    /// Removes every entry that maps a page of the file. A VMA may be linked to the mapping, and a
    /// fault insert entries, right after: whoever wants none must refuse faults first. May sleep.
    pub(crate) fn zap(&self) {
        // SAFETY: By the type invariant the inode is valid. A length of 0 means everything.
        unsafe { bindings::unmap_mapping_range((*self.0.as_ptr()).i_mapping, 0, 0, 1) };
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: By the type invariant this holds a reference.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

// SAFETY: Inodes are reference counted and belong to no thread.
unsafe impl Send for Mapping {}
// SAFETY: `zap` takes the mapping's own locks.
unsafe impl Sync for Mapping {}
