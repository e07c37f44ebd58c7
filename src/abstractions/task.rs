// SPDX-License-Identifier: GPL-2.0

//! The running task: its name, and giving up the CPU.
//!
//! C header: [`include/linux/sched.h`](srctree/include/linux/sched.h)

use crate::bindings as helpers;
use kernel::{bindings, current, fmt, time::msecs_to_jiffies};

const TASK_COMM_LEN: usize = bindings::TASK_COMM_LEN as usize;

/// Name and PID (initial namespace) of a task, as it was when this was made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TaskName {
    comm: [u8; TASK_COMM_LEN],
    pid: i32,
}

impl TaskName {
    /// The running task's.
    pub(crate) fn current() -> Self {
        let mut comm = [0u8; TASK_COMM_LEN];
        // SAFETY: `comm` has room for the `TASK_COMM_LEN` bytes that are written.
        unsafe { helpers::helper_current_comm(comm.as_mut_ptr().cast()) };
        Self {
            comm,
            pid: current!().pid(),
        }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.comm.iter().take_while(|&&byte| byte != 0) {
            // A task chooses its own name: keep the log line one line.
            let shown = if byte.is_ascii_graphic() { byte } else { b'?' };
            write!(f, "{}", char::from(shown))?;
        }
        write!(f, "[{}]", self.pid)
    }
}

/// Sleeps for `ms` milliseconds, unless woken earlier; neither signals nor the hung-task watchdog
/// see it. Process context.
pub(crate) fn sleep_idle(ms: u32) {
    // SAFETY: The caller's context may sleep, as the function's documentation demands; sleeping in
    // atomic context is a bug that the scheduler reports, not undefined behaviour.
    unsafe { bindings::schedule_timeout_idle(msecs_to_jiffies(ms) as isize) };
}

/// Lets another task run if one is due. Process context.
pub(crate) fn cond_resched() {
    // SAFETY: No precondition but a context that may sleep, see `sleep_idle`.
    unsafe { helpers::helper_cond_resched() };
}
