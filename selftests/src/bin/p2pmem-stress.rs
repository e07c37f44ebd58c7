// SPDX-License-Identifier: GPL-2.0

//! Recycling of p2pmem.ko's memory under stress, run as root in the guest of `scripts/vm`.
//!
//! The last line is `N passed, N failed`.

use anyhow::{ensure, Context, Result};
use clap::Parser;
use p2pmem_selftests::device::{Bound, PLAIN};
use p2pmem_selftests::hotplug::Slot;
use p2pmem_selftests::kmsg::Log;
use p2pmem_selftests::random::Random;
use p2pmem_selftests::stress::teardown::{self, Device};
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
    /// Takes the device away and brings it back so many times, by unbind and rmmod, and then ends
    #[arg(long)]
    teardown: Option<u64>,
    /// With --teardown: by taking a drive out of its slot
    #[arg(long, requires = "teardown")]
    slot: bool,
    /// The module to load
    #[arg(long, default_value = "p2pmem.ko")]
    module: PathBuf,
}

fn main() -> ExitCode {
    if let Some(status) = helper::main() {
        return status;
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
    let mut device = match arguments.slot {
        false => Device::Bound(Bound::new(PLAIN)?),
        true => {
            let mut slot = Slot::open()?;
            let pci = slot.plug()?;
            Device::InSlot(slot, Some(Bound::new(pci)?))
        }
    };
    let options = Options {
        seed,
        seconds: match arguments.teardown {
            None => arguments.seconds,
            Some(_) => u64::MAX,
        },
        cycles: arguments.cycles,
        processes: arguments.processes,
        threads: arguments.threads,
        grabbers: arguments.grabbers,
        device_may_go: arguments.teardown.is_some(),
    };
    let pci = device.bound()?.pci;
    let mut stress = Stress::start(options, pci.path("p2pmem/allocate"))?;
    if let Some(cycles) = arguments.teardown {
        let done = teardown::run(&mut stress, &mut device, cycles, seed, &mut log)?;
        println!("stress: {done:?}");
    }
    while arguments.teardown.is_none() && stress.step()? {
        log.alarms()?;
    }
    let board = stress.finish()?;
    println!("stress: {board}");
    ensure!(board.mismatches() == 0, "memory changed hands too soon");
    let missing = board.missing();
    ensure!(missing.is_empty(), "never done: {}", missing.join(", "));

    let bound = device.bound()?;
    bound.wait_all_free().context("after the run")?;
    bound.unbind()?;
    drop(device);
    module::unload()?;
    let alarms = log.alarms()?;
    ensure!(alarms.is_empty(), "kernel log:\n{}", alarms.join("\n"));
    Ok(())
}
