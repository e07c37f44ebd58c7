// SPDX-License-Identifier: GPL-2.0

//! Where the bytes of a pool are.
//!
//! ```text
//!               reserve                retire                 free
//!   available ──────────► a mapping's ────────► returning ──────────► available
//!                                                   │                     ▲
//!                                                   │ drain         free  │
//!                                                   └───────► draining ───┘
//! ```

/// The account. What it does not count is with mappings.
#[derive(Clone, Copy)]
pub(crate) struct Account {
    size: usize,
    available: usize,
    returning: usize,
    draining: usize,
    refused: bool,
}

/// Why nothing was reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denied {
    /// Unbind has begun.
    Refused,
    /// There is not that much, or others have it.
    Lacking,
    /// There will be enough when what returns has been zeroed, if it is not pinned.
    NotYet,
}

impl Account {
    /// `size` bytes, all available.
    pub(crate) fn new(size: usize) -> Self {
        Self {
            size,
            available: size,
            returning: 0,
            draining: 0,
            refused: false,
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

    /// Bytes that nobody owns, but that have been seen to be pinned.
    pub(crate) fn draining(&self) -> usize {
        self.draining
    }

    /// Whether no byte is with anybody.
    pub(crate) fn is_whole(&self) -> bool {
        self.available == self.size
    }

    /// Takes `len` bytes for a mapping.
    pub(crate) fn reserve(&mut self, len: usize) -> Result<(), Denied> {
        if self.refused {
            Err(Denied::Refused)
        } else if self.available >= len {
            self.available -= len;
            Ok(())
        } else if self.available + self.returning >= len {
            Err(Denied::NotYet)
        } else {
            Err(Denied::Lacking)
        }
    }

    /// From now on nothing can be reserved.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    /// A mapping gives `len` bytes back.
    pub(crate) fn retire(&mut self, len: usize) {
        self.returning += len;
    }

    /// `len` bytes that return have been seen to be pinned.
    pub(crate) fn drain(&mut self, len: usize) {
        self.returning -= len;
        self.draining += len;
    }

    /// `len` bytes that return, or drain, can be allocated again.
    pub(crate) fn free(&mut self, len: usize, draining: bool) {
        if draining {
            self.draining -= len;
        } else {
            self.returning -= len;
        }
        self.available += len;
    }
}
