//! Whether the simulator notices what is wrong with a store: one defect after the other.

use std::time::Duration;

use super::random::{Search, search, since};
use crate::oracle::Rule;
use crate::plan::generate::Profile;
use crate::run::scenario::{Budget, Totals};
use crate::store::StoreKind;
use spdk_rs::env::Clock;

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

/// Looks for one defect in runs of every kind.
#[must_use]
pub fn examine(kind: &'static dyn StoreKind, name: String, effort: Effort) -> Verdict {
    let started = Clock::Real.ticks();
    let mut totals = Totals::default();
    // A short look at each kind comes before a long one.
    for share in [20, 1] {
        for profile in [Profile::Everything, Profile::Damage, Profile::Faults] {
            let job = Search {
                kind,
                profile: Some(profile),
                seeds: 0..(effort.seeds / share).max(1),
                budget: budget(profile),
                time_max: Some(effort.time_max),
                workers: effort.workers,
                shrink_tries: 0,
            };
            match search(&job, &|_| {}) {
                Ok(done) => totals.add(done),
                Err(caught) => {
                    totals.add(caught.totals);
                    let found = (caught.finding.failure.rule, profile, caught.scenario.seed);
                    return Verdict { name, caught: Some(found), totals, took: since(started) };
                }
            }
        }
    }
    Verdict { name, caught: None, totals, took: since(started) }
}

/// Looks for every mutant of the pool. One at a time is on, in the whole process.
#[cfg(feature = "pool-mutants")]
pub fn examine_pool(effort: Effort, mut told: impl FnMut(Verdict)) {
    use io_engine::pool::mutant::{ALL, set};
    for &mutant in ALL {
        set(Some(mutant));
        told(examine(&crate::store::pool::POOL, mutant.name(), effort));
        set(None);
    }
}

/// Looks for every bug of the double.
pub fn examine_double(effort: Effort, mut told: impl FnMut(Verdict)) {
    use crate::store::double::{Bug, Double};
    for bug in Bug::ALL {
        told(examine(Double::new(Some(bug)), format!("{bug:?}"), effort));
    }
}
