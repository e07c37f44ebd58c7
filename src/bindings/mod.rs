// SPDX-License-Identifier: GPL-2.0

//! Functions and constants of the kernel that its own bindings crate lacks.
//!
//! C header: `src/bindings/helpers.h`. Only [`crate::abstractions`] uses them.

#![allow(
    clippy::all,
    improper_ctypes,
    missing_docs,
    non_camel_case_types,
    non_upper_case_globals,
    unreachable_pub
)]

// Included, so that formatting does not need what the build makes.
mod generated {
    include!("generated.rs");
}

pub(crate) use generated::*;
