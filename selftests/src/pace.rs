// SPDX-License-Identifier: GPL-2.0

//! How much a test does, and how long it may take: less and longer on a kernel that looks for bugs,
//! where everything takes several times as long.

use std::time::Duration;

/// Such kernels have it in their release, those of distributions too.
fn is_debugging() -> bool {
    nix::sys::utsname::uname().is_ok_and(|name| name.release().to_string_lossy().contains("debug"))
}

/// `count`, or a tenth of it.
pub fn scaled(count: usize) -> usize {
    match is_debugging() {
        true => count / 10,
        false => count,
    }
}

/// `duration`, or four times as long.
pub fn patience(duration: Duration) -> Duration {
    match is_debugging() {
        true => duration * 4,
        false => duration,
    }
}
