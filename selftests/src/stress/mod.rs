// SPDX-License-Identifier: GPL-2.0

//! Recycling under stress: does memory ever change hands while somebody can still use it?
//!
//! Owners map device memory, write a stamp into it that no other writes, pin it by every road
//! that user space has, unmap it, and find their stamp through the pin. Others take and write
//! whatever is free meanwhile; new memory must be zero. Owners are killed, fork, and take their
//! mappings apart.

mod arena;
mod board;
mod hold;
mod others;
mod stamp;
pub mod teardown;
mod worker;

use crate::random::Random;
use crate::{disk, verbs};
use anyhow::{bail, Context, Result};
use board::{Board, Count, MAX_OWNERS};
use hold::Tools;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::sys::prctl;
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::{fork, pipe2, ForkResult, Pid};
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};
use worker::Worker;

/// How long and how hard.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub seconds: u64,
    /// End sooner when so many cycles are done.
    pub cycles: Option<u64>,
    /// Processes with owners, and owners in each, as threads.
    pub processes: usize,
    pub threads: usize,
    /// Processes that only allocate.
    pub grabbers: usize,
    /// The device is taken away now and then.
    pub device_may_go: bool,
}

/// Whoever makes no progress for so long hangs.
const STALL: Duration = Duration::from_secs(120);
const PROGRESS: Duration = Duration::from_secs(10);

/// A process of the run.
struct Process {
    pid: Pid,
    role: Role,
    /// What its owners splice into.
    pipes: Vec<(usize, File)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Has the owners from this one on.
    Owners(usize),
    Grabber(usize),
    Peeker,
}

/// The run.
pub struct Stress {
    options: Options,
    board: &'static Board,
    random: Random,
    allocate: PathBuf,
    processes: Vec<Process>,
    started: Instant,
    /// Owner processes that were started.
    born: u64,
    last_progress: (Instant, u64),
    last_line: Instant,
    next_kill: Instant,
}

impl Stress {
    /// Starts everybody on a device's file `allocate`.
    pub fn start(options: Options, allocate: PathBuf) -> Result<Stress> {
        let owners = options.processes * options.threads + options.grabbers;
        if owners > MAX_OWNERS {
            bail!("{owners} owners: at most {MAX_OWNERS} are possible");
        }
        verbs::set_up_device()?;
        hold::clear_areas(&disk::open()?)?;

        let now = Instant::now();
        let mut stress = Stress {
            board: Board::new()?,
            random: Random::new(options.seed),
            allocate,
            processes: Vec::new(),
            started: now,
            born: 0,
            last_progress: (now, 0),
            last_line: now,
            next_kill: now,
            options,
        };
        let may_go = stress.options.device_may_go;
        stress.board.device_may_go.store(may_go, Relaxed);
        let (processes, threads) = (stress.options.processes, stress.options.threads);
        let mut roles: Vec<Role> = (0..processes).map(|n| Role::Owners(n * threads)).collect();
        roles.extend((0..stress.options.grabbers).map(|n| Role::Grabber(processes * threads + n)));
        roles.push(Role::Peeker);
        for role in roles {
            stress.spawn(role)?;
        }
        stress.plan_kill();
        Ok(stress)
    }

    /// This process has one thread only, so that a child may do as it likes.
    fn spawn(&mut self, role: Role) -> Result<()> {
        let mut pipes = Vec::new();
        let mut tools = Vec::new();
        if let Role::Owners(first) = role {
            for owner in first..first + self.options.threads {
                let (read, write) = pipe2(OFlag::O_CLOEXEC).context("pipe2")?;
                let read = File::from(read);
                pipes.push((owner, read.try_clone()?));
                tools.push(Tools {
                    disk: disk::open()?,
                    // Not that of one that was killed: its last request may still run.
                    area: self.born * MAX_OWNERS as u64 + owner as u64,
                    pipe: (read, File::from(write)),
                });
            }
            self.born += 1;
        }
        for owner in self.owners(role) {
            self.board.owners[owner].idle.store(false, Relaxed);
        }
        let seed = self.random.next_u64();
        // SAFETY: single-threaded, see above; the child never returns from here.
        match unsafe { fork() }.context("fork")? {
            ForkResult::Parent { child } => {
                self.processes.push(Process {
                    pid: child,
                    role,
                    pipes,
                });
                Ok(())
            }
            ForkResult::Child => {
                let result = prctl::set_pdeathsig(Signal::SIGKILL)
                    .context("PR_SET_PDEATHSIG")
                    .and_then(|()| self.live(role, seed, tools));
                let status = match result {
                    Ok(()) => 0,
                    Err(error) => {
                        eprintln!("{role:?}: {error:#}");
                        self.board.stop.store(true, Relaxed);
                        1
                    }
                };
                // SAFETY: ends the process without what is its parent's to clean up.
                unsafe { libc::_exit(status) }
            }
        }
    }

    /// What a process does.
    fn live(&self, role: Role, seed: u64, tools: Vec<Tools>) -> Result<()> {
        let (board, allocate) = (self.board, &self.allocate);
        if board.device_may_go.load(Relaxed) {
            arena::survive_sigbus()?;
        }
        let pid = std::process::id();
        match role {
            Role::Owners(first) => thread::scope(|scope| {
                let mut threads = Vec::new();
                for (n, tools) in tools.into_iter().enumerate() {
                    let owner = first + n;
                    board.owners[owner].pid.store(pid, Relaxed);
                    threads.push(scope.spawn(move || {
                        let seed = seed.wrapping_add(n as u64);
                        let result = Worker::new(board, owner, seed, allocate.clone(), tools)
                            .and_then(Worker::run);
                        // Else the others would go on, and nobody see the error before they end.
                        if result.is_err() {
                            board.stop.store(true, Relaxed);
                        }
                        result
                    }));
                }
                let owners = self.owners(role);
                scope.spawn(move || others::forget(board, owners, !seed));
                for thread in threads {
                    match thread.join() {
                        Ok(result) => result?,
                        Err(_) => bail!("panic"),
                    }
                }
                Ok(())
            }),
            Role::Grabber(owner) => {
                board.owners[owner].pid.store(pid, Relaxed);
                others::grab(board, owner, seed, allocate)
            }
            Role::Peeker => others::peek(board, seed),
        }
    }

    fn owners(&self, role: Role) -> Range<usize> {
        match role {
            Role::Owners(first) => first..first + self.options.threads,
            Role::Grabber(owner) => owner..owner + 1,
            Role::Peeker => 0..0,
        }
    }

    /// Waits until nobody has any memory.
    pub fn pause(&mut self) -> Result<()> {
        self.board.pause.store(true, Relaxed);
        let start = Instant::now();
        let idle = |owner: usize| self.board.owners[owner].idle.load(Relaxed);
        while !self
            .processes
            .iter()
            .flat_map(|p| self.owners(p.role))
            .all(idle)
        {
            if self.board.stopped() || start.elapsed() > STALL {
                self.describe_hang();
                bail!("somebody does not let go of the memory");
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Lets everybody go on.
    pub fn resume(&mut self) {
        for owner in &self.board.owners {
            owner.idle.store(false, Relaxed);
        }
        self.board.pause.store(false, Relaxed);
    }

    fn plan_kill(&mut self) {
        let pause = Duration::from_millis(500 + self.random.below(3000) as u64);
        self.next_kill = Instant::now() + pause;
    }

    /// One step, of some milliseconds; false when the run is over.
    pub fn step(&mut self) -> Result<bool> {
        thread::sleep(Duration::from_millis(10));
        self.reap()?;
        let cycles = self.board.get(Count::Cycles);
        let over = self.started.elapsed().as_secs() >= self.options.seconds
            || self.options.cycles.is_some_and(|wanted| cycles >= wanted);
        if over || self.board.stopped() {
            return Ok(false);
        }
        if Instant::now() >= self.next_kill {
            self.kill_one()?;
            self.plan_kill();
        }
        if cycles > self.last_progress.1 {
            self.last_progress = (Instant::now(), cycles);
        } else if self.last_progress.0.elapsed() > STALL {
            self.describe_hang();
            bail!("no cycle was completed for {} s", STALL.as_secs());
        }
        if self.last_line.elapsed() >= PROGRESS {
            self.last_line = Instant::now();
            let seconds = self.started.elapsed().as_secs();
            eprintln!("{seconds} s: {}", self.board);
        }
        Ok(true)
    }

    /// Nobody may end before the run does.
    fn reap(&mut self) -> Result<()> {
        let mut alive = Vec::new();
        for process in self.processes.drain(..) {
            match waitpid(process.pid, Some(WaitPidFlag::WNOHANG)).context("waitpid")? {
                WaitStatus::StillAlive => alive.push(process),
                WaitStatus::Exited(_, 0) if self.board.stopped() => {}
                status => bail!("{:?} ended with {status:?}", process.role),
            }
        }
        self.processes = alive;
        Ok(())
    }

    /// SIGKILL for some owners, whatever they are doing; others take their place.
    fn kill_one(&mut self) -> Result<()> {
        let is_owner = |process: &Process| matches!(process.role, Role::Owners(_));
        let owners: Vec<usize> = (0..self.processes.len())
            .filter(|&n| is_owner(&self.processes[n]))
            .collect();
        let victim = *self.random.choose(&owners);
        let process = self.processes.swap_remove(victim);
        kill(process.pid, Signal::SIGKILL).context("SIGKILL")?;
        match waitpid(process.pid, None).context("waitpid")? {
            WaitStatus::Signaled(_, Signal::SIGKILL, _) => {}
            status => bail!("{:?} ended with {status:?}", process.role),
        }
        self.board.add(Count::Killed, 1);
        self.check_left(&process)?;
        self.spawn(process.role)
    }

    /// What was spliced into a pipe is there although its owner is not.
    fn check_left(&self, process: &Process) -> Result<()> {
        for (owner, pipe) in &process.pipes {
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("F_SETFL")?;
            let mut bytes = Vec::new();
            let mut pipe: &File = pipe;
            match pipe.read_to_end(&mut bytes) {
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return Err(e.into()),
                _ => others::check_left(self.board, *owner, &bytes),
            }
        }
        Ok(())
    }

    /// Lets everybody finish; what they counted.
    pub fn finish(mut self) -> Result<&'static Board> {
        self.board.stop.store(true, Relaxed);
        let start = Instant::now();
        while !self.processes.is_empty() {
            self.reap()?;
            if start.elapsed() > STALL {
                self.describe_hang();
                bail!("{} processes do not end", self.processes.len());
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(self.board)
    }

    /// Says where everybody is in the kernel.
    pub fn describe_hang(&self) {
        for process in &self.processes {
            let pid = process.pid;
            let tasks = fs::read_dir(format!("/proc/{pid}/task"));
            for task in tasks.into_iter().flatten().flatten() {
                let stack = fs::read_to_string(task.path().join("stack")).unwrap_or_default();
                eprintln!(
                    "{:?}, task {}:\n{stack}",
                    process.role,
                    task.path().display()
                );
            }
        }
    }
}

impl Drop for Stress {
    fn drop(&mut self) {
        for process in &self.processes {
            let _ = kill(process.pid, Signal::SIGKILL);
            let _ = waitpid(process.pid, None);
        }
    }
}
