// SPDX-License-Identifier: GPL-2.0

//! What several tasks do with one pool at the same time, without the kernel: who may take what,
//! under which lock, and in which order.
//!
//! Pure: needs nothing but `core`, so that the host's tests compile these very files. Those of the
//! same names in `selftests/tests` run [`lease`], [`handover`] and [`look`] through the
//! interleavings of their tasks and hold [`account`] against a naive model.

pub(crate) mod account;
pub(crate) mod handover;
pub(crate) mod lease;
pub(crate) mod look;

/// A lock around a `T`: the kernel's mutex, or that of a model.
pub(crate) trait Lock<T> {
    /// Runs `critical` with the lock held. May sleep.
    fn with<R>(&self, critical: impl FnOnce(&mut T) -> R) -> R;
}
