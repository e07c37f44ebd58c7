// SPDX-License-Identifier: GPL-2.0

//! A process that counts its calls, and is known to hang when it stops.

use super::process::Process;
use super::tally::{Oracle, Tally};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// No call takes longer, on the slowest kernel. (An mmap that waits for memory takes ten seconds.)
pub const HANG: Duration = Duration::from_secs(120);

pub struct Watched {
    process: Process,
    slot: usize,
    calls: u64,
    /// Since when it has been at the same call.
    since: Instant,
    reported: bool,
}

impl Watched {
    /// Watches the process that counts in that slot.
    pub fn new(process: Process, slot: usize) -> Watched {
        Watched {
            process,
            slot,
            calls: 0,
            since: Instant::now(),
            reported: false,
        }
    }

    /// Kills it, but not in a call that takes long: that may hang, and the kill would hide it.
    pub fn kill(&mut self) -> bool {
        let kills = self.reported || self.stuck_for() < Duration::from_secs(1);
        if kills {
            self.process.kill();
        }
        kills
    }

    /// How long it has been at the same call, by the latest [`Watched::is_gone`].
    pub fn stuck_for(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether it is gone. Reports when it hangs.
    pub fn is_gone(&mut self, tally: &Tally) -> bool {
        if self.process.is_gone(tally) {
            return true;
        }
        let calls = tally.slots[self.slot].calls.load(Relaxed);
        if calls != self.calls {
            self.calls = calls;
            self.since = Instant::now();
        } else if !self.reported && self.stuck_for() > HANG {
            let call = tally.call_of(self.slot);
            let what = format!("{call} hangs:\n{}", self.process.describe());
            tally.violation(Oracle::NothingHangs, &what);
            self.reported = true;
        }
        false
    }
}
