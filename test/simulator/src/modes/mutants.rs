//! Whether the simulator notices what is wrong with a store: one defect after the other.

use std::time::Duration;

use spdk_rs::env::Clock;

use super::random::{Search, search, since};
use crate::oracle::Rule;
use crate::plan::Scenario;
use crate::plan::generate::Profile;
use crate::run::reactor::memory;
use crate::run::scenario::{Budget, Totals, run_scenario};
use crate::store::StoreKind;
use crate::store::double::{Bug, Double};

/// A defect, and whether it was found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The defect.
    pub name: String,
    /// The rule that it broke, in which kind of run, and at which seed; none when it survived.
    pub caught: Option<(Rule, Profile, u64)>,
    /// What was done until then.
    pub totals: Totals,
    /// How long it took.
    pub took: Duration,
}

/// How long one defect is looked for, and by how many threads.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Scenarios of each kind that are tried.
    pub seeds: u64,
    /// Time for each kind.
    pub time_max: Duration,
    /// Threads.
    pub workers: usize,
}

/// The budget of a profile's scenarios.
#[must_use]
pub fn budget(profile: Profile) -> Budget {
    let damages = if profile == Profile::Damage { 48 } else { 0 };
    let points = if profile == Profile::Damage { 4 } else { Budget::default().points };
    Budget { damages, points, ..Budget::default() }
}

/// A store with a defect that can be taken out.
pub struct Defect<'a> {
    /// Its name.
    pub name: String,
    /// The store with it.
    pub kind: &'static dyn StoreKind,
    /// Runs a scenario again without the defect: whether it passes then.
    pub passes_without: &'a dyn Fn(&Search, &Scenario) -> bool,
}

/// Looks for one defect in runs of every kind. What fails without it too does not count.
#[must_use]
pub fn examine(defect: Defect<'_>, effort: Effort) -> Verdict {
    let started = Clock::Real.ticks();
    let mut totals = Totals::default();
    let Defect { name, kind, passes_without } = defect;
    // A short look at each kind comes before a long one.
    for share in [8, 1] {
        for profile in [Profile::Everything, Profile::Damage, Profile::Faults] {
            let mut job = Search {
                kind,
                profile: Some(profile),
                seeds: 0..(effort.seeds / share).max(1),
                budget: budget(profile),
                time_max: Some(effort.time_max),
                workers: effort.workers,
                shrink_tries: 0,
            };
            loop {
                match search(&job, &|_| {}) {
                    Ok(done) => {
                        totals.add(done);
                        break;
                    }
                    Err(caught) => {
                        totals.add(caught.totals);
                        let seed = caught.scenario.seed;
                        if passes_without(&job, &job.scenario(seed)) {
                            let found = (caught.finding.failure.rule, profile, seed);
                            let took = since(started);
                            return Verdict { name, caught: Some(found), totals, took };
                        }
                        job.seeds.start = seed + 1;
                    }
                }
            }
        }
    }
    Verdict { name, caught: None, totals, took: since(started) }
}

/// Whether a scenario passes on a store.
fn passes(kind: &'static dyn StoreKind, job: &Search, scenario: &Scenario) -> bool {
    memory().is_ok_and(|memory| run_scenario(kind, &memory, scenario, job.budget).is_ok())
}

/// Looks for the mutants of the pool whose names contain a text. One at a time is on, in the whole
/// process.
#[cfg(feature = "pool-mutants")]
pub fn examine_pool(effort: Effort, named: &str, mut told: impl FnMut(Verdict)) {
    use io_engine::pool::mutant::{ALL, set};

    use crate::store::pool::POOL;
    for &mutant in ALL.iter().filter(|mutant| mutant.name().contains(named)) {
        let passes_without = |job: &Search, scenario: &Scenario| {
            set(None);
            let passes = passes(&POOL, job, scenario);
            set(Some(mutant));
            passes
        };
        set(Some(mutant));
        let defect = Defect { name: mutant.name(), kind: &POOL, passes_without: &passes_without };
        told(examine(defect, effort));
        set(None);
    }
}

/// Looks for the bugs of the double whose names contain a text.
pub fn examine_double(effort: Effort, named: &str, mut told: impl FnMut(Verdict)) {
    let right = Double::new(None);
    let passes_without = |job: &Search, scenario: &Scenario| passes(right, job, scenario);
    for bug in Bug::ALL {
        let name = format!("{bug:?}");
        if name.contains(named) {
            let kind = Double::new(Some(bug));
            told(examine(Defect { name, kind, passes_without: &passes_without }, effort));
        }
    }
}
