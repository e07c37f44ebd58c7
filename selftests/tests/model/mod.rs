// SPDX-License-Identifier: GPL-2.0

//! What the module's own `src/protocol/` runs on when it is model-checked: folios, page tables and
//! a workqueue, made of loom's locks and atomics. loom runs a model again and again, until every
//! interleaving has been seen that preempts tasks at most [`PREEMPTIONS`] times. When no task can go
//! on it reports a deadlock.

#![allow(dead_code, reason = "each test uses its part")]

pub mod pool;
#[path = "../../../src/protocol/mod.rs"]
pub mod protocol;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread::{self, JoinHandle};
use protocol::{lease::Monitor, Lock};
use std::sync::Arc;

/// With two, each of the mistakes is found that the tests make on purpose; one more to be safe.
const PREEMPTIONS: usize = 3;

/// Checks every interleaving of `scenario`.
pub fn check(scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(scenario);
}

impl<T> Lock<T> for Mutex<T> {
    fn with<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R {
        critical(&mut self.lock().expect("a panic ends the model"))
    }
}

/// A lock with a condition variable.
pub struct Monitored<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Monitored<T> {
    pub fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }
}

impl<T> Lock<T> for Monitored<T> {
    fn with<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R {
        self.value.with(critical)
    }
}

impl<T> Monitor<T> for Monitored<T> {
    fn wait_for<R>(&self, mut critical: impl FnMut(&mut T) -> Option<R>) -> R {
        let mut value = self.value.lock().expect("a panic ends the model");
        loop {
            if let Some(answer) = critical(&mut value) {
                return answer;
            }
            value = self.changed.wait(value).expect("a panic ends the model");
        }
    }

    fn notify_all(&self) {
        self.changed.notify_all();
    }
}

/// Memory with a count of references, the first of which is its owner's.
pub struct Folio {
    count: AtomicUsize,
    contents: UnsafeCell<()>,
}

impl Folio {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            count: AtomicUsize::new(1),
            contents: UnsafeCell::new(()),
        })
    }

    /// Takes one more reference.
    pub fn get(&self) {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        assert_ne!(count, 0, "a reference on memory that nobody owns");
    }

    pub fn put(&self) {
        let count = self.count.fetch_sub(1, Ordering::Release);
        assert!(count > 1, "the owner's reference was dropped");
    }

    /// An access by CPU or device. Fails if it is not ordered against [`Self::zero`].
    pub fn touch(&self) {
        self.contents.with(|_| ());
    }

    /// Takes the owner's reference if it is the only one.
    pub fn try_freeze(&self) -> bool {
        self.count
            .compare_exchange(1, 0, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Overwrites it: a frozen folio, or one that nobody has seen yet.
    pub fn zero(&self) {
        self.contents.with_mut(|_| ());
    }

    /// The device is gone, and the folio with it.
    pub fn remove(&self) {
        let count = self.count.load(Ordering::Acquire);
        assert_eq!(count, 0, "memory was removed that was not back");
        self.zero();
    }
}

/// A mapping of one folio: a page table with one entry, and its lock.
pub struct Vma {
    folio: Arc<Folio>,
    present: Mutex<bool>,
}

impl Vma {
    pub fn new(folio: &Arc<Folio>) -> Arc<Self> {
        Arc::new(Self {
            folio: folio.clone(),
            present: Mutex::new(false),
        })
    }

    pub fn folio(&self) -> &Folio {
        &self.folio
    }

    /// What a fault does in the end. The entry holds a reference.
    pub fn insert(&self) {
        self.present.with(|present| {
            if !*present {
                self.folio.get();
                *present = true;
            }
        });
    }

    /// Takes a pin through the entry, if there is one.
    pub fn pin(&self) -> bool {
        self.present.with(|present| {
            if *present {
                self.folio.get();
            }
            *present
        })
    }

    /// Removes the entry.
    pub fn zap(&self) {
        self.present.with(|present| {
            if *present {
                self.folio.put();
                *present = false;
            }
        });
    }

    pub fn is_present(&self) -> bool {
        self.present.with(|present| *present)
    }
}

/// The VMAs that are linked to one file.
#[derive(Default)]
pub struct Mapping(Mutex<Vec<Arc<Vma>>>);

impl Mapping {
    pub fn link(&self, vma: &Arc<Vma>) {
        self.0.with(|vmas| vmas.push(vma.clone()));
    }

    /// Removes the entries of the VMAs that are linked now.
    pub fn zap(&self) {
        self.0.with(|vmas| vmas.iter().for_each(|vma| vma.zap()));
    }

    pub fn has_entry(&self) -> bool {
        self.0.with(|vmas| vmas.iter().any(|vma| vma.is_present()))
    }
}

/// A workqueue with one work item, as the kernel has it: work that is queued while it runs is run
/// once more, work that is queued already is not queued twice.
pub struct Workqueue {
    state: Mutex<State>,
    changed: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    pending: bool,
    destroyed: bool,
}

impl Workqueue {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            thread: Mutex::default(),
        })
    }

    /// Says what the work is.
    pub fn start(self: &Arc<Self>, work: impl Fn() + 'static) {
        let queue = self.clone();
        let thread = thread::spawn(move || {
            while queue.next() {
                work();
            }
        });
        self.thread.with(|place| *place = Some(thread));
    }

    /// Waits for work; false when there will be none.
    fn next(&self) -> bool {
        let mut state = self.state.lock().expect("a panic ends the model");
        loop {
            if state.pending {
                state.pending = false;
                return true;
            }
            if state.destroyed {
                return false;
            }
            state = self.changed.wait(state).expect("a panic ends the model");
        }
    }

    /// Queues the work.
    pub fn enqueue(&self) {
        self.state.with(|state| {
            assert!(!state.destroyed, "work was queued on a destroyed workqueue");
            state.pending = true;
        });
        self.changed.notify_one();
    }

    /// Waits for the work that is queued or running.
    pub fn destroy(&self) {
        self.state.with(|state| state.destroyed = true);
        self.changed.notify_one();
        if let Some(thread) = self.thread.with(Option::take) {
            thread.join().expect("a panic ends the model");
        }
    }
}
