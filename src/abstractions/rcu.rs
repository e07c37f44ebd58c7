// SPDX-License-Identifier: GPL-2.0

//! Polled RCU grace periods.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use super::task;
use kernel::bindings;

/// A grace period that began no earlier than when this was made.
#[derive(Clone, Copy)]
pub(crate) struct GracePeriod(usize);

impl GracePeriod {
    /// Starts a grace period. Any context but NMI.
    pub(crate) fn start() -> Self {
        // SAFETY: May be called from any context in which RCU is watching.
        Self(unsafe { bindings::start_poll_synchronize_rcu() })
    }

    /// Whether the grace period is over. Any context.
    pub(crate) fn is_over(self) -> bool {
        // SAFETY: The state came from `start_poll_synchronize_rcu`.
        unsafe { bindings::poll_state_synchronize_rcu(self.0) }
    }

    /// Returns once the grace period is over; at once if it already is. May sleep.
    ///
    /// Not by `cond_synchronize_rcu`, which would wait for one that begins after this one.
    pub(crate) fn wait(self) {
        while !self.is_over() {
            task::sleep_idle(1);
        }
    }
}
