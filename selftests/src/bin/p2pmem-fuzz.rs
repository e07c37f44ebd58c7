// SPDX-License-Identifier: GPL-2.0

//! Random system calls on a device's files and memory, run as root in the guest of `scripts/vm`.
//!
//! The last line is `N passed, N failed`, with one count for each thing that must hold.

use anyhow::Result;
use clap::Parser;
use p2pmem_selftests::device::{Pci, PLAIN};
use p2pmem_selftests::fuzz::supervisor::{self, Options};
use p2pmem_selftests::random::Random;
use p2pmem_selftests::{helper, module};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Parser)]
#[command(about = "Makes random system calls on p2pmem's files and memory")]
struct Arguments {
    /// Seed of the random numbers [default: a random one]
    #[arg(long)]
    seed: Option<u64>,
    /// How long to go on
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many processes make calls at a time
    #[arg(long, default_value_t = 2)]
    processes: usize,
    /// The device, by its PCI address
    #[arg(long, default_value_t = PLAIN.0.to_owned())]
    device: String,
    /// Leave the device bound and the module loaded
    #[arg(long)]
    no_rebind: bool,
    /// The module
    #[arg(long, default_value = "p2pmem.ko")]
    module: PathBuf,
}

fn fuzz(arguments: Arguments) -> Result<bool> {
    module::set_file(arguments.module);
    supervisor::run(Options {
        seed: arguments.seed.unwrap_or_else(Random::any_seed),
        duration: Duration::from_secs(arguments.seconds),
        processes: arguments.processes,
        pci: Pci(arguments.device.leak()),
        rebind: !arguments.no_rebind,
    })
}

fn main() -> ExitCode {
    if let Some(status) = helper::main() {
        return status;
    }
    match fuzz(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("p2pmem-fuzz: {error:#}");
            ExitCode::FAILURE
        }
    }
}
