// SPDX-License-Identifier: GPL-2.0

//! Polled RCU grace periods.
//!
//! C header: [`include/linux/rcupdate.h`](srctree/include/linux/rcupdate.h)

use super::task;
use kernel::{
    bindings,
    time::{Instant, Monotonic},
};

/// Age in milliseconds at which a grace period that somebody waits for is hurried up. Many end
/// sooner by themselves, and to hurry one interrupts every processor that is not idle (but those
/// that `nohz_full` leaves alone in user space).
const PATIENCE_MS: i64 = 10;

/// A grace period that began no earlier than when this was made.
#[derive(Clone, Copy)]
pub(crate) struct GracePeriod {
    state: usize,
    started: Instant<Monotonic>,
}

impl GracePeriod {
    /// Starts a grace period. Any context but NMI.
    pub(crate) fn start() -> Self {
        Self {
            // SAFETY: May be called from any context in which RCU is watching.
            state: unsafe { bindings::start_poll_synchronize_rcu() },
            started: Instant::now(),
        }
    }

    /// Whether the grace period is over. Any context.
    pub(crate) fn is_over(self) -> bool {
        // SAFETY: The state came from `start_poll_synchronize_rcu`.
        unsafe { bindings::poll_state_synchronize_rcu(self.state) }
    }

    /// Returns once the grace period is over; at once if it already is. May sleep.
    ///
    /// Not by `cond_synchronize_rcu`, which would wait for one that begins after this one.
    pub(crate) fn wait(self) {
        while !self.is_over() {
            if self.started.elapsed().as_millis() < PATIENCE_MS {
                task::sleep_idle(1);
            } else {
                // Each call ends one of the grace periods that the state stands for: the one that
                // was under way when this was made, or the next. (Where expedited ones are
                // forbidden, as PREEMPT_RT does, it waits for a normal one.)
                //
                // SAFETY: No precondition but a context that may sleep, as for `sleep_idle`.
                unsafe { bindings::synchronize_rcu_expedited() };
            }
        }
    }
}
