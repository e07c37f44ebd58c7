// SPDX-License-Identifier: GPL-2.0

//! Other processes that have the memory too, and what can only be done in one that ends soon.

use super::KINDS;
use crate::fuzz::syscall::call;
use crate::fuzz::tally::Oracle;
use crate::fuzz::worker::Worker;
use nix::errno::Errno;
use nix::sys::resource::{setrlimit, Resource};
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{ForkResult, Pid};
use std::fs;

/// How many children run beside a worker.
const MOST: usize = 2;

/// How many kinds come before those of this file: a child has no children.
fn kinds() -> usize {
    let first = KINDS.iter().position(|kind| kind.name == "fork");
    first.expect("fork is a kind")
}

/// Runs `body` in a forked child, which then exits.
fn child(w: &mut Worker, body: impl FnOnce(&mut Worker)) -> nix::Result<Pid> {
    // SAFETY: the only other thread there may be holds no locks; the child never returns.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => {
            // Both have the same numbers ahead otherwise.
            w.random.next_u64();
            Ok(child)
        }
        ForkResult::Child => {
            w.become_child();
            body(w);
            // SAFETY: ends the process without the exit handlers, which are the parent's.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Waits for a child's end. None of its calls waits for long: if it hangs, so does the worker.
fn wait(w: &Worker, pid: Pid) -> nix::Result<()> {
    match waitpid(pid, None)? {
        // The one of `dump_core`.
        WaitStatus::Signaled(_, Signal::SIGABRT, _) => {}
        WaitStatus::Signaled(_, signal, _) => {
            let what = format!("a child, {pid}, died of {signal}");
            w.violation(Oracle::OnlyKilledProcessesDie, &what);
        }
        _ => {}
    }
    Ok(())
}

fn wait_for_child(w: &mut Worker, body: impl FnOnce(&mut Worker)) -> nix::Result<()> {
    let pid = child(w, body)?;
    wait(w, pid)
}

/// A child that makes calls of its own, while the worker waits or goes on.
pub fn fork(w: &mut Worker) -> nix::Result<()> {
    let calls = 1 + w.random.below(40);
    let pid = child(w, |w| w.run(kinds(), calls))?;
    if w.random.chance(1, 2) {
        return wait(w, pid);
    }
    w.children.push(pid);
    if w.children.len() > MOST {
        let first = w.children.remove(0);
        wait(w, first)?;
    }
    Ok(())
}

pub fn reap(w: &mut Worker) -> nix::Result<()> {
    let pid = w.children.pop().ok_or(Errno::ECHILD)?;
    if w.random.chance(1, 4) {
        kill(pid, Signal::SIGKILL)?;
        waitpid(pid, None)?;
        return Ok(());
    }
    wait(w, pid)
}

/// Reads and writes a stopped child's memory, which is the worker's too.
pub fn ptrace(w: &mut Worker) -> nix::Result<()> {
    let pid = child(w, |_| {
        let _ = call(libc::SYS_ptrace, [libc::PTRACE_TRACEME as usize]);
        loop {
            let _ = nix::sys::signal::raise(Signal::SIGSTOP);
        }
    })?;
    let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED));
    let mut result = Err(Errno::EFAULT);
    if matches!(stopped, Ok(WaitStatus::Stopped(..))) {
        let number = pid.as_raw() as usize;
        for _ in 0..8 {
            let mut word = 0u64;
            let address = w.arena.word(&mut w.random);
            let (request, data) = match w.random.chance(1, 2) {
                true => (libc::PTRACE_PEEKDATA, &raw mut word as usize),
                false => (libc::PTRACE_POKEDATA, w.stamp as usize),
            };
            let once = call(libc::SYS_ptrace, [request as usize, number, address, data]);
            result = result.or(once.map(drop));
        }
    }
    kill(pid, Signal::SIGKILL)?;
    waitpid(pid, None)?;
    result
}

pub fn exec(w: &mut Worker) -> nix::Result<()> {
    wait_for_child(w, |w| {
        w.run(kinds(), 5);
        let _ = nix::unistd::execv(c"/bin/true", &[c"true"]);
    })
}

pub fn dump_core(w: &mut Worker) -> nix::Result<()> {
    wait_for_child(w, |w| {
        w.run(kinds(), 5);
        let _ = setrlimit(Resource::RLIMIT_CORE, 64 << 20, 64 << 20);
        // All that there is of mappings, if they allow it.
        let _ = fs::write("/proc/self/coredump_filter", "0x1ff");
        std::process::abort();
    })
}

/// Sealing cannot be undone.
pub fn seal(w: &mut Worker) -> nix::Result<()> {
    wait_for_child(w, |w| {
        let (address, len) = w.arena.target(&mut w.random);
        let _ = call(libc::SYS_mseal, [address, len, w.random.below(2)]);
        w.run(kinds(), 20);
    })
}

/// Nor can this.
pub fn deny_write_exec(w: &mut Worker) -> nix::Result<()> {
    const SET_MDWE: usize = 65;
    wait_for_child(w, |w| {
        let _ = call(libc::SYS_prctl, [SET_MDWE, 1 + w.random.below(3), 0, 0, 0]);
        w.run(kinds(), 20);
    })
}
