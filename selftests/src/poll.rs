// SPDX-License-Identifier: GPL-2.0

//! Waiting for something to become true, with a deadline.
//!
//! Nothing in these tests sleeps for a fixed time and calls that a proof.

use crate::pace;
use anyhow::{bail, Result};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Generous: the guest may be emulated on a busy machine.
pub fn deadline() -> Duration {
    pace::patience(Duration::from_secs(30))
}

/// The first pause between two looks, and the longest; each is twice the one before.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_millis(10);

/// Waits until `ready` gives a value.
pub fn until_some<T>(what: &str, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let (start, deadline) = (Instant::now(), deadline());
    let mut pause = SHORTEST;
    loop {
        // Look at the clock first: a stall between it and a look that fails
        // must not count as the thing having been too slow.
        let late = start.elapsed() > deadline;
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if late {
            bail!("not within {} s: {what}", deadline.as_secs());
        }
        sleep(pause);
        pause = (pause * 2).min(LONGEST);
    }
}

/// Waits until `ready` says so.
pub fn until(what: &str, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    until_some(what, || Ok(ready()?.then_some(())))
}
