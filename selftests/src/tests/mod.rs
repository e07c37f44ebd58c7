// SPDX-License-Identifier: GPL-2.0

//! What the module promises, a file a subject.

use crate::mapping::HUGE;
use crate::pattern::Pattern;

pub mod access;
pub mod around;
pub mod bad_input;
pub mod binding;
pub mod failing;
pub mod first_use;
pub mod huge;
pub mod limits;
pub mod loading;
pub mod memory_calls;
pub mod pinning;
pub mod quarantine;
pub mod recycling;
pub mod removal;
pub mod tools;
pub mod traps;
pub mod unbind;
pub mod vma_rules;
pub mod zeroing;

/// A mapping that is not small and still quick to fill on an emulated machine.
const LEN: usize = 2 * HUGE;

const OURS: Pattern = Pattern(1);
const THEIRS: Pattern = Pattern(2);
