// SPDX-License-Identifier: GPL-2.0

//! Where the bytes of a pool are.
//!
//! ```text
//!               reserve                retire               looked                free
//!   available ──────────► a mapping's ────────► retired ─────┬──► returning ────────► available
//!                                                   │ looked │
//!                                                   ▼        │ looked
//!                                                draining ───┘
//! ```
//!
//! Nobody is told when the last pin of a folio goes: the worker looks, again and again, at all that
//! nobody owns. What returns is free of references and sure to come back. What is retired or drains
//! may be, so that only a look tells whether an allocation can have it: one that begins after the
//! allocation asked.

/// The account. What it does not count is with mappings.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    size: usize,
    available: usize,
    retired: usize,
    returning: usize,
    draining: usize,
    refused: bool,
    // The worker's looks, counted.
    begun: u64,
    ended: u64,
    asked: u64,
}

/// What one mapping has in the account, from the time that nobody owns it until a look has found it
/// free of references.
pub(crate) struct Share {
    retired: usize,
    draining: usize,
}

/// What came of an attempt to reserve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Attempt {
    /// The bytes are reserved.
    Done,
    /// There will be enough when what returns has been zeroed.
    NotYet,
    /// The look of this number, which has been asked for, will show whether there is enough.
    Unseen(u64),
}

/// Why nothing can be reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denied {
    /// Unbind has begun.
    Refused,
    /// There is not that much, or others have it.
    Lacking,
}

impl Share {
    /// `len` bytes that no look has seen.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            retired: len,
            draining: 0,
        }
    }

    /// All bytes of it.
    pub(crate) fn len(&self) -> usize {
        self.retired + self.draining
    }
}

impl Account {
    /// `size` bytes, all available.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            available: size,
            retired: 0,
            returning: 0,
            draining: 0,
            refused: false,
            begun: 0,
            ended: 0,
            asked: 0,
        }
    }

    /// All bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Bytes that can be allocated.
    pub(crate) fn available(&self) -> usize {
        self.available
    }

    /// Bytes that nobody owns, but that the last look has seen to be pinned.
    pub(crate) fn draining(&self) -> usize {
        self.draining
    }

    /// Whether no byte is with anybody.
    pub(crate) fn is_whole(&self) -> bool {
        self.available == self.size
    }

    /// Takes `len` bytes for a mapping, or asks for a look if only that tells whether they are
    /// there. `look` is the one that the last attempt came to wait for, if it did.
    pub(crate) fn reserve(&mut self, len: usize, look: Option<u64>) -> Result<Attempt, Denied> {
        if self.refused {
            return Err(Denied::Refused);
        }
        if self.available >= len {
            self.available -= len;
            return Ok(Attempt::Done);
        }
        let sure = self.available + self.returning;
        if sure >= len {
            return Ok(Attempt::NotYet);
        }
        let possible = match look {
            Some(look) if look > self.ended => return Ok(Attempt::Unseen(look)),
            // What that look found pinned is out of the question; what came since is not.
            Some(_) => self.retired,
            None => self.retired + self.draining,
        };
        if sure + possible < len {
            return Err(Denied::Lacking);
        }
        self.asked = self.begun + 1;
        Ok(Attempt::Unseen(self.asked))
    }

    /// From now on nothing can be reserved.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    /// A mapping gives `len` bytes back.
    pub(crate) fn retire(&mut self, len: usize) {
        self.retired += len;
    }

    /// The worker begins a look at all that it has in hand.
    pub(crate) fn begin_look(&mut self) {
        self.begun += 1;
    }

    /// That look has ended.
    pub(crate) fn end_look(&mut self) {
        self.ended = self.begun;
    }

    /// Whether somebody waits for a look that has not begun yet.
    pub(crate) fn is_look_due(&self) -> bool {
        self.begun < self.asked
    }

    /// A look has found `free` bytes of `share` free of references and `pinned` bytes pinned. The
    /// rest was reserved, but never filled.
    pub(crate) fn looked(&mut self, share: &mut Share, free: usize, pinned: usize) {
        self.retired -= share.retired;
        self.draining -= share.draining;
        self.returning += free;
        self.draining += pinned;
        self.available += share.len() - free - pinned;
        *share = Share {
            retired: 0,
            draining: pinned,
        };
    }

    /// `len` bytes that return can be allocated again.
    pub(crate) fn free(&mut self, len: usize) {
        self.returning -= len;
        self.available += len;
    }
}
