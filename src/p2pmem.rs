// SPDX-License-Identifier: GPL-2.0

//! p2pmem: hands a PCI device's memory to user space for peer-to-peer DMA.
//!
//! A device that is bound to this driver donates its NVMe controller memory buffer or one of its
//! BARs. Each `mmap` of its file `p2pmem/allocate` takes some of that memory, as ordinary
//! reference-counted pages, which RDMA, io_uring and O_DIRECT can pin for as long as they like.
//!
//! The way of one mapping through the source:
//! [`buffer`] (mmap and faults) → [`pool`] (who has what) → [`reclaim`] (drain, zero, free).
//! What their tasks decide among themselves is in [`protocol`].

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod abstractions;
#[allow(unsafe_code)]
mod bindings;
mod buffer;
mod driver;
mod layout;
mod pool;
mod protocol;
mod reclaim;
mod region;
mod sysfs;

kernel::module_pci_driver! {
    type: driver::P2pMem,
    name: "p2pmem",
    authors: ["The p2pmem authors"],
    description: "PCI device memory for peer-to-peer DMA",
    license: "GPL v2",
    params: {
        bar: i32 {
            default: -1,
            description: "Number of the BAR to donate, whatever the device (-1: the NVMe controller memory buffer, else the largest prefetchable BAR)",
        },
    },
}
