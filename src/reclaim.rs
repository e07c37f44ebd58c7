// SPDX-License-Identifier: GPL-2.0

//! The way back of memory whose owner is gone: drain → zero → free.
//!
//! The task that unmaps only queues its [`Batch`]: it may itself hold the pins, and would wait for
//! itself. One worker for each pool looks whether the folios are free of references, zeroes and
//! frees those that are, and looks again at the others until none is left.
//! How the two meet is in `protocol/handover.rs`.

use crate::{
    abstractions::{
        rcu::GracePeriod,
        task::{self, TaskName},
    },
    pool::{Block, Pool},
    protocol::handover,
};
use core::mem;
use kernel::{
    impl_has_work,
    prelude::*,
    sync::Arc,
    time::{Instant, Monotonic},
    workqueue::WorkItem,
};

/// Longest pause between two looks at folios that are pinned, in milliseconds, unless the looks
/// themselves take long: then [`SHARE`] times as long as the last one.
///
/// With what it takes to zero the memory, and whatever else was unmapped meanwhile, this is the
/// time from the last unpin until the memory is available.
const LOOK_MS: u32 = 8;

/// The worker looks at most a fifth of the time.
const SHARE: u32 = 4;

/// What one mapping had.
pub(crate) struct Batch {
    /// Its memory, in the order of [`Block::start`].
    pub(crate) blocks: KVVec<Block>,
    /// What has been reserved for it, in bytes; more than `blocks` if it could not be filled.
    bytes: usize,
    owner: TaskName,
    next: Option<KBox<Batch>>,
    // Started when the last mapping was gone.
    unmapped: Option<GracePeriod>,
}

impl Batch {
    /// An empty batch for `bytes` that have been reserved, owned by the running task.
    pub(crate) fn new(bytes: usize) -> Result<KBox<Self>> {
        Ok(KBox::new(
            Self {
                blocks: KVVec::new(),
                bytes,
                owner: TaskName::current(),
                next: None,
                unmapped: None,
            },
            GFP_KERNEL,
        )?)
    }
}

/// A list of batches. Linked through the batches, so that nothing is allocated to free memory.
#[derive(Default)]
pub(crate) struct Batches(Option<KBox<Batch>>);

impl Batches {
    fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    fn push(&mut self, mut batch: KBox<Batch>) {
        batch.next = self.0.take();
        self.0 = Some(batch);
    }

    fn pop(&mut self) -> Option<KBox<Batch>> {
        let mut batch = self.0.take()?;
        self.0 = batch.next.take();
        Some(batch)
    }

    fn reversed(mut self) -> Self {
        let mut other = Self::default();
        while let Some(batch) = self.pop() {
            other.push(batch);
        }
        other
    }
}

impl_has_work! {
    impl HasWork<Self> for Pool { self.work }
}

impl Pool {
    /// Hands memory that nobody maps any more to the worker. May sleep.
    pub(crate) fn retire(self: &Arc<Self>, mut batch: KBox<Batch>) {
        batch.unmapped = Some(GracePeriod::start());

        handover::hand_over(
            &self.account,
            &self.inbox,
            batch.bytes,
            |waiting| waiting.push(batch),
            // An error means that it is queued already, and so will run after this.
            |queue| {
                let _ = queue.enqueue::<Arc<Self>, 0>(self.clone());
            },
        );
    }

    /// Frees what can be freed of `batch`.
    fn collect(&self, batch: &mut Batch) {
        let Some(unmapped) = batch.unmapped else {
            return;
        };
        let mut left = 0;

        batch.blocks.retain(|block| {
            let Some(folio) = block.folio.take() else {
                return false;
            };
            let bytes = folio.bytes();
            match folio.try_freeze(unmapped) {
                Ok(frozen) => {
                    // Zeroes, waits for the grace period and frees. No lock is held.
                    drop(frozen);
                    self.freed(bytes, block.draining);
                    batch.bytes -= bytes;
                    false
                }
                Err(folio) => {
                    left += bytes;
                    block.folio = Some(folio);
                    if !mem::replace(&mut block.draining, true) {
                        self.account.lock().drain(bytes);
                        self.moved.notify_all();
                    }
                    true
                }
            }
        });
        // What was reserved but never filled.
        if batch.bytes > left {
            self.freed(batch.bytes - left, false);
            batch.bytes = left;
        }
    }

    fn freed(&self, bytes: usize, draining: bool) {
        self.account.lock().free(bytes, draining);
        self.moved.notify_all();
    }
}

impl WorkItem for Pool {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // The batches that are pinned, the last to come first.
        let mut pinned = Batches::default();
        let mut pause_ms = 1;

        handover::work(&this.inbox, |new| {
            let mut new = new.reversed();
            while let Some(batch) = new.pop() {
                pinned.push(batch);
                pause_ms = 1;
            }

            let started = Instant::<Monotonic>::now();
            let mut look = mem::take(&mut pinned).reversed();
            let mut holders: Option<(TaskName, usize)> = None;
            while let Some(mut batch) = look.pop() {
                this.collect(&mut batch);
                if !batch.blocks.is_empty() {
                    let others = holders.map_or(0, |(_, others)| others + 1);
                    holders = Some((holders.map_or(batch.owner, |(first, _)| first), others));
                    pinned.push(batch);
                }
            }
            *this.holders.lock() = holders;

            if pinned.is_empty() {
                return false;
            }
            let look_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(LOOK_MS);
            pause_ms = pause_ms.max(look_ms.saturating_mul(SHARE));
            task::sleep_idle(pause_ms);
            pause_ms = (pause_ms * 2).min(LOOK_MS);
            true
        });
    }
}
