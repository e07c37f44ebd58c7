// SPDX-License-Identifier: GPL-2.0

//! A directory of attributes below a device in sysfs.
//!
//! C headers: [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h),
//! [`include/linux/device.h`](srctree/include/linux/device.h)

use super::anon_file::{AnonFile, MappedFile};
use crate::bindings as helpers;
use kernel::{
    bindings,
    device::{self, Bound},
    error::{from_result, to_result},
    ffi,
    mm::virt::VmaNew,
    prelude::*,
    str::CStr,
    sync::{
        aref::ARef,
        Arc, //
    },
};

/// A file that shows one number (mode 0444).
pub(crate) struct Number<T> {
    /// Name of the file.
    pub(crate) name: &'static CStr,
    /// Its value at the moment. May sleep.
    pub(crate) value: fn(&T) -> u64,
}

/// A file that can be mapped (mode 0660).
pub(crate) struct Mappable<T, F: MappedFile> {
    /// Name of the file.
    pub(crate) name: &'static CStr,
    /// The `mmap` callback: returns the file that the VMA shall be a mapping of. May sleep; mmap
    /// lock held for writing.
    pub(crate) mmap: fn(&Arc<T>, &VmaNew) -> Result<AnonFile<F>>,
}

/// `struct device_attribute` and what its callback needs.
#[repr(C)]
struct NumberAttribute<T> {
    // First, so that a pointer to it is a pointer to the whole.
    raw: bindings::device_attribute,
    value: fn(&T) -> u64,
    data: Arc<T>,
}

/// What the callback of the mappable file needs.
struct MmapContext<T, F: MappedFile> {
    mmap: fn(&Arc<T>, &VmaNew) -> Result<AnonFile<F>>,
    data: Arc<T>,
}

/// A directory with files, until this is dropped. Dropping it waits for callbacks that run; none
/// runs later, not even on a file that is still open. May sleep.
///
/// # Invariants
///
/// The group is registered with `dev`. All the pointers in it lead to memory that `_numbers`,
/// `_attrs`, `_bin`, `_bins` and `_context` own.
pub(crate) struct Group<T: Send + Sync + 'static, F: MappedFile> {
    dev: ARef<device::Device>,
    raw: KBox<bindings::attribute_group>,
    _numbers: KVec<NumberAttribute<T>>,
    _attrs: KVec<*mut bindings::attribute>,
    _bin: KBox<bindings::bin_attribute>,
    _bins: KBox<[*const bindings::bin_attribute; 2]>,
    _context: KBox<MmapContext<T, F>>,
}

impl<T: Send + Sync + 'static, F: MappedFile> Group<T, F> {
    /// Adds a directory `name` with these files to `dev`. `mappable_size` is what `stat` says of the
    /// mappable file, in bytes. `EEXIST` if there is such a directory. May sleep.
    pub(crate) fn new(
        dev: &device::Device<Bound>,
        name: &'static CStr,
        data: Arc<T>,
        numbers: &[Number<T>],
        mappable: &Mappable<T, F>,
        mappable_size: usize,
    ) -> Result<Self> {
        let mut attributes = KVec::with_capacity(numbers.len(), GFP_KERNEL)?;
        for number in numbers {
            let mut raw: bindings::device_attribute = pin_init::zeroed();
            raw.attr.name = number.name.as_char_ptr();
            raw.attr.mode = 0o444;
            raw.__bindgen_anon_1.show = Some(Self::show_callback);
            attributes.push(
                NumberAttribute {
                    raw,
                    value: number.value,
                    data: data.clone(),
                },
                GFP_KERNEL,
            )?;
        }
        // From here on nothing is added to `attributes`: it does not move any more.
        let mut attrs = KVec::with_capacity(numbers.len() + 1, GFP_KERNEL)?;
        for attribute in attributes.iter_mut() {
            let attr = &raw mut attribute.raw.attr;
            // SAFETY: `attr` is valid and not registered yet.
            unsafe { helpers::helper_sysfs_attr_init(attr) };
            attrs.push(attr, GFP_KERNEL)?;
        }
        attrs.push(core::ptr::null_mut(), GFP_KERNEL)?;

        let context = KBox::new(
            MmapContext {
                mmap: mappable.mmap,
                data,
            },
            GFP_KERNEL,
        )?;
        let mut bin = KBox::new(pin_init::zeroed::<bindings::bin_attribute>(), GFP_KERNEL)?;
        bin.attr.name = mappable.name.as_char_ptr();
        bin.attr.mode = 0o660;
        bin.size = mappable_size;
        bin.private = core::ptr::from_ref(&*context).cast_mut().cast();
        bin.mmap = Some(Self::mmap_callback);
        // SAFETY: The attribute is valid and not registered yet.
        unsafe { helpers::helper_sysfs_attr_init(&raw mut bin.attr) };
        let bins = KBox::new([core::ptr::from_ref(&*bin), core::ptr::null()], GFP_KERNEL)?;

        let mut raw = KBox::new(pin_init::zeroed::<bindings::attribute_group>(), GFP_KERNEL)?;
        raw.name = name.as_char_ptr();
        raw.__bindgen_anon_2.attrs = attrs.as_mut_ptr();
        raw.bin_attrs = bins.as_ptr();

        // SAFETY: `dev` is valid, and the group is complete and lives until `drop` removes it.
        to_result(unsafe { bindings::sysfs_create_group(Self::kobj(dev), &*raw) })?;
        // INVARIANT: Registered just now; the boxes and vectors own what is pointed to.
        Ok(Self {
            dev: ARef::from(&**dev),
            raw,
            _numbers: attributes,
            _attrs: attrs,
            _bin: bin,
            _bins: bins,
            _context: context,
        })
    }

    fn kobj<Ctx: device::DeviceContext>(dev: &device::Device<Ctx>) -> *mut bindings::kobject {
        // CAST: `Device` is a transparent wrapper of `Opaque<struct device>`.
        let dev: *mut bindings::device = core::ptr::from_ref(dev).cast_mut().cast();
        // SAFETY: `dev` is valid; only the address of the field is taken.
        unsafe { &raw mut (*dev).kobj }
    }

    unsafe extern "C" fn show_callback(
        _dev: *mut bindings::device,
        attr: *mut bindings::device_attribute,
        buf: *mut ffi::c_char,
    ) -> isize {
        // SAFETY: `attr` is the first field of a `NumberAttribute<T>`, which lives as long as the
        // group is registered.
        let attribute = unsafe { &*attr.cast::<NumberAttribute<T>>() };
        let value = (attribute.value)(&attribute.data);
        // SAFETY: `buf` is the buffer that sysfs gave; the format takes one `u64`.
        let len = unsafe { bindings::sysfs_emit(buf, c"%llu\n".as_char_ptr(), value) };
        len as isize
    }

    unsafe extern "C" fn mmap_callback(
        _file: *mut bindings::file,
        _kobj: *mut bindings::kobject,
        attr: *const bindings::bin_attribute,
        vma: *mut bindings::vm_area_struct,
    ) -> ffi::c_int {
        // SAFETY: `private` is a `MmapContext<T, F>` that lives as long as the group is registered.
        let context = unsafe { &*(*attr).private.cast::<MmapContext<T, F>>() };
        // SAFETY: This is an mmap callback: the VMA is being set up.
        let vma = unsafe { VmaNew::from_raw(vma) };
        from_result(|| {
            let file = (context.mmap)(&context.data, vma)?;
            // SAFETY: The callback succeeds right after.
            unsafe { file.install(vma) };
            Ok(0)
        })
    }
}

impl<T: Send + Sync + 'static, F: MappedFile> Drop for Group<T, F> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant the group is registered. The call returns when no callback
        // runs any more; only then is what they use dropped.
        unsafe { bindings::sysfs_remove_group(Self::kobj(&self.dev), &*self.raw) };
    }
}

// SAFETY: The pointers lead to memory that the group owns; the callbacks use `T: Send + Sync`.
unsafe impl<T: Send + Sync + 'static, F: MappedFile> Send for Group<T, F> {}
