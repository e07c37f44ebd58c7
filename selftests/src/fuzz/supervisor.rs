// SPDX-License-Identifier: GPL-2.0

//! Starts and kills what makes the calls, rebinds the device meanwhile, and sees to it that
//! nothing hangs and all comes back.

use super::bus;
use super::job::{Job, RunningJob};
use super::process::{adopt_orphans, Process};
use super::tally::{Oracle, Tally, SLOTS};
use super::watched::{Watched, HANG};
use super::worker::{self, Identity, Order};
use crate::device::{Bound, Pci};
use crate::disk;
use crate::kmsg::Log;
use crate::module;
use crate::random::Random;
use crate::setting::Setting;
use crate::verbs;
use anyhow::{ensure, Result};
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use std::fs::{self, File};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long the supervisor sleeps between two looks.
const STEP: Duration = Duration::from_millis(5);

const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";
const CORE: &str = "/tmp/p2pmem-fuzz.core";

pub struct Options {
    pub seed: u64,
    pub duration: Duration,
    pub processes: usize,
    pub pci: Pci,
    /// Unbind and rmmod meanwhile.
    pub rebind: bool,
}

#[derive(Default)]
struct Done {
    workers: u32,
    kills: u32,
    bus_workers: u32,
    binds: u32,
    unbinds: u32,
    rmmods: u32,
}

struct Supervisor {
    options: Options,
    random: Random,
    tally: &'static Tally,
    disk: File,
    bound: Bound,
    size: usize,
    log: Log,
    workers: Vec<Option<Watched>>,
    bus: Option<Watched>,
    job: Option<RunningJob>,
    next_unbind: Instant,
    done: Done,
}

impl Done {
    fn print(&self) {
        println!(
            "{} workers, {} kills, {} bus workers",
            self.workers, self.kills, self.bus_workers
        );
        println!(
            "{} binds, {} unbinds, {} times rmmod",
            self.binds, self.unbinds, self.rmmods
        );
    }
}

/// Returns whether all held that must.
pub fn run(options: Options) -> Result<bool> {
    ensure!(options.processes < SLOTS, "at most {} processes", SLOTS - 1);
    println!("seed {}", options.seed);
    verbs::set_up_device()?;
    adopt_orphans()?;
    // Only children that are to leave a core file raise it.
    let (_, most) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, most)?;
    let core_pattern = Setting::set(CORE_PATTERN, CORE)?;

    let log = Log::from_now()?;
    module::load("")?;
    let tally = Tally::new()?;
    let bound = Bound::new(options.pci)?;
    let mut supervisor = Supervisor {
        random: Random::new(options.seed),
        tally,
        disk: disk::open()?,
        size: bound.size()?,
        bound,
        log,
        workers: (0..options.processes).map(|_| None).collect(),
        bus: None,
        job: None,
        next_unbind: Instant::now() + Duration::from_secs(3),
        done: Done::default(),
        options,
    };
    let start = Instant::now();
    while start.elapsed() < supervisor.options.duration && !tally.any_violation() {
        supervisor.step(true)?;
    }
    supervisor.finish()?;

    drop(core_pattern);
    let _ = fs::remove_file(CORE);
    tally.print();
    supervisor.done.print();
    println!("seed {}", supervisor.options.seed);
    let fails = |oracle: &&Oracle| tally.violations(**oracle) > 0;
    let failed = Oracle::ALL.iter().filter(fails).count();
    println!("{} passed, {failed} failed", Oracle::ALL.len() - failed);
    Ok(failed == 0)
}

impl Supervisor {
    /// One look at everything; `goes_on` says that more may be begun.
    fn step(&mut self, goes_on: bool) -> Result<()> {
        self.look_after_job();
        self.look_after_workers();
        let may_start = goes_on && !self.somebody_waits_for_workers();
        if may_start {
            self.start_workers()?;
        } else {
            self.kill_workers();
        }
        if goes_on {
            self.start_bus()?;
            self.start_job()?;
        }
        // Before the kernel overwrites it; what is found ends the run.
        if goes_on && self.random.chance(1, 100) {
            self.look_at_log()?;
        }
        sleep(STEP);
        Ok(())
    }

    fn look_at_log(&mut self) -> Result<()> {
        for line in self.log.alarms()? {
            self.tally.violation(Oracle::KernelLogIsClean, &line);
        }
        Ok(())
    }

    /// An unbind waits for those who have the memory pinned, and they need not let go soon.
    fn somebody_waits_for_workers(&self) -> bool {
        let bus = self.bus.as_ref();
        let job = self.job.as_ref();
        job.is_some_and(RunningJob::has_waited_enough)
            || bus.is_some_and(|bus| bus.stuck_for() > Duration::from_secs(2))
    }

    fn look_after_workers(&mut self) {
        for place in self.workers.iter_mut().chain([&mut self.bus]) {
            let process = place.as_mut();
            if process.is_some_and(|process| process.is_gone(self.tally)) {
                *place = None;
            }
        }
        // About once a second for each.
        for running in self.workers.iter_mut().flatten() {
            if self.random.chance(1, 200) && running.kill() {
                self.done.kills += 1;
            }
        }
    }

    fn kill_workers(&mut self) {
        for running in self.workers.iter_mut().flatten() {
            running.kill();
        }
    }

    fn start_workers(&mut self) -> Result<()> {
        for slot in 0..self.workers.len() {
            if self.workers[slot].is_some() {
                continue;
            }
            let identity = match self.random.below(8) {
                0 => Identity::Stranger,
                1..=3 => Identity::Member,
                _ => Identity::Root,
            };
            let order = Order {
                seed: self.random.next_u64(),
                pci: self.options.pci,
                size: self.size,
                identity,
                calls: 100 + self.random.below(1900),
                slot,
                disk: self.disk.try_clone()?,
                tally: self.tally,
            };
            let process = Process::start(|| worker::main(order))?;
            self.workers[slot] = Some(Watched::new(process, slot));
            self.done.workers += 1;
        }
        Ok(())
    }

    fn start_bus(&mut self) -> Result<()> {
        if self.bus.is_some() || !self.random.chance(1, 200) {
            return Ok(());
        }
        let slot = self.workers.len();
        let random = Random::new(self.random.next_u64());
        let (pci, rebind, tally) = (self.options.pci, self.options.rebind, self.tally);
        let process = Process::start(|| bus::main(random, pci, rebind, tally, &tally.slots[slot]))?;
        self.bus = Some(Watched::new(process, slot));
        self.done.bus_workers += 1;
        Ok(())
    }

    /// Brings the device back to p2pmem, or takes it away.
    fn start_job(&mut self) -> Result<()> {
        if self.job.is_some() {
            return Ok(());
        }
        if !module::is_loaded() {
            return module::load("");
        }
        let pci = self.options.pci;
        let job = if !self.bound.is_bound() {
            let chosen = fs::read_to_string(pci.path("driver_override")).unwrap_or_default();
            match chosen.trim_end() {
                "p2pmem" => Job::Probe,
                _ => Job::Override,
            }
        } else if self.options.rebind && Instant::now() > self.next_unbind {
            let pause = Duration::from_millis(2000 + self.random.below(6000) as u64);
            self.next_unbind = Instant::now() + pause;
            *self.random.choose(&[Job::Unbind, Job::Unbind, Job::Unload])
        } else {
            return Ok(());
        };
        let grace = Duration::from_millis(*self.random.choose(&[0, 500, 2000]));
        self.job = Some(RunningJob::start(job, pci, grace)?);
        Ok(())
    }

    fn look_after_job(&mut self) {
        let Some(running) = &mut self.job else {
            return;
        };
        let Some(succeeded) = running.result(self.tally) else {
            return;
        };
        match running.job {
            Job::Unbind if succeeded => self.done.unbinds += 1,
            Job::Unload if succeeded => self.done.rmmods += 1,
            Job::Probe if self.bound.is_bound() => self.done.binds += 1,
            _ => {}
        }
        self.job = None;
    }

    /// Ends everything and looks at what is left.
    fn finish(&mut self) -> Result<()> {
        let start = Instant::now();
        while self.workers.iter().any(Option::is_some) || self.bus.is_some() || self.job.is_some() {
            self.step(false)?;
            // Whatever hangs has been reported by then.
            if start.elapsed() > HANG + Duration::from_secs(10) {
                let what = "not looked at, as something hangs";
                self.tally.violation(Oracle::EverythingComesBack, what);
                return Ok(());
            }
        }
        if let Err(error) = self.take_back() {
            let what = format!("{error:#}");
            self.tally.violation(Oracle::EverythingComesBack, &what);
        }
        for kind in self.tally.untried() {
            self.tally.violation(Oracle::EverythingIsTried, kind);
        }
        self.look_at_log()
    }

    fn take_back(&mut self) -> Result<()> {
        if !module::is_loaded() {
            module::load("")?;
        }
        if !self.bound.is_bound() {
            self.bound.bind()?;
        }
        self.bound.wait_all_free()?;
        self.bound.unbind()?;
        module::unload()
    }
}
