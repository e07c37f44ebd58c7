// SPDX-License-Identifier: GPL-2.0

//! Forked children: for what kills a process, and for what fork itself must keep right.
//!
//! The tests run in the only thread there is, so a child may do whatever its parent may.

use crate::harness;
use crate::poll;
use anyhow::{ensure, Context, Result};
use nix::sys::resource::{setrlimit, Resource};
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{fork, setgid, setgroups, setuid, ForkResult, Gid, Pid, Uid};

/// A forked child; killed and reaped on drop.
pub struct Child {
    pid: Pid,
    status: Option<WaitStatus>,
}

impl Child {
    /// Runs `body` in a child, which then exits.
    pub fn start(body: impl FnOnce() -> Result<()>) -> Result<Child> {
        // SAFETY: single-threaded, see above; the child never returns from here.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => Ok(Child {
                pid: child,
                status: None,
            }),
            ForkResult::Child => {
                // A child that is meant to be killed leaves no core file behind.
                let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
                let status = match harness::catch(body) {
                    Ok(()) => 0,
                    Err(problem) => {
                        eprintln!("in the child: {problem}");
                        1
                    }
                };
                // SAFETY: ends the process without the exit handlers and destructors, which
                // are the parent's to run.
                unsafe { libc::_exit(status) }
            }
        }
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Result<WaitStatus> {
        let status = poll::until_some("end of a child", || {
            let status = waitpid(self.pid, Some(WaitPidFlag::WNOHANG))?;
            Ok((status != WaitStatus::StillAlive).then_some(status))
        })?;
        self.status = Some(status);
        Ok(status)
    }

    /// Waits for its end, which must be a good one.
    pub fn succeed(self) -> Result<()> {
        let status = self.wait()?;
        ensure!(
            matches!(status, WaitStatus::Exited(_, 0)),
            "the child ended with {status:?}"
        );
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// User and group without any right.
pub const NOBODY: u32 = 65534;

/// Runs `body` in a child without any right; it must succeed.
pub fn as_nobody(body: impl FnOnce() -> Result<()>) -> Result<()> {
    let child = Child::start(|| {
        setgroups(&[])?;
        setgid(Gid::from_raw(NOBODY))?;
        setuid(Uid::from_raw(NOBODY))?;
        body()
    })?;
    child.succeed()
}

/// The signal that kills a process which does `body`; `None` when it survives.
pub fn signal_of(body: impl FnOnce()) -> Result<Option<Signal>> {
    let child = Child::start(|| {
        body();
        Ok(())
    })?;
    match child.wait()? {
        WaitStatus::Signaled(_, signal, _) => Ok(Some(signal)),
        _ => Ok(None),
    }
}
