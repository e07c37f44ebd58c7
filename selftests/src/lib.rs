// SPDX-License-Identifier: GPL-2.0

//! The vocabulary of the programs that test p2pmem.ko in the guest of `scripts/vm`: devices,
//! mappings, and every way to pin one.

pub mod aio;
pub mod bench;
pub mod busy;
pub mod child;
pub mod device;
pub mod disk;
pub mod failing;
pub mod fuzz;
pub mod harness;
pub mod helper;
pub mod hotplug;
pub mod kmsg;
pub mod kprobe;
pub mod mapping;
pub mod module;
pub mod pace;
pub mod pagemap;
pub mod pattern;
pub mod poll;
pub mod qmp;
pub mod random;
pub mod setting;
pub mod slab;
pub mod smaps;
pub mod stress;
pub mod tests;
pub mod uffd;
pub mod uring;
pub mod verbs;
