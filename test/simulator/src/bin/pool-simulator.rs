//! `pool-simulator`: cuts the power of a simulated device under the pool, and checks what is left.
#![allow(clippy::print_stdout, reason = "what it has found is what it is run for")]

use std::ops::Range;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use io_engine_simulator::modes::mutants::{Effort, Verdict, budget};
use io_engine_simulator::modes::random::{Search, search, since};
use io_engine_simulator::modes::{exhaustive, mutants};
use io_engine_simulator::plan::generate::Profile;
use io_engine_simulator::run::scenario::{Budget, Totals};
use io_engine_simulator::store::StoreKind;
use io_engine_simulator::store::double::{Bug, Double};
use io_engine_simulator::store::pool::POOL;
use spdk_rs::env::Clock;

/// Cuts the power of a simulated device under the storage pool, at any moment and with any part
/// of its cache lost, and compares what a recovery finds with what a model allows. A run with the
/// same seed is the same run. The exit status is 1 when a rule is broken or a mutant survives.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Random scenarios with many cuts each.
    Random(Options),
    /// Every cut of every workload of three operations.
    Exhaustive {
        #[command(flatten)]
        options: Options,
        /// Every subset of what is not flushed, where it has at most so many parts (1 to 20).
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=20))]
        parts: u32,
    },
    /// Every cut is recovered under a second one, at every event of the import.
    DoubleCut(Options),
    /// Random scenarios on a device that fails and lies.
    Faults(Options),
    /// Random scenarios whose medium is damaged at their end.
    Damage(Options),
    /// Whether every mutant of the pool is caught; needs the feature `pool-mutants`.
    Mutants(Options),
    /// Whether every bug of the simulator's own double is caught.
    Bugs(Options),
}

/// What is run, and for how long.
#[derive(Args, Clone)]
struct Options {
    /// This seed only.
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds from A up to and without B.
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// No scenario is begun after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,
    /// Threads.
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// The store: `pool`, `double`, or the name of a bug of the double.
    #[arg(long, default_value = "pool", value_parser = parse_store)]
    store: Chosen,
    /// Of the mutants or bugs, those whose name contains this.
    #[arg(long, default_value = "")]
    named: String,
    /// Tries to make a failing scenario small.
    #[arg(long, default_value_t = 400)]
    shrink: usize,
}

#[derive(Clone, Copy)]
struct Chosen(&'static dyn StoreKind);

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    match parts {
        Some((a, b)) if a < b => Ok(a..b),
        _ => Err(format!("'{text}' is no range of seeds; write A..B with A below B")),
    }
}

fn parse_store(text: &str) -> Result<Chosen, String> {
    let bug = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == text);
    match (text, bug) {
        ("pool", _) => Ok(Chosen(&POOL)),
        ("double", _) => Ok(Chosen(Double::new(None))),
        (_, Some(_)) => Ok(Chosen(Double::new(bug))),
        _ => Err(format!("'{text}' is no store; write pool, double, or one of {:?}", Bug::ALL)),
    }
}

impl Options {
    fn time_max(&self) -> Option<Duration> {
        self.minutes.map(|minutes| Duration::from_secs(60 * minutes))
    }

    fn seeds(&self, default: Range<u64>) -> Range<u64> {
        let one = self.seed.map(|seed| seed..seed.saturating_add(1));
        one.or_else(|| self.seeds.clone()).unwrap_or(default)
    }

    fn effort(&self) -> Effort {
        // The rarest of the mutants takes some five thousand seeds and a quarter of an hour.
        let seeds = self.seeds(0..8000);
        let time_max = self.time_max().unwrap_or(Duration::from_secs(1800));
        Effort { seeds: seeds.end - seeds.start, time_max, workers: self.workers }
    }
}

fn main() -> ExitCode {
    // What panics is a finding, and is reported as one.
    std::panic::set_hook(Box::new(|_| {}));
    let good = match Cli::parse().mode {
        Mode::Random(options) => run(&options, Some(Profile::Everything), Budget::default()),
        Mode::Exhaustive { options, parts } => {
            run(&options, None, Budget { subset_parts: parts, ..Budget::default() })
        }
        Mode::DoubleCut(options) => {
            let budget = Budget { points: 12, double_every: 1, ..Budget::default() };
            run(&options, Some(Profile::Everything), budget)
        }
        Mode::Faults(options) => run(&options, Some(Profile::Faults), Budget::default()),
        Mode::Damage(options) => run(&options, Some(Profile::Damage), budget(Profile::Damage)),
        Mode::Mutants(options) => examine_pool(&options),
        Mode::Bugs(options) => {
            let mut survivors = 0;
            mutants::examine_double(options.effort(), &options.named, |verdict| {
                survivors += report(&verdict)
            });
            survivors == 0
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(feature = "pool-mutants")]
fn examine_pool(options: &Options) -> bool {
    let mut survivors = 0;
    mutants::examine_pool(options.effort(), &options.named, |verdict| {
        survivors += report(&verdict)
    });
    println!("{survivors} survive");
    survivors == 0
}

#[cfg(not(feature = "pool-mutants"))]
fn examine_pool(_: &Options) -> bool {
    println!("this build has no mutants; build it with --features pool-mutants");
    false
}

/// Prints a line of the table; 1 for a survivor.
fn report(verdict: &Verdict) -> u32 {
    let (name, cuts, took) = (&verdict.name, verdict.totals.cuts, verdict.took);
    match verdict.caught {
        Some((rule, profile, seed)) => {
            let rule = format!("{rule:?}");
            println!("{name:26} {rule:12} {profile:?} seed {seed}, {cuts} cuts, {took:.1?}");
            0
        }
        None => {
            println!("{name:26} SURVIVES     {cuts} cuts, {took:.1?}");
            1
        }
    }
}

fn run(options: &Options, profile: Option<Profile>, budget: Budget) -> bool {
    let all = if profile.is_some() { 0..u64::MAX } else { 0..exhaustive::count() };
    let endless = options.seed.is_none() && options.seeds.is_none() && options.minutes.is_none();
    let default = if profile.is_some() && endless { 0..1000 } else { all };
    let job = Search {
        kind: options.store.0,
        profile,
        seeds: options.seeds(default),
        budget,
        time_max: options.time_max(),
        workers: options.workers,
        shrink_tries: options.shrink,
    };
    let started = Clock::Real.ticks();
    let shown = AtomicU64::new(0);
    let progress = |totals: Totals| {
        let seconds = since(started).as_secs();
        if shown.swap(seconds / 10, Ordering::Relaxed) != seconds / 10 {
            println!("{seconds:6} s: {}", words(totals));
        }
    };
    let result = search(&job, &progress);
    let took = since(started);
    match result {
        Ok(totals) => {
            println!("{}: {} in {took:.1?}, no rule broken", job.kind.name(), words(totals));
            true
        }
        Err(caught) => {
            println!("{}\n{}", caught.scenario, caught.finding);
            println!(
                "{}: a rule is broken after {} in {took:.1?}",
                job.kind.name(),
                words(caught.totals)
            );
            println!("this again: --seed {}", caught.scenario.seed);
            false
        }
    }
}

fn words(totals: Totals) -> String {
    let Totals { runs, cuts, double_cuts, refused, full } = totals;
    format!(
        "{runs} scenarios, {cuts} cuts survived ({double_cuts} double), {refused} imports refused, \
         {full} operations without room"
    )
}
