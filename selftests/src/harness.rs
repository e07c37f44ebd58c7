// SPDX-License-Identifier: GPL-2.0

//! Runs each test and then looks at what it left behind.

use crate::kmsg::Log;
use crate::{module, pace};
use anyhow::{ensure, Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::sys::signal::{signal, SigHandler, Signal};
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// No test may take longer: a hang ends the run with a message instead of holding it up.
const LIMIT: Duration = Duration::from_secs(300);

thread_local! {
    /// What clean-up (drop) found wrong while a test ended.
    static PROBLEMS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    /// The kernel log since before the module was loaded.
    static RUN_LOG: RefCell<Option<Log>> = const { RefCell::new(None) };
    /// How long each test took.
    static TIMES: RefCell<Vec<(Duration, &'static str)>> = const { RefCell::new(Vec::new()) };
    /// Where the last panic was and what it said.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Lets the running test fail when `result` does: for drop, which cannot return it.
pub fn note_problem(result: Result<()>) {
    if let Err(error) = result {
        // For programs that have no tests.
        eprintln!("clean-up: {error:#}");
        PROBLEMS.with_borrow_mut(|problems| problems.push(format!("clean-up: {error:#}")));
    }
}

/// Runs `body` and describes its failure, be it an error or a panic.
pub fn catch(body: impl FnOnce() -> Result<()>) -> Result<(), String> {
    match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err(PANIC.take().unwrap_or_else(|| "panic".to_owned())),
    }
}

/// One test by its name.
pub fn trial(name: &'static str, test: fn() -> Result<()>) -> Trial {
    Trial::test(name, move || {
        let start = Instant::now();
        let result = run_one(test);
        TIMES.with_borrow_mut(|times| times.push((start.elapsed(), name)));
        // At once, for whatever becomes of the run.
        result.map_err(|problems| {
            println!("\n{problems}");
            Failed::without_message()
        })
    })
}

fn run_one(test: fn() -> Result<()>) -> Result<(), String> {
    let describe = |error: anyhow::Error| format!("{error:#}");
    let mut log = Log::from_now().map_err(describe)?;
    nix::unistd::alarm::set(pace::patience(LIMIT).as_secs() as u32);
    let mut problems: Vec<String> = catch(test).err().into_iter().collect();
    nix::unistd::alarm::cancel();
    problems.extend(PROBLEMS.take());
    read_run_log().map_err(describe)?;
    for line in log.alarms().map_err(describe)? {
        problems.push(format!("kernel log: {line}"));
    }
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.join("\n")),
    }
}

extern "C" fn give_up(_: i32) {
    const MESSAGE: &[u8] = b"\nthe test above did not end: giving up\n";
    // SAFETY: both calls may be made in a signal handler.
    unsafe {
        libc::write(2, MESSAGE.as_ptr().cast(), MESSAGE.len());
        libc::_exit(1);
    }
}

/// Loads the module, runs the tests, unloads it, and has a last look at the kernel log.
pub fn run(mut arguments: Arguments, tests: Vec<Trial>) -> Result<ExitCode> {
    // The tests share the devices and the kernel log, and fork.
    arguments.test_threads = Some(1);
    if arguments.list {
        libtest_mimic::run(&arguments, tests).exit_if_failed();
        return Ok(ExitCode::SUCCESS);
    }

    panic::set_hook(Box::new(|info| PANIC.set(Some(info.to_string()))));
    // SAFETY: the handler makes only calls that a signal handler may make.
    unsafe { signal(Signal::SIGALRM, SigHandler::Handler(give_up)) }.context("SIGALRM")?;

    RUN_LOG.set(Some(Log::from_now()?));
    module::load("")?;
    let conclusion = libtest_mimic::run(&arguments, tests);
    let last = [
        ("module_unloads_at_the_end", module::unload()),
        ("kernel_log_is_clean", log_is_clean()),
    ];

    let mut passed = conclusion.num_passed;
    let mut failed = conclusion.num_failed;
    for (name, result) in last {
        match result {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Err(error) => {
                failed += 1;
                println!("test {name} ... FAILED\n{error:#}");
            }
        }
    }
    let mut times = TIMES.take();
    times.sort_unstable();
    for (time, name) in times.iter().rev().take(5) {
        println!("slow: {name} {:.1} s", time.as_secs_f32());
    }
    println!("{passed} passed, {failed} failed");
    Ok(match failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Reads on, before the kernel overwrites what has not been read.
fn read_run_log() -> Result<Vec<String>> {
    RUN_LOG.with_borrow_mut(|log| match log {
        Some(log) => log.alarms(),
        None => Ok(Vec::new()),
    })
}

/// The log of the whole run has no line that a healthy kernel does not write.
fn log_is_clean() -> Result<()> {
    let alarms = read_run_log()?;
    ensure!(alarms.is_empty(), "kernel log:\n{}", alarms.join("\n"));
    Ok(())
}
