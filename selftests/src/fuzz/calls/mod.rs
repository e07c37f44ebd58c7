// SPDX-License-Identifier: GPL-2.0

//! The kinds of calls that a worker makes.
//!
//! Each is a function that makes one, with random arguments of which some are valid, and says
//! what the kernel said. Those of one subject are one file.

pub mod files;
pub mod inspection;
pub mod mapping;
pub mod memory;
pub mod pins;
pub mod processes;

use super::worker::Worker;

pub struct Kind {
    pub name: &'static str,
    /// How often it is made, compared with others.
    pub weight: usize,
    pub make: fn(&mut Worker) -> nix::Result<()>,
}

macro_rules! kinds {
    ($($subject:ident: $($kind:ident $weight:literal)*;)*) => {
        &[$($(Kind {
            name: stringify!($kind),
            weight: $weight,
            make: $subject::$kind,
        }),*),*]
    };
}

/// Those of `processes` come last.
pub const KINDS: &[Kind] = kinds! {
    mapping:
        mmap 60 load 40 store 40 munmap 25 mremap 25 mprotect 20 remap_file_pages 3;
    memory:
        madvise 40 process_madvise 5 mlock 8 munlock 8 msync 8 mincore 8 mbind 5 move_pages 3
        migrate_pages 2 set_mempolicy 3 userfaultfd 4 futex 8 prctl 3;
    files:
        open 12 close 6 dup 3 read 8 write 8 lseek 4 ioctl 4 fsync 3 truncate 3 fcntl 4
        splice_file 4 poll 4 stat 4;
    inspection:
        proc_mem 8 proc_pagemap 4 pagemap_scan 4 proc_text 3 clear_refs 2 map_files 2;
    pins:
        vmsplice 10 drain_pipe 10 direct_io 8 buffered_io 8 process_vm 8 register_buffers 6
        fixed_io 8 unregister_buffers 5 reg_mr 2 dereg_mr 2;
    processes:
        fork 3 reap 3 ptrace 2 exec 1 dump_core 1 seal 1 deny_write_exec 1;
};
