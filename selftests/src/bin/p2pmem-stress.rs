// SPDX-License-Identifier: GPL-2.0

//! Recycling of p2pmem.ko's memory under stress, run as root in the guest of `scripts/vm`.
//!
//! The last line is `N passed, N failed`.

use anyhow::{ensure, Context, Result};
use clap::Parser;
use p2pmem_selftests::device::{Bound, PLAIN};
use p2pmem_selftests::kmsg::Log;
use p2pmem_selftests::random::Random;
use p2pmem_selftests::stress::{Options, Stress};
use p2pmem_selftests::{helper, module};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    about = "Recycles device memory as fast as it can and looks for a word that is not where it belongs"
)]
struct Arguments {
    /// Repeats the choices of another run (not its timing)
    #[arg(long)]
    seed: Option<u64>,
    /// Ends the run after so long
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Ends the run sooner, after so many cycles of map, pin and unmap
    #[arg(long)]
    cycles: Option<u64>,
    /// Processes that map, stamp and pin
    #[arg(long, default_value_t = 3)]
    processes: usize,
    /// Threads in each of them
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Processes that only allocate
    #[arg(long, default_value_t = 1)]
    grabbers: usize,
    /// The module to load
    #[arg(long, default_value = "p2pmem.ko")]
    module: PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|first| first == helper::FLAG) {
        return helper::main(&arguments[2..]);
    }
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => {
            println!("1 passed, 0 failed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("stress: {error:#}");
            println!("0 passed, 1 failed");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let seed = arguments.seed.unwrap_or_else(Random::any_seed);
    println!("stress: --seed {seed}");
    let mut log = Log::from_now()?;
    module::set_file(arguments.module);
    module::load("")?;
    let bound = Bound::new(PLAIN)?;

    let options = Options {
        seed,
        seconds: arguments.seconds,
        cycles: arguments.cycles,
        processes: arguments.processes,
        threads: arguments.threads,
        grabbers: arguments.grabbers,
    };
    let mut stress = Stress::start(options, &bound)?;
    while stress.step()? {
        log.alarms()?;
    }
    let board = stress.finish()?;
    println!("stress: {board}");
    ensure!(board.mismatches() == 0, "memory changed hands too soon");

    bound.wait_all_free().context("after the run")?;
    bound.unbind()?;
    drop(bound);
    module::unload()?;
    let alarms = log.alarms()?;
    ensure!(alarms.is_empty(), "kernel log:\n{}", alarms.join("\n"));
    Ok(())
}
