// SPDX-License-Identifier: GPL-2.0

//! A forked process and all that it forks in turn.

use super::tally::{Oracle, Tally};
use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{killpg, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{fork, setpgid, ForkResult, Pid};
use std::fs;

/// The leader of a process group. The rest of the group is killed when it has ended.
pub struct Process {
    pub leader: Pid,
    status: Option<WaitStatus>,
    killed: bool,
}

/// Lets processes that a leader leaves behind become this one's children.
pub fn adopt_orphans() -> Result<()> {
    set_child_subreaper(true).context("PR_SET_CHILD_SUBREAPER")
}

impl Process {
    /// Runs `body` in a forked process, which then exits with the status that it gives.
    pub fn start(body: impl FnOnce() -> i32) -> Result<Process> {
        // SAFETY: this process has one thread; the child never returns from here.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => {
                // Both do it, so that it is done whoever runs first.
                let _ = setpgid(child, child);
                Ok(Process {
                    leader: child,
                    status: None,
                    killed: false,
                })
            }
            ForkResult::Child => {
                let own = Pid::from_raw(0);
                let _ = setpgid(own, own);
                let status = body();
                // SAFETY: ends the process without the exit handlers, which are the parent's.
                unsafe { libc::_exit(status) }
            }
        }
    }

    pub fn kill(&mut self) {
        self.killed = true;
        let _ = killpg(self.leader, Signal::SIGKILL);
    }

    /// Whether all of the group is gone. Reports a leader that died by itself.
    pub fn is_gone(&mut self, tally: &Tally) -> bool {
        let group = Pid::from_raw(-self.leader.as_raw());
        loop {
            match waitpid(group, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => return false,
                Ok(status) if status.pid() == Some(self.leader) => {
                    if let (WaitStatus::Signaled(pid, signal, _), false) = (status, self.killed) {
                        let what = format!("process {pid} died of {signal}");
                        tally.violation(Oracle::OnlyKilledProcessesDie, &what);
                    }
                    self.status = Some(status);
                    let _ = killpg(self.leader, Signal::SIGKILL);
                }
                Ok(_) | Err(Errno::EINTR) => {}
                // ECHILD: nobody is left.
                Err(_) => return true,
            }
        }
    }

    /// The leader's exit status, once it has exited.
    pub fn exit_status(&self) -> Option<i32> {
        match self.status {
            Some(WaitStatus::Exited(_, status)) => Some(status),
            _ => None,
        }
    }

    /// Where in the kernel the processes of the group are.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let read = |file| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
            // pid (comm) state ppid pgrp: the name may contain anything.
            let stat = read("stat");
            let group = stat
                .rsplit(')')
                .next()
                .and_then(|rest| rest.split(' ').nth(3));
            if group == Some(&self.leader.to_string()) {
                text += &format!("{stat}syscall: {}{}", read("syscall"), read("stack"));
            }
        }
        text
    }
}
