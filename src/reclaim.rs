// SPDX-License-Identifier: GPL-2.0

//! The way back of memory whose owner is gone: drain → zero → free.
//!
//! The task that unmaps only queues its [`Batch`]: it may itself hold the pins, and would wait for
//! itself. One worker for each pool looks whether the folios are free of references, zeroes and
//! frees those that are, and looks again at the others until none is left. It looks at all of them
//! before it zeroes any: a look is quick, zeroing is not.
//! How the two meet is in `protocol/handover.rs`, and how an allocation gets a look in
//! `protocol/look.rs`.

use crate::{
    abstractions::{
        rcu::GracePeriod,
        task::{self, TaskName},
    },
    pool::{Block, Pool},
    protocol::{account::Share, handover, look},
};
use core::mem;
use kernel::{
    impl_has_work,
    prelude::*,
    sync::Arc,
    time::{msecs_to_jiffies, Delta, Instant, Monotonic},
    workqueue::WorkItem,
};

/// Longest pause between two looks at folios that are pinned, in milliseconds, unless the looks
/// themselves take long: then [`SHARE`] times as long as the last one. An allocation that needs
/// what may be pinned ends the pause.
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
    /// What it has in the account; more than `blocks` if it could not be filled.
    share: Share,
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
                share: Share::new(bytes),
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
            batch.share.len(),
            |waiting| waiting.push(batch),
            // An error means that it is queued already, and so will run after this.
            |queue| {
                let _ = queue.enqueue::<Arc<Self>, 0>(self.clone());
            },
        );
    }

    /// Looks which folios of `batch` nobody refers to any more; nobody can then do so again. Returns
    /// whether any is left.
    fn look(&self, batch: &mut Batch) -> bool {
        let Some(unmapped) = batch.unmapped else {
            return false;
        };
        let (mut free, mut pinned) = (0, 0);
        for block in batch.blocks.iter_mut() {
            let Some(folio) = block.folio.take() else {
                continue;
            };
            let bytes = folio.bytes();
            match folio.try_freeze(unmapped) {
                Ok(frozen) => {
                    block.frozen = Some(frozen);
                    free += bytes;
                }
                Err(folio) => {
                    block.folio = Some(folio);
                    pinned += bytes;
                }
            }
        }
        self.account.lock().looked(&mut batch.share, free, pinned);
        pinned > 0
    }

    /// Looks at all of `batches`. Notes whose mappings had what is pinned.
    fn look_at_all(&self, batches: &mut Batches) {
        let mut unseen = mem::take(batches).reversed();
        let mut holders: Option<(TaskName, usize)> = None;
        while let Some(mut batch) = unseen.pop() {
            if self.look(&mut batch) {
                let others = holders.map_or(0, |(_, others)| others + 1);
                holders = Some((holders.map_or(batch.owner, |(first, _)| first), others));
            }
            batches.push(batch);
            task::cond_resched();
        }
        *self.holders.lock() = holders;
    }

    /// Zeroes what the looks have found free of `batch`, folio by folio, and frees it, unless that has
    /// to wait for a grace period and must not; until `enough` says so while another look is due.
    /// Returns whether that was so.
    fn free(&self, batch: &mut Batch, may_wait: bool, enough: &impl Fn() -> bool) -> bool {
        let mut interrupted = false;
        batch.blocks.retain(|block| {
            let Some(frozen) = block.frozen.as_mut().filter(|_| !interrupted) else {
                return true;
            };
            // No lock is held.
            frozen.zero();
            let bytes = frozen.bytes();
            let freed = may_wait || !frozen.has_to_wait();
            if freed {
                block.frozen = None;
            }

            let mut account = self.account.lock();
            if freed {
                account.free(bytes);
            }
            interrupted = account.is_look_due() && enough();
            drop(account);
            if freed {
                self.moved.notify_all();
            }
            !freed
        });
        interrupted
    }

    /// Frees what can be freed of `batches`, at least for as long as the look `took`: else many who
    /// ask would keep the worker from zeroing. Returns whether it stopped for a look that is due.
    fn free_all(&self, batches: &mut Batches, took: Delta) -> bool {
        let started = Instant::<Monotonic>::now();
        let enough = || started.elapsed().as_nanos() >= took.as_nanos();
        let mut interrupted = false;
        // The grace period of what is zeroed first may end while the rest is zeroed.
        for may_wait in [false, true] {
            let mut seen = mem::take(batches).reversed();
            while let Some(mut batch) = seen.pop() {
                interrupted = interrupted || self.free(&mut batch, may_wait, &enough);
                if !batch.blocks.is_empty() {
                    batches.push(batch);
                }
            }
        }
        interrupted
    }

    /// Sleeps for `ms` milliseconds, or until a look is asked for.
    fn pause(&self, ms: u32) {
        look::pause(self.account.lock(), |mut account| {
            // Interruptible only to be no burden on the load average: a worker gets no signals.
            let _ = self
                .asked
                .wait_interruptible_timeout(&mut account, msecs_to_jiffies(ms));
        });
    }
}

impl WorkItem for Pool {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        // The batches that have not been freed yet, the last to come first.
        let mut batches = Batches::default();
        let mut pause_ms = 1;

        handover::work(&this.account, &this.inbox, |new| {
            let mut new = new.reversed();
            while let Some(batch) = new.pop() {
                batches.push(batch);
                pause_ms = 1;
            }

            let started = Instant::<Monotonic>::now();
            look::look(
                &this.account,
                || this.look_at_all(&mut batches),
                || this.moved.notify_all(),
            );
            let took = started.elapsed();

            let interrupted = this.free_all(&mut batches, took);
            if batches.is_empty() {
                return false;
            }
            if !interrupted {
                let took_ms = u32::try_from(took.as_millis()).unwrap_or(LOOK_MS);
                this.pause(pause_ms.max(took_ms.saturating_mul(SHARE)));
                pause_ms = (pause_ms * 2).min(LOOK_MS);
            }
            true
        });
    }
}
