// SPDX-License-Identifier: GPL-2.0

//! Loads and stores that may fault: the signal is caught and told as `None`.
//!
//! As in the kernel's own exception tables, the handler knows the instructions that may fault,
//! and lets the program go on behind them.

use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};
use std::arch::global_asm;

global_asm!(
    ".globl fuzz_probe_load, fuzz_probe_store, fuzz_probe_add_zero, fuzz_probe_fault",
    ".globl fuzz_probe_load_access, fuzz_probe_store_access, fuzz_probe_add_zero_access",
    "fuzz_probe_load:",
    "xor edx, edx",
    "fuzz_probe_load_access:",
    "mov rax, [rdi]",
    "ret",
    "fuzz_probe_store:",
    "xor edx, edx",
    "fuzz_probe_store_access:",
    "mov [rdi], rsi",
    "ret",
    "fuzz_probe_add_zero:",
    "xor edx, edx",
    "fuzz_probe_add_zero_access:",
    "lock add qword ptr [rdi], 0",
    "ret",
    "fuzz_probe_fault:",
    "mov edx, 1",
    "ret",
);

/// In rax and rdx.
#[repr(C)]
struct Access {
    value: u64,
    faulted: u64,
}

unsafe extern "C" {
    fn fuzz_probe_load(address: usize) -> Access;
    fn fuzz_probe_store(address: usize, value: u64) -> Access;
    fn fuzz_probe_add_zero(address: usize) -> Access;
    fn fuzz_probe_load_access();
    fn fuzz_probe_store_access();
    fn fuzz_probe_add_zero_access();
    fn fuzz_probe_fault();
}

pub fn load(address: usize) -> Option<u64> {
    // SAFETY: whatever is there is only read, and a fault goes to `on_fault`.
    let access = unsafe { fuzz_probe_load(address) };
    (access.faulted == 0).then_some(access.value)
}

/// To an address of the arena.
pub fn store(address: usize, value: u64) -> Option<()> {
    // SAFETY: the program keeps nothing in the arena, and a fault goes to `on_fault`.
    let access = unsafe { fuzz_probe_store(address, value) };
    (access.faulted == 0).then_some(())
}

/// A store that changes nothing.
pub fn add_zero(address: usize) -> Option<()> {
    // SAFETY: whatever is there stays as it is, and a fault goes to `on_fault`.
    let access = unsafe { fuzz_probe_add_zero(address) };
    (access.faulted == 0).then_some(())
}

/// Catches the signals of the functions above. Any other fault kills as ever.
pub fn catch_faults() -> nix::Result<()> {
    let handler = SigHandler::SigAction(on_fault);
    let action = SigAction::new(handler, SaFlags::SA_SIGINFO, SigSet::empty());
    for signal in [Signal::SIGSEGV, Signal::SIGBUS] {
        // SAFETY: the handler changes nothing but the interrupted context.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

extern "C" fn on_fault(signal: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let accesses = [
        fuzz_probe_load_access as usize,
        fuzz_probe_store_access as usize,
        fuzz_probe_add_zero_access as usize,
    ];
    // SAFETY: the kernel passes the interrupted context; `fuzz_probe_fault` returns from the
    // function that was interrupted, all of which have the same frame.
    unsafe {
        let context = &mut *context.cast::<libc::ucontext_t>();
        let rip = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
        if accesses.contains(&(*rip as usize)) {
            *rip = fuzz_probe_fault as usize as i64;
        } else {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Mapping, PAGE, READ};

    #[test]
    fn a_fault_is_told_and_survived() {
        catch_faults().unwrap();
        let mapping = Mapping::anonymous(PAGE).unwrap();
        let address = mapping.address();
        assert_eq!(store(address, 5), Some(()));
        assert_eq!(add_zero(address), Some(()));
        assert_eq!(load(address), Some(5));
        mapping.protect(0..PAGE, READ).unwrap();
        assert_eq!(store(address, 6), None);
        assert_eq!(add_zero(address), None);
        assert_eq!(load(address), Some(5));
        mapping.protect(0..PAGE, 0).unwrap();
        assert_eq!(load(address), None);
    }
}
