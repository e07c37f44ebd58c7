// SPDX-License-Identifier: GPL-2.0

//! Safe wrappers for what `rust/kernel` lacks.
//!
//! The only home of `unsafe` beside [`crate::bindings`]. Nothing here knows of the driver: each
//! module wraps one facility of the kernel, or replaces one ([`buddy`]), and could be sent there.

pub(crate) mod anon_file;
mod buddy;
pub(crate) mod fault;
pub(crate) mod folio;
pub(crate) mod folio_pool;
pub(crate) mod pagemap;
pub(crate) mod pci;
pub(crate) mod rcu;
mod shapes;
pub(crate) mod sysfs;
pub(crate) mod task;
pub(crate) mod vma;
pub(crate) mod workqueue;
