// SPDX-License-Identifier: GPL-2.0

//! Random system calls, valid and invalid, on the files of a bound device and on its memory.
//!
//! ```text
//!   supervisor ── starts, watches, kills ──► workers: random calls, each on an address space of
//!       │                                             its own, which it may ruin
//!       ├──────── starts, watches ─────────► a bus worker: random text into the driver's files
//!       └──────── starts, watches ─────────► unbind, bind, rmmod
//! ```
//!
//! What must hold meanwhile is an [`tally::Oracle`] each.

mod arena;
mod bus;
mod calls;
mod job;
mod probe;
mod process;
pub mod supervisor;
mod syscall;
mod tally;
mod toucher;
mod watched;
mod worker;
