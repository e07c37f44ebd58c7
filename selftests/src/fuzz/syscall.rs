// SPDX-License-Identifier: GPL-2.0

//! System calls by number, with whatever arguments.

use nix::errno::Errno;
use std::ffi::c_long;

/// Makes a system call. Missing arguments are 0.
///
/// The caller sees to it that the kernel writes to, unmaps or replaces only memory in which the
/// program keeps nothing: the arena's, and buffers that are passed for that.
pub fn call<const N: usize>(number: c_long, given: [usize; N]) -> nix::Result<usize> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&given);
    let [a, b, c, d, e, f] = all;
    // SAFETY: as said above. That rule is not one of types: to hand arbitrary numbers to the
    // kernel is what this program is for, and all of its calls on addresses take them from
    // `Arena` or from a buffer of theirs.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    Errno::result(result).map(|result| result as usize)
}
