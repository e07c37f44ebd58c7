// SPDX-License-Identifier: GPL-2.0

//! p2pmem.ko measured beside the kernel's own allocator and ordinary memory, run as root in the
//! guest of `make bench`.
//!
//! Goals that are missed are reported and no failure; what could not be measured is one, and so is
//! an alarm in the kernel log, and what is much worse than in an earlier run or cannot be compared
//! with it.

use anyhow::{ensure, Context, Result};
use clap::Parser;
use p2pmem_selftests::bench::environment::{Clock, Environment};
use p2pmem_selftests::bench::record::Record;
use p2pmem_selftests::bench::results::Results;
use p2pmem_selftests::bench::works::WORKS;
use p2pmem_selftests::bench::{self, chart, goals, report, settings_chart, timing, Options};
use p2pmem_selftests::kmsg::Log;
use p2pmem_selftests::random::Random;
use p2pmem_selftests::{helper, module};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(about = "Measures p2pmem beside what else there is")]
struct Arguments {
    /// Rounds; what takes minutes is done in every fourth
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// Two rounds, and more of what has become worse
    #[arg(long, conflicts_with = "rounds")]
    quick: bool,
    /// Only this work, or these
    #[arg(long)]
    work: Vec<String>,
    /// Not this work
    #[arg(long, conflicts_with = "work")]
    without: Vec<String>,
    /// Repeats the choices of another run (not its timing)
    #[arg(long)]
    seed: Option<u64>,
    /// Writes everything, raw samples included, to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes charts to this directory
    #[arg(long)]
    svg: Option<PathBuf>,
    /// The machine's clock counts instructions, as that of QEMU with -icount shift=0: takes one call of
    /// everything for a sample, and shows no goals
    #[arg(long)]
    counting: bool,
    /// JSON of such a run, to be shown beside the times
    #[arg(long)]
    instructions: Option<PathBuf>,
    /// JSON of an earlier run: what has become much worse since, or was not measured, is a failure
    #[arg(long)]
    before: Option<PathBuf>,
    /// How many times worse that is
    #[arg(long, default_value_t = 1.5)]
    margin: f64,
    /// What is measured, for the report
    #[arg(long, default_value = "unknown")]
    revision: String,
    /// The module to load
    #[arg(long, default_value = "p2pmem.ko")]
    module: PathBuf,
}

fn main() -> ExitCode {
    if let Some(status) = helper::main() {
        return status;
    }
    match run(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())
}

/// Whether everything could be measured, and nothing is much worse than before.
fn run(arguments: Arguments) -> Result<bool> {
    let known: Vec<&str> = WORKS.iter().map(|work| work.name).collect();
    for name in arguments.work.iter().chain(&arguments.without) {
        ensure!(
            known.contains(&name.as_str()),
            "there is no work `{name}`: use {}",
            known.join(", ")
        );
    }
    let works: Vec<String> = known
        .iter()
        .map(|&name| name.to_owned())
        .filter(|name| arguments.work.is_empty() || arguments.work.contains(name))
        .filter(|name| !arguments.without.contains(name))
        .collect();
    let selected = !(arguments.work.is_empty() && arguments.without.is_empty());
    let read = |path: Option<PathBuf>| path.map(|path| Results::read(&path)).transpose();
    let (instructions, before) = (read(arguments.instructions)?, read(arguments.before)?);
    let seed = arguments.seed.unwrap_or_else(Random::any_seed);
    println!("bench: --seed {seed}");
    let mut log = Log::from_now()?;
    module::set_file(arguments.module);
    module::load("")?;
    let clock = match arguments.counting {
        true => Clock::Instructions,
        false => Clock::Time,
    };
    if clock == Clock::Instructions {
        timing::count_instructions();
    }
    let environment = Environment::read(arguments.revision, clock)?;
    println!("{}\n", environment.text());

    let charted = goals::goals();
    let mut goals = [charted.clone(), goals::same_under_all()].concat();
    let (before, elsewhere) = match before {
        Some(before) if before.processor != environment.processor => (None, Some(before.processor)),
        before => (before, None),
    };
    let regressions = |record: &Record| match &before {
        Some(before) => before.regressions(&goals, record, arguments.margin),
        None => Vec::new(),
    };
    let options = Options {
        rounds: if arguments.quick { 2 } else { arguments.rounds },
        quick: arguments.quick,
        seed,
        works,
    };
    let doubt = |record: &Record| regressions(record).into_iter().map(|(of, _)| of).collect();
    let mut outcome = bench::run(options, doubt)?;
    let regressions = regressions(&outcome.record);
    if let Some(before) = &before {
        let lacks = before.lacks(&goals, &outcome.record);
        if !lacks.is_empty() {
            let problem = "ratios that cannot be compared with before, run `make bench` first";
            outcome.problems.push(format!("{problem}: {}", lacks.len()));
        }
    }
    // Whatever else is wrong, what has been measured is not to be lost.
    if let Err(error) = module::unload() {
        outcome.problems.push(format!("{error:#}"));
    }
    outcome.problems.extend(log.alarms()?);

    let record = &outcome.record;
    ensure!(
        record.series().next().is_some() || !outcome.problems.is_empty(),
        "nothing was measured: what takes minutes is due in every fourth round only, use --rounds 4"
    );
    // What takes long is not due in each round.
    if selected || arguments.quick {
        goals.retain(|goal| goal.subject.value(record).is_some());
    }
    if clock == Clock::Time {
        println!("{}", report::goals(&goals, record, instructions.as_ref()));
        if let Some(counted) =
            instructions.filter(|counted| counted.revision != environment.revision)
        {
            println!("instructions were counted at {}", counted.revision);
        }
    }
    println!("{}", report::medians(record, clock));
    if let Some(file) = &arguments.json {
        let json = report::json(&goals, &outcome, &environment, seed);
        write(file, &(serde_json::to_string_pretty(&json)? + "\n"))?;
    }
    if let Some(directory) = &arguments.svg {
        for (name, drawing) in [
            ("goals.svg", chart::goals(&charted, record)),
            ("crowd.svg", chart::crowd(record)),
            ("settings.svg", settings_chart::settings(record)),
        ] {
            write(&directory.join(name), &drawing)?;
        }
    }
    for problem in &outcome.problems {
        println!("problem: {problem}");
    }
    if let Some(processor) = elsewhere {
        println!("not compared with before: that was on {processor}");
    }
    for (_, regression) in &regressions {
        println!("WORSE than before: {regression}");
    }
    if clock == Clock::Time {
        println!("{}", report::summary(&goals, &outcome));
        if arguments.quick {
            println!("mapping 16 GiB is left out: run `make bench` for that, too");
        }
    }
    Ok(outcome.problems.is_empty() && regressions.is_empty())
}
