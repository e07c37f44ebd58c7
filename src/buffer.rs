// SPDX-License-Identifier: GPL-2.0

//! What one `mmap` owns: an anonymous file and the memory behind it.
//!
//! # Life
//!
//! A Buffer has its [`Allocation`] until it is taken away: by the last unmapping
//! ([`MappedFile::release`]) or by unbind ([`LiveBuffer::revoke`]), whichever comes first.
//!
//! # Races
//!
//! - Faults, the last unmapping and unbind against each other, and faults on memory that has to be
//!   zeroed first: `protocol/lease.rs`.
//! - A 2 MiB fault against a 4 KiB fault: both hold the lock, and each looks at the page table
//!   again under it (`abstractions/fault.rs`).
//! - Registration against unbind: sysfs runs no `mmap` callback any more when unbind begins.

use crate::{
    abstractions::{
        anon_file::{AnonFile, MappedFile, Mapping},
        fault::{Fault, Outcome},
        folio::{Folio, Readiness, PMD_ORDER},
        vma::VmaExt,
    },
    layout,
    pool::{Allocation, Block, Pool},
    protocol::{
        lease::{self, Found, Monitor},
        Lock,
    },
};
use core::ops::Range;
use kernel::{
    mm::virt::VmaNew,
    new_condvar, new_mutex,
    prelude::*,
    rbtree::RBTree,
    str::CStr,
    sync::{Arc, ArcBorrow, CondVar, Mutex},
    ThisModule,
};

/// 2 MiB entries that one fault makes at most. More would hardly save time; but what has been mapped
/// must be zeroed before others get it, used or not.
const HUGE_ENTRIES: usize = 16;

/// The Buffer.
#[pin_data]
pub(crate) struct Buffer {
    // None once it has been taken away.
    #[pin]
    allocation: Mutex<Option<Allocation>>,
    // Signalled when a block has been zeroed for its first use.
    #[pin]
    zeroed: CondVar,
}

impl Lock<Option<Allocation>> for Buffer {
    fn with<R>(&self, critical: impl FnOnce(&mut Option<Allocation>) -> R) -> R {
        self.allocation.with(critical)
    }
}

impl Monitor<Option<Allocation>> for Buffer {
    fn wait_for<R>(&self, mut critical: impl FnMut(&mut Option<Allocation>) -> Option<R>) -> R {
        let mut allocation = self.allocation.lock();
        loop {
            if let Some(answer) = critical(&mut allocation) {
                return answer;
            }
            // For as long as it takes to zero a block.
            self.zeroed.wait(&mut allocation);
        }
    }

    fn notify_all(&self) {
        self.zeroed.notify_all();
    }
}

/// A Buffer that has not been released, and the mapping to zap at unbind.
pub(crate) struct LiveBuffer {
    buffer: Arc<Buffer>,
    mapping: Mapping,
}

/// The Buffers of a pool, by address.
pub(crate) struct Live(RBTree<usize, LiveBuffer>);

impl Live {
    /// No Buffers.
    pub(crate) fn new() -> Self {
        Self(RBTree::new())
    }
}

impl Pool {
    /// The `mmap` callback of `p2pmem/allocate`.
    ///
    /// `EINVAL` for a private mapping or one with an offset, errors of [`Pool::alloc`]. No mapping
    /// is executable, or can be made so: the core sees to that for files in sysfs (`SB_I_NOEXEC`,
    /// fs/kernfs/mount.c). May sleep; mmap lock held for writing.
    pub(crate) fn map(self: &Arc<Self>, vma: &VmaNew) -> Result<AnonFile<Buffer>> {
        if !vma.may_share() || vma.pgoff() != 0 {
            return Err(EINVAL);
        }
        let allocation = self.alloc(vma.start(), vma.end() - vma.start())?;
        let buffer = Arc::pin_init(
            pin_init!(Buffer {
                allocation <- new_mutex!(Some(allocation)),
                zeroed <- new_condvar!(),
            }),
            GFP_KERNEL,
        )?;
        let file = AnonFile::new(buffer.clone())?;
        self.live.lock().0.try_create_and_insert(
            Arc::as_ptr(&buffer) as usize,
            LiveBuffer {
                buffer,
                mapping: file.mapping(),
            },
            GFP_KERNEL,
        )?;
        Ok(file)
    }

    /// Takes a Buffer out of the live ones.
    pub(crate) fn pop_live(&self) -> Option<LiveBuffer> {
        let mut live = self.live.lock();
        let key = *live.0.keys().next()?;
        live.0.remove(&key)
    }
}

impl LiveBuffer {
    /// Takes the memory away from whoever still maps it. May sleep.
    pub(crate) fn revoke(self) {
        let allocation = lease::revoke(&*self.buffer, || self.mapping.zap());
        // No entry is left: the memory is the worker's.
        drop(allocation);
    }
}

impl Buffer {
    /// Runs `insert` on `fault` and the mapping's blocks when a process may see the memory that was
    /// touched. Zeroes it first if need be, without the lock. Without memory the answer is SIGBUS.
    fn answer(
        &self,
        fault: &mut Fault<'_>,
        insert: impl Fn(&mut Fault<'_>, &mut [Block]) -> Outcome,
    ) -> Outcome {
        let offset = fault.page_offset();
        let outcome = lease::fault(self, |allocation: &mut Allocation| {
            let blocks = allocation.blocks_mut();
            let Some((folio, _)) = find(blocks, offset) else {
                return Some(Found::Done(Outcome::SIGBUS));
            };
            match folio.readiness() {
                Readiness::Ready => Some(Found::Done(insert(fault, blocks))),
                Readiness::BeingZeroed => None,
                Readiness::Foreign(zeroing) => Some(Found::Unclean(move || {
                    let zeroed = zeroing.run();
                    move |allocation: &mut Allocation| {
                        if let Some((folio, _)) = find(allocation.blocks_mut(), offset) {
                            zeroed.note(folio);
                        }
                    }
                })),
            }
        });
        outcome.unwrap_or(Outcome::SIGBUS)
    }
}

/// Finds the folio that page `offset` of the mapping lies in, and the number of that page in it.
fn find(blocks: &mut [Block], offset: usize) -> Option<(&mut Folio, usize)> {
    let pages = |block: &Block| block.folio.as_ref().map_or(0, Folio::nr_pages);
    let (number, index) = layout::locate(blocks, |block| block.start, pages, offset)?;
    Some((blocks.get_mut(number)?.folio.as_mut()?, index))
}

/// Adds entries for pages `offsets` of the mapping, as [`Fault::insert_around`] does.
fn insert_around(fault: &mut Fault<'_>, blocks: &mut [Block], mut offsets: Range<usize>) {
    while !offsets.is_empty() {
        let Some((folio, index)) = find(blocks, offsets.start) else {
            break;
        };
        let end = offsets.end.min(offsets.start + folio.nr_pages() - index);
        fault.insert_around(offsets.start..end, folio, index);
        offsets.start = end;
    }
}

/// Answers a fault with 4 KiB entries, for all that the VMA maps through the same table.
fn insert_small(fault: &mut Fault<'_>, blocks: &mut [Block]) -> Outcome {
    let Some((folio, index)) = find(blocks, fault.page_offset()) else {
        return Outcome::SIGBUS;
    };
    let outcome = fault.insert_page(folio, index);
    if outcome == Outcome::DONE {
        // To map all of a table takes little longer than one more fault.
        let (touched, around) = (fault.page_offset(), fault.around());
        insert_around(fault, blocks, around.start..touched);
        insert_around(fault, blocks, touched + 1..around.end);
    }
    outcome
}

/// Answers a fault with 2 MiB entries, or [`Outcome::FALLBACK`].
fn insert_huge(fault: &mut Fault<'_>, blocks: &mut [Block]) -> Outcome {
    let offset = fault.page_offset();
    let Some((folio, index)) = find(blocks, offset) else {
        // Without a folio there is no memory, whatever the size of entry.
        return Outcome::SIGBUS;
    };
    let Some(start) = offset.checked_sub(index) else {
        // The block begins at the end of the mapping.
        return Outcome::FALLBACK;
    };
    let outcome = fault.insert_huge(folio, start);
    if outcome == Outcome::DONE {
        for start in (start..).step_by(1 << PMD_ORDER).take(HUGE_ENTRIES).skip(1) {
            let more = find(blocks, start)
                .is_some_and(|(folio, index)| index == 0 && fault.insert_huge_after(folio, start));
            if !more {
                break;
            }
        }
    }
    outcome
}

impl MappedFile for Buffer {
    const NAME: &'static CStr = c"[p2pmem]";
    const MODULE: &'static ThisModule = &crate::THIS_MODULE;

    fn fault(this: ArcBorrow<'_, Self>, fault: &mut Fault<'_>) -> Outcome {
        this.answer(fault, insert_small)
    }

    fn huge_fault(this: ArcBorrow<'_, Self>, fault: &mut Fault<'_>) -> Outcome {
        this.answer(fault, |fault, blocks| {
            let outcome = insert_huge(fault, blocks);
            // Small entries are made here too: on its way from here to `fault` the kernel makes a
            // page table of its own first. To a huge one nothing can be added: the kernel has to
            // split it.
            if outcome == Outcome::FALLBACK && !fault.is_huge() {
                return insert_small(fault, blocks);
            }
            outcome
        })
    }

    fn release(this: ArcBorrow<'_, Self>) {
        // The locks are not held while the memory is handed over.
        if let Some(allocation) = lease::release(&*this) {
            let key = Arc::as_ptr(&Arc::from(this)) as usize;
            let live = allocation.pool().live.lock().0.remove(&key);
            drop(live);
        }
    }
}
