// SPDX-License-Identifier: GPL-2.0

//! Timing of what takes microseconds or minutes.

use super::stats::Spread;
use anyhow::{Context, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Whether the clock counts instructions: see [`count_instructions`].
static COUNTING: AtomicBool = AtomicBool::new(false);

/// From now on one call makes a sample. Where the clock advances by a nanosecond for each instruction
/// that is executed, the next one would take as long, and be a long time coming.
pub fn count_instructions() {
    COUNTING.store(true, Ordering::Relaxed);
}

/// What a sample should add up to: the clock and an interrupt hardly matter then.
const ENOUGH: Duration = Duration::from_millis(20);

/// What must do where the preparations have taken [`LONG`].
const LEAST: Duration = Duration::from_millis(5);
const LONG: Duration = Duration::from_secs(1);

/// How long `body` took, and what it returned. That is dropped later, outside the time.
pub fn timed<T>(body: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = body();
    (start.elapsed(), result)
}

/// One sample: the seconds that one operation takes. `some` does some of them and returns their
/// time, without that of preparations, and their number. Once it is done to warm up, and then
/// as often as it takes. Of its calls the median counts, for something may interrupt one.
pub fn sample(mut some: impl FnMut() -> Result<(Duration, usize)>) -> Result<f64> {
    some()?;
    let start = Instant::now();
    let (mut total, mut calls) = (Duration::ZERO, Vec::new());
    while total < ENOUGH && (total < LEAST || start.elapsed() < LONG) {
        let (time, operations) = some()?;
        total += time;
        calls.push(time.as_secs_f64() / operations as f64);
        if COUNTING.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(Spread::of(&calls).context("no call")?.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_long_enough_and_of_one_operation() {
        // The first call warms up, and must not count. Nor must an interruption.
        let mut times = [1000, 4, 4, 9, 4].into_iter();
        let seconds = sample(|| {
            let time = times.next().context("one call too many")?;
            Ok((Duration::from_millis(time), 4))
        });
        assert_eq!(seconds.unwrap(), 0.001);
        assert_eq!(times.next(), None);
    }
}
