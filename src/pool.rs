// SPDX-License-Identifier: GPL-2.0

//! The memory of one bound device: who has which part of it.
//!
//! [`Pool::alloc`] takes some of it as an [`Allocation`]. Dropping that gives it to the worker
//! (`reclaim.rs`), which makes it available again when the last pin is gone and it has been zeroed.
//! `protocol/account.rs` shows where the bytes are meanwhile.
//!
//! # Lock order
//!
//! mmap lock or VMA lock → what kernfs holds in an `mmap` callback (`of->mutex`, an active
//! reference) → each one of these alone: a Buffer's lock, [`Pool::live`], [`Pool::source`],
//! [`Pool::inbox`], [`Pool::account`], [`Pool::holders`], the buddy's lock. None of these is held
//! while memory is zeroed. A fault, which zeroes what the device held before a first use, has the
//! core's first one (for reading), as it has for all memory that it zeroes; an mmap that fails may
//! zero a block under the first two.
//!
//! # Teardown
//!
//! `sysfs` first sees to it that no allocation runs and none begins. [`Pool::close`] then takes the
//! memory of every live Buffer (`protocol/lease.rs`) and waits until all bytes are available again.
//! An [`Allocation`] that another task holds at that moment, on its way to the worker, is not
//! available yet; so when they all are, nothing is left that could use workqueue
//! (`protocol/handover.rs`) or pages, and both go.

use crate::{
    abstractions::{
        folio::{Folio, FrozenFolio, PMD_ORDER},
        folio_pool::FolioPool,
        pagemap::Pagemap,
        task::{self, TaskName},
        workqueue::OwnedQueue,
    },
    buffer::Live,
    layout::{self, Layout},
    protocol::{
        account::{Account, Denied},
        handover::{self, Inbox},
        look, Lock,
    },
    reclaim::{Batch, Batches},
};
use core::pin::Pin;
use kernel::{
    device::{Bound, Device},
    new_condvar, new_mutex, new_work,
    page::{PAGE_SHIFT, PAGE_SIZE},
    prelude::*,
    sync::{Arc, CondVar, CondVarTimeoutResult, Mutex},
    time::{msecs_to_jiffies, Instant, Monotonic},
    workqueue::Work,
};

const _: () = assert!(layout::MAX_ORDER == PMD_ORDER);

/// How long an allocation waits for memory that is free of pins and only has to be zeroed, in
/// milliseconds.
const WAIT_MS: u32 = 10_000;

/// Time between two log lines of an unbind that waits, in milliseconds.
const REPORT_MS: i64 = 10_000;

/// How often a waiting unbind looks, in milliseconds.
const STEP_MS: u32 = 10;

// For `protocol`, which does not know the kernel's.
impl<T: Unpin> Lock<T> for Mutex<T> {
    fn with<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R {
        critical(&mut self.lock())
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Refused => ENODEV,
            Denied::Lacking => ENOMEM,
        }
    }
}

/// The pool.
#[pin_data]
pub(crate) struct Pool {
    #[pin]
    pub(crate) account: Mutex<Account>,
    // Signalled when bytes move in `account`, and at the end of each look.
    #[pin]
    pub(crate) moved: CondVar,
    // Signalled when a look has been asked for.
    #[pin]
    pub(crate) asked: CondVar,
    // Who had mapped what has been draining longest, and the number of other such mappings.
    #[pin]
    pub(crate) holders: Mutex<Option<(TaskName, usize)>>,
    // None once unbind has taken the pages away.
    #[pin]
    source: Mutex<Option<Arc<FolioPool>>>,
    #[pin]
    pub(crate) live: Mutex<Live>,
    #[pin]
    pub(crate) inbox: Mutex<Inbox<Batches, OwnedQueue>>,
    #[pin]
    pub(crate) work: Work<Pool>,
}

/// A folio and its place in a mapping.
pub(crate) struct Block {
    /// Offset of its first page in the mapping, in pages; what is beyond the mapping's end is its
    /// beginning (`layout.rs`).
    pub(crate) start: usize,
    /// None once the worker has found it free of references.
    pub(crate) folio: Option<Folio>,
    /// What it is from then on, until it has been zeroed.
    pub(crate) frozen: Option<FrozenFolio>,
}

/// Memory taken from a pool. Dropping it hands it to the worker, which waits for the pins.
pub(crate) struct Allocation {
    pool: Arc<Pool>,
    // None only while it is being dropped.
    batch: Option<KBox<Batch>>,
}

impl Allocation {
    /// Its blocks, in the order of [`Block::start`].
    pub(crate) fn blocks_mut(&mut self) -> &mut [Block] {
        match &mut self.batch {
            Some(batch) => batch.blocks.as_mut_slice(),
            None => &mut [],
        }
    }

    /// The pool that it was taken from.
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.pool.retire(batch);
        }
    }
}

impl Pool {
    /// Makes a pool of all of `pagemap`. May sleep.
    pub(crate) fn new(pagemap: Pin<KBox<Pagemap>>) -> Result<Arc<Self>> {
        let size = pagemap.pages() * PAGE_SIZE;
        let source = FolioPool::new(pagemap)?;
        let queue = OwnedQueue::new(c"p2pmem")?;

        Arc::pin_init(
            pin_init!(Self {
                account <- new_mutex!(Account::new(size)),
                moved <- new_condvar!(),
                asked <- new_condvar!(),
                holders <- new_mutex!(None),
                source <- new_mutex!(Some(source)),
                live <- new_mutex!(Live::new()),
                inbox <- new_mutex!(Inbox::new(queue)),
                work <- new_work!("Pool::work"),
            }),
            GFP_KERNEL,
        )
    }

    /// Where the bytes are at the moment. May sleep.
    pub(crate) fn account(&self) -> Account {
        *self.account.lock()
    }

    /// Takes `len` bytes, a multiple of the page size, in blocks that suit a mapping at `address`.
    ///
    /// `ENOMEM` if they are not available; if they only have to be zeroed, after waiting at most
    /// [`WAIT_MS`]; if somebody may still refer to them, after the worker has looked. `ERESTARTSYS`
    /// if a signal ended the wait, `ENODEV` after [`Self::refuse`]. May sleep.
    pub(crate) fn alloc(self: &Arc<Self>, address: usize, len: usize) -> Result<Allocation> {
        let source = self.source.lock().clone().ok_or(ENODEV)?;
        let batch = Batch::new(len)?;
        self.reserve(len)?;

        // From here on dropping the allocation gives back what was reserved.
        let mut allocation = Allocation {
            pool: self.clone(),
            batch: Some(batch),
        };
        if let Some(batch) = &mut allocation.batch {
            for (start, order) in Layout::new(address >> PAGE_SHIFT, len >> PAGE_SHIFT) {
                Self::fill(&source, &mut batch.blocks, start, order)?;
                task::cond_resched();
            }
        }
        Ok(allocation)
    }

    /// Appends a folio of `order`, or what it takes of smaller ones if the pool is too fragmented.
    /// What has been reserved is there: at order 0 it must succeed.
    fn fill(source: &FolioPool, blocks: &mut KVVec<Block>, start: usize, order: u8) -> Result {
        match source.alloc(order) {
            Ok(folio) => {
                blocks.push(
                    Block {
                        start,
                        folio: Some(folio),
                        frozen: None,
                    },
                    GFP_KERNEL,
                )?;
                Ok(())
            }
            Err(err) if err == ENOSPC && order > 0 => {
                let half = 1usize << (order - 1);
                Self::fill(source, blocks, start, order - 1)?;
                Self::fill(source, blocks, start + half, order - 1)
            }
            Err(_) => Err(ENOMEM),
        }
    }

    /// Moves `len` bytes out of the available ones.
    fn reserve(&self, len: usize) -> Result {
        let mut left = msecs_to_jiffies(WAIT_MS);
        let wake = || self.asked.notify_all();
        look::reserve(self.account.lock(), len, wake, |mut account| {
            left = match self.moved.wait_interruptible_timeout(&mut account, left) {
                CondVarTimeoutResult::Woken { jiffies } => jiffies,
                CondVarTimeoutResult::Timeout => return Err(ENOMEM),
                CondVarTimeoutResult::Signal { .. } => return Err(ERESTARTSYS),
            };
            Ok(account)
        })
    }

    /// Lets every allocation fail with `ENODEV`, those too that wait for memory. May sleep.
    pub(crate) fn refuse(&self) {
        self.account.lock().refuse();
        self.moved.notify_all();
    }

    /// Retires every Buffer, waits until all memory is back, however long the pins last, and takes
    /// the pages away. No allocation may run any more. May sleep.
    pub(crate) fn close(&self, dev: &Device<Bound>) {
        while let Some(live) = self.pop_live() {
            live.revoke();
        }

        let mut reported: Option<Instant<Monotonic>> = None;
        let queue = handover::close(&self.account, &self.inbox, |account| {
            // Not before the worker has looked: what only has to be zeroed is not worth a line.
            let due = reported.is_none_or(|last| last.elapsed().as_millis() >= REPORT_MS);
            if due && account.draining() > 0 {
                let holders = *self.holders.lock();
                if let Some((holder, others)) = holders {
                    dev_info!(
                        dev,
                        "unbind waits for {} KiB still pinned, mapped by {}, other mappings: {}\n",
                        account.draining() / 1024,
                        holder,
                        others
                    );
                    reported = Some(Instant::now());
                }
            }
            // Signals must not cut it short, and the hung-task watchdog has no reason to bark.
            task::sleep_idle(STEP_MS);
        });
        // Waits for the worker, which has nothing left to do.
        drop(queue);
        let source = self.source.lock().take();
        drop(source);
    }
}
