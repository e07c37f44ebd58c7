// SPDX-License-Identifier: GPL-2.0

//! The first fault that comes to a block zeroes what the device held. Others meanwhile.

use super::THEIRS;
use crate::child::Child;
use crate::device::{Bound, LARGE_CMB, LEGACY_CMB, PLAIN};
use crate::kmsg::Log;
use crate::mapping::{free_address, Mapping, HUGE, PAGE};
use crate::{pace, poll};
use anyhow::{ensure, Result};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;

/// Faults that one takes at least while another zeroes a block of a controller memory buffer. Each
/// word of that is a transaction of its own, even of an emulated one.
const FAULTS: usize = 20;

/// How far a child has come, as its parent sees it.
struct Stage(Mapping);

impl Stage {
    const BEGUN: u64 = 1;
    const DONE: u64 = 2;

    fn new() -> Result<Stage> {
        Ok(Stage(Mapping::anonymous(PAGE)?))
    }

    fn set(&self, stage: u64) {
        self.0.write(0, stage);
    }

    fn is(&self, stage: u64) -> bool {
        self.0.read(0) >= stage
    }

    fn wait_for(&self, stage: u64) -> Result<()> {
        poll::until("the other has come that far", || Ok(self.is(stage)))
    }

    fn spin_until(&self, stage: u64) {
        while !self.is(stage) {
            std::hint::spin_loop();
        }
    }
}

/// All of the device, at an address that suits 2 MiB entries.
fn map_all(bound: &Bound) -> Result<Mapping> {
    let size = bound.size()?;
    bound.map_at(size, free_address(size, 0)?)
}

/// The lock of the mapping's memory is not held.
pub fn one_block_can_be_touched_while_another_is_zeroed() -> Result<()> {
    let bound = Bound::new(LEGACY_CMB)?;
    bound.map_at(HUGE, free_address(HUGE, 0)?)?.touch();
    bound.wait_all_free()?;
    // Its first block has been used.
    let mapping = map_all(&bound)?;
    let stage = Stage::new()?;
    let mut faults = Vec::new();
    for block in 1..mapping.len() / HUGE {
        stage.set(0);
        let zeroing = Child::start(|| {
            stage.set(Stage::BEGUN);
            mapping.read(block * HUGE);
            stage.set(Stage::DONE);
            Ok(())
        })?;
        stage.wait_for(Stage::BEGUN)?;
        faults.push(0);
        while !stage.is(Stage::DONE) {
            mapping.advise(0..HUGE, libc::MADV_DONTNEED)?;
            mapping.read(0);
            faults[block - 1] += 1;
        }
        zeroing.succeed()?;
    }
    // Now and then one of the two gets no processor.
    faults.sort_unstable();
    ensure!(faults[faults.len() / 2] >= FAULTS, "{faults:?}");
    Ok(())
}

/// Who comes second waits for the first, and neither zeroes what the other has written.
pub fn several_touch_a_block_at_once() -> Result<()> {
    const OTHERS: usize = 3;
    let bound = Bound::to_be(PLAIN)?;
    for _ in 0..pace::scaled(10) {
        PLAIN.with_raw_bar(2, |bar| {
            bar.fill(THEIRS);
            Ok(())
        })?;
        bound.bind()?;
        let mapping = map_all(&bound)?;
        let stage = Stage::new()?;
        let blocks = (mapping.len() / HUGE) as u64;
        let touch = |number: usize| {
            for block in 0..blocks {
                stage.spin_until(1 + block);
                let start = block as usize * HUGE;
                ensure!(mapping.read(start + number * PAGE) == 0, "block {block}");
                mapping.write(start + number * PAGE, 1 + block);
                ensure!(mapping.read(start + HUGE - PAGE) == 0, "block {block}");
            }
            Ok(())
        };
        let others: Vec<Child> = (1..=OTHERS)
            .map(|number| Child::start(|| touch(number)))
            .collect::<Result<_>>()?;
        for block in 0..blocks {
            stage.set(1 + block);
            mapping.read(block as usize * HUGE);
        }
        others.into_iter().try_for_each(Child::succeed)?;
        for block in 0..blocks {
            for number in 1..=OTHERS {
                let page = block as usize * HUGE + number * PAGE;
                assert_eq!(mapping.read(page), 1 + block, "{number}");
            }
        }
        drop(mapping);
        bound.unbind()?;
    }
    Ok(())
}

/// To unbind, a block that is being zeroed is one that is pinned.
pub fn unbind_while_a_block_is_zeroed() -> Result<()> {
    const LEN: usize = 32 * HUGE;
    let bound = Bound::to_be(LARGE_CMB)?;
    let stage = Stage::new()?;
    let mut log = Log::from_now()?;
    // Between two blocks there is nothing to wait for.
    poll::until("unbind has waited for it", || {
        LARGE_CMB.with_raw_bar(2, |bar| {
            bar.sparsely().fill(THEIRS);
            Ok(())
        })?;
        bound.bind()?;
        let mapping = bound.map_at(LEN, free_address(LEN, 0)?)?;
        stage.set(0);
        let zeroing = Child::start(|| {
            stage.set(Stage::BEGUN);
            for block in 0..LEN / HUGE {
                ensure!(mapping.read(block * HUGE) == 0, "block {block}");
            }
            Ok(())
        })?;
        stage.wait_for(Stage::BEGUN)?;
        bound.unbind()?;
        let end = zeroing.wait()?;
        if matches!(end, WaitStatus::Exited(_, 0)) {
            // Unbind came late.
            return Ok(false);
        }
        ensure!(
            matches!(end, WaitStatus::Signaled(_, Signal::SIGBUS, _)),
            "{end:?}"
        );
        LARGE_CMB.with_raw_bar(2, |bar| bar.split(LEN).0.sparsely().check_zero())?;
        let lines = log.of_device(LARGE_CMB.0)?;
        Ok(lines.iter().any(|line| line.text.contains("unbind waits")))
    })
}
