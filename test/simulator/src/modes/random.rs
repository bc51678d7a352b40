//! Scenario after scenario, seed after seed, on several threads.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use spdk_rs::env::Clock;

use super::exhaustive;
use crate::oracle::{Failure, Rule};
use crate::plan::Scenario;
use crate::plan::generate::{Profile, scenario};
use crate::plan::shrink::shrink;
use crate::run::reactor::memory;
use crate::run::scenario::{Budget, Finding, Totals, run_scenario};
use crate::store::StoreKind;

/// What is run.
#[derive(Clone)]
pub struct Search {
    /// The store.
    pub kind: &'static dyn StoreKind,
    /// What scenarios are like; none for those of three operations.
    pub profile: Option<Profile>,
    /// Their seeds.
    pub seeds: Range<u64>,
    /// How many cuts each gets.
    pub budget: Budget,
    /// No scenario is begun after this time.
    pub time_max: Option<Duration>,
    /// Threads.
    pub workers: usize,
    /// Tries to make a failing scenario small; 0 leaves it as it is.
    pub shrink_tries: usize,
}

/// A scenario that broke a rule.
#[derive(Debug)]
pub struct Caught {
    /// The scenario, made small.
    pub scenario: Scenario,
    /// The rule and the place.
    pub finding: Finding,
    /// What was done until then.
    pub totals: Totals,
}

impl Search {
    /// The scenario of a seed.
    #[must_use]
    pub fn scenario(&self, seed: u64) -> Scenario {
        self.profile.map_or_else(|| exhaustive::scenario(seed), |profile| scenario(seed, profile))
    }
}

/// Time that has passed since a tick of the real clock.
#[must_use]
pub fn since(start: u64) -> Duration {
    Clock::Real.duration_of(Clock::Real.ticks().saturating_sub(start))
}

/// Runs until a rule is broken, the seeds are used up, or the time is over. `progress` is told the
/// totals so far, after every scenario.
///
/// # Errors
/// The first scenario that broke a rule, made small.
pub fn search(search: &Search, progress: &(dyn Fn(Totals) + Sync)) -> Result<Totals, Box<Caught>> {
    let started = Clock::Real.ticks();
    let (next, stop) = (AtomicU64::new(search.seeds.start), AtomicBool::new(false));
    let sums: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
    let work = || -> Option<(u64, Box<Finding>)> {
        let memory = match memory() {
            Ok(memory) => memory,
            Err(failure) => return Some((search.seeds.start, simulator_finding(failure))),
        };
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let late = search.time_max.is_some_and(|limit| since(started) > limit);
            if seed >= search.seeds.end || late {
                return None;
            }
            let plan = search.scenario(seed);
            match run_scenario(search.kind, &memory, &plan, search.budget) {
                Ok(totals) => progress(add(&sums, totals)),
                Err(finding) => {
                    stop.store(true, Ordering::Relaxed);
                    return Some((seed, finding));
                }
            }
        }
        None
    };
    let first = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..search.workers.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).min_by_key(|f| f.0)
    });
    let totals = add(&sums, Totals::default());
    match first {
        None => Ok(totals),
        Some((seed, finding)) => {
            let plan = search.scenario(seed);
            let (scenario, finding) = smaller(search, plan, finding);
            Err(Box::new(Caught { scenario, finding, totals }))
        }
    }
}

fn simulator_finding(failure: Failure) -> Box<Finding> {
    Box::new(Finding { failure, segment: 0, cuts: Vec::new() })
}

fn add(sums: &[AtomicU64; 5], totals: Totals) -> Totals {
    let [runs, cuts, double_cuts, refused, full] = sums;
    let sum = |sum: &AtomicU64, more| sum.fetch_add(more, Ordering::Relaxed) + more;
    Totals {
        runs: sum(runs, totals.runs),
        cuts: sum(cuts, totals.cuts),
        double_cuts: sum(double_cuts, totals.double_cuts),
        refused: sum(refused, totals.refused),
        full: sum(full, totals.full),
    }
}

/// Makes a failing scenario small, as long as any rule is broken.
fn smaller(search: &Search, plan: Scenario, finding: Box<Finding>) -> (Scenario, Finding) {
    let Ok(memory) = memory() else { return (plan, *finding) };
    let budget = like(&finding, search.budget);
    let mut last = *finding;
    let fails = |candidate: &Scenario| match run_scenario(search.kind, &memory, candidate, budget) {
        Err(found) => {
            last = *found;
            true
        }
        Ok(_) => false,
    };
    let small = shrink(&plan, search.shrink_tries, fails);
    (small, last)
}

/// The budget of cuts that finds the same thing again in a smaller scenario: every event, and only
/// what has led to it before.
fn like(finding: &Finding, budget: Budget) -> Budget {
    let never = u64::MAX;
    Budget {
        points: usize::MAX,
        cuts_per_point: 3,
        mode: finding.cuts.first().map(|cut| cut.mode),
        double_every: if finding.cuts.len() > 1 { 1 } else { never },
        space_every: if finding.failure.rule == Rule::Space { 1 } else { never },
        damages: budget.damages * 4,
        ..budget
    }
}
