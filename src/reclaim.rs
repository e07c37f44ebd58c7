// SPDX-License-Identifier: GPL-2.0

//! The way back of memory whose owner is gone: drain → zero → free.
//!
//! The task that unmaps only queues its [`Batch`]: it may itself hold the pins, and would wait for
//! itself. One worker for each pool looks whether the folios are free of references, zeroes and
//! frees those that are, and looks again at the others until none is left.
//!
//! A batch is queued and the worker is kicked under one lock. A worker that finds the list empty
//! under that lock may therefore stop, and once a batch's memory is back, whoever queued it no
//! longer uses the workqueue.

use crate::{
    abstractions::{
        rcu::GracePeriod,
        task::{self, TaskName},
        workqueue::OwnedQueue,
    },
    pool::{Block, Pool},
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
struct Batches(Option<KBox<Batch>>);

impl Batches {
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
        let mut other = Self(None);
        while let Some(batch) = self.pop() {
            other.push(batch);
        }
        other
    }
}

/// What waits for the worker, and what the worker runs on.
pub(crate) struct Retired {
    batches: Batches,
    // None once the pool is closed.
    queue: Option<OwnedQueue>,
}

impl Retired {
    /// Nothing yet, with the queue to run on.
    pub(crate) fn new(queue: OwnedQueue) -> Self {
        Self {
            batches: Batches(None),
            queue: Some(queue),
        }
    }

    /// Takes the queue away; dropping it waits for the worker.
    pub(crate) fn take_queue(&mut self) -> Option<OwnedQueue> {
        self.queue.take()
    }
}

impl_has_work! {
    impl HasWork<Self> for Pool { self.work }
}

impl Pool {
    /// Hands memory that nobody maps any more to the worker. May sleep.
    pub(crate) fn retire(self: &Arc<Self>, mut batch: KBox<Batch>) {
        batch.unmapped = Some(GracePeriod::start());

        let mut retired = self.retired.lock();
        self.account.lock().returning += batch.bytes;
        retired.batches.push(batch);
        if let Some(queue) = &retired.queue {
            // An error means that it is queued already, and so will run after this.
            let _ = queue.enqueue::<Arc<Self>, 0>(self.clone());
        }
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
                        let mut account = self.account.lock();
                        account.returning -= bytes;
                        account.draining += bytes;
                        drop(account);
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

    fn freed(&self, bytes: usize, was_draining: bool) {
        let mut account = self.account.lock();
        if was_draining {
            account.draining -= bytes;
        } else {
            account.returning -= bytes;
        }
        account.available += bytes;
        drop(account);
        self.moved.notify_all();
    }
}

impl WorkItem for Pool {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // The batches that are pinned, the last to come first.
        let mut pinned = Batches(None);
        let mut pause_ms = 1;

        loop {
            let mut retired = this.retired.lock();
            let mut new = mem::replace(&mut retired.batches, Batches(None)).reversed();
            drop(retired);
            while let Some(batch) = new.pop() {
                pinned.push(batch);
                pause_ms = 1;
            }

            let started = Instant::<Monotonic>::now();
            let mut look = mem::replace(&mut pinned, Batches(None)).reversed();
            let mut holders: Option<(TaskName, usize)> = None;
            while let Some(mut batch) = look.pop() {
                this.collect(&mut batch);
                if !batch.blocks.is_empty() {
                    let others = holders.map_or(0, |(_, others)| others + 1);
                    holders = Some((holders.map_or(batch.owner, |(first, _)| first), others));
                    pinned.push(batch);
                }
            }
            this.account.lock().holders = holders;

            if pinned.0.is_none() {
                if this.retired.lock().batches.0.is_none() {
                    return;
                }
                continue;
            }
            let look_ms = u32::try_from(started.elapsed().as_millis()).unwrap_or(LOOK_MS);
            pause_ms = pause_ms.max(look_ms.saturating_mul(SHARE));
            task::sleep_idle(pause_ms);
            pause_ms = (pause_ms * 2).min(LOOK_MS);
        }
    }
}
