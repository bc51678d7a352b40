//! Runs protocol fuzz cases against a live NVMe/TCP target.
//!
//! `nvmf-fuzz ADDRESS SUBSYSTEM WITNESS_SUBSYSTEM CASES [SEED] [WORKERS]`: the witness's subsystem has
//! blocks of 4096 bytes, the other's 512. Ends with 1 when the target broke a rule, and names the
//! seed. With one case, that case is run alone, for a closer look.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command prints its results")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use io_engine_test::protocol_fuzz::{Case, CaseOutcome, Ending, Witness, baseline, run_case};
use io_engine_test::rng::Rng;

/// What was broken → how it ended → how often.
type Table = BTreeMap<&'static str, BTreeMap<String, u64>>;

struct Run {
    address: SocketAddr,
    subsystem: String,
    cases: u64,
    seed: u64,
    next: AtomicU64,
    failed: AtomicBool,
}

impl Run {
    fn case(&self, index: u64) -> Case {
        let seed = Rng::new(self.seed ^ index.wrapping_mul(0x9e37_79b9)).next_u64();
        let seed = if self.cases == 1 { self.seed } else { seed };
        Case {
            address: self.address,
            subsystem: self.subsystem.clone(),
            host: format!("nqn.2024-01.io.io-engine:host-{seed:x}"),
            digests: (seed & 1 == 1, seed & 2 == 2),
            seed,
        }
    }

    /// One worker: cases until there are no more. Returns its part of the table.
    fn work(&self, pdus: usize) -> Result<Table, String> {
        let mut table = Table::new();
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.cases || self.failed.load(Ordering::Relaxed) {
                return Ok(table);
            }
            match run_case(&self.case(index), pdus) {
                Ok(outcome) => count(&mut table, &outcome),
                Err(what) => {
                    self.failed.store(true, Ordering::Relaxed);
                    return Err(what);
                }
            }
        }
    }
}

fn count(table: &mut Table, outcome: &CaseOutcome) {
    let what = outcome.mutation.as_ref().map_or("nothing", |mutation| mutation.label());
    let how = match outcome.ending {
        Ending::Terminated(status) => format!("terminated {status}"),
        Ending::Closed => "closed".to_owned(),
        Ending::Silent => "waits".to_owned(),
        Ending::Refused(_) => "refused".to_owned(),
        Ending::Fine => "fine".to_owned(),
    };
    *table.entry(what).or_default().entry(how).or_default() += 1;
}

fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, subsystem, witnessed, cases, rest @ ..] = &arguments[..] else {
        bail!("usage: nvmf-fuzz ADDRESS SUBSYSTEM WITNESS_SUBSYSTEM CASES [SEED] [WORKERS]");
    };
    let number = |at: usize, default: u64| match rest.get(at) {
        None => Ok(default),
        Some(text) => text.parse().with_context(|| format!("'{text}' is not a number")),
    };
    let run = Run {
        address: address.parse().with_context(|| format!("'{address}' is not ADDRESS:PORT"))?,
        subsystem: subsystem.clone(),
        cases: cases.parse().with_context(|| format!("'{cases}' is not a number"))?,
        seed: number(0, 1)?,
        next: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    };
    let workers = usize::try_from(number(1, 8)?)?;
    let pdus = [(false, false), (true, false), (false, true), (true, true)].map(|digests| {
        baseline(&Case { digests, ..run.case(0) }).map_err(|what| anyhow!("baseline: {what}"))
    });
    let mut fewest = usize::MAX;
    for pdus in pdus {
        fewest = fewest.min(pdus?);
    }
    let host = "nqn.2014-08.org.nvmexpress:uuid:77777777-7777-7777-7777-777777777777";
    let mut witness = Witness::connect(run.address, witnessed, host, run.seed)
        .map_err(|what| anyhow!("witness: {what}"))?;
    let ended = AtomicBool::new(false);
    let (tables, seen) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                witness.step()?;
            }
            witness.finish()
        });
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(|| run.work(fewest))).collect();
        let tables: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        ended.store(true, Ordering::Relaxed);
        (tables, watch.join())
    });
    let mut all = Table::new();
    for table in tables {
        let table = table.map_err(|_| anyhow!("a worker panicked"))?;
        for (what, endings) in table.map_err(|what| anyhow!(what))? {
            for (how, times) in endings {
                *all.entry(what).or_default().entry(how).or_default() += times;
            }
        }
    }
    let ios = seen.map_err(|_| anyhow!("the witness panicked"))?;
    let ios = ios.map_err(|what| anyhow!("witness: {what}"))?;
    println!("{} cases; the witness did {ios} I/Os meanwhile, all as they should be", run.cases);
    for (what, endings) in all {
        let endings: Vec<_> = endings.iter().map(|(how, times)| format!("{how} {times}")).collect();
        println!("{what:>16}: {}", endings.join(", "));
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
