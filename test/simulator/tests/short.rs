//! The simulator at work, as long as CI can wait: the pool, the double that is right, and every
//! bug of the double, so that each rule of the model is seen to be broken by something.

use std::collections::BTreeSet;

use io_engine_simulator::modes::exhaustive;
use io_engine_simulator::modes::mutants::{Effort, budget, examine_double};
use io_engine_simulator::modes::random::{Search, search};
use io_engine_simulator::oracle::Rule;
use io_engine_simulator::plan::generate::Profile;
use io_engine_simulator::run::scenario::{Budget, Totals};
use io_engine_simulator::store::StoreKind;
use io_engine_simulator::store::double::{Bug, Double};
use io_engine_simulator::store::pool::POOL;

/// Runs scenarios and expects that no rule is broken.
fn passes(kind: &'static dyn StoreKind, profile: Profile, seeds: u64) -> Totals {
    let job = Search {
        kind,
        profile: Some(profile),
        seeds: 0..seeds,
        budget: budget(profile),
        time_max: None,
        workers: 1,
        shrink_tries: 50,
    };
    match search(&job, &|_| {}) {
        Ok(totals) => totals,
        Err(caught) => panic!("{}\n{}", caught.scenario, caught.finding),
    }
}

#[test]
fn the_pool_survives_cuts() {
    let totals = passes(&POOL, Profile::Everything, 30);
    assert!(totals.cuts > 4000 && totals.double_cuts > 400, "{totals:?}");
    assert!(totals.full > 0, "some of the stores are nearly full: {totals:?}");
}

#[test]
fn the_pool_survives_faults() {
    let totals = passes(&POOL, Profile::Faults, 60);
    assert!(totals.cuts > 3000 && totals.refused > 20, "{totals:?}");
}

#[test]
fn the_pool_notices_damage() {
    let totals = passes(&POOL, Profile::Damage, 60);
    assert!(totals.cuts > 1500 && totals.refused > 200, "{totals:?}");
}

#[test]
fn some_workloads_of_three_operations_with_all_of_their_cuts() {
    let step = exhaustive::count() / 12;
    let mut sum = Totals::default();
    for number in (0..12).map(|at| at * step + at % 2) {
        let job = Search {
            kind: &POOL,
            profile: None,
            seeds: number..number + 1,
            budget: Budget { subset_parts: 4, ..Budget::default() },
            time_max: None,
            workers: 1,
            shrink_tries: 0,
        };
        match search(&job, &|_| {}) {
            Ok(totals) => sum.add(totals),
            Err(caught) => panic!("{}\n{}", caught.scenario, caught.finding),
        }
    }
    assert!(sum.runs == 12 && sum.cuts > 5000, "{sum:?}");
}

#[test]
fn the_right_double_breaks_no_rule() {
    for profile in [Profile::Everything, Profile::Faults] {
        passes(Double::new(None), profile, 60);
    }
}

#[test]
fn every_bug_of_the_double_is_caught_and_every_rule_is_broken_by_one() {
    let effort = Effort { seeds: 400, time_max: std::time::Duration::from_secs(60), workers: 1 };
    let mut broken = BTreeSet::new();
    let mut survivors = Vec::new();
    examine_double(effort, "", |verdict| match verdict.caught {
        Some((rule, profile, seed)) => {
            println!("{}: {rule:?}, {profile:?} seed {seed}", verdict.name);
            broken.insert(rule);
        }
        None => survivors.push(verdict.name),
    });
    assert!(survivors.is_empty(), "{survivors:?} of {} bugs survive", Bug::ALL.len());
    let all = [
        Rule::Content,
        Rule::Atomicity,
        Rule::Durability,
        Rule::Order,
        Rule::Names,
        Rule::Size,
        Rule::Snapshot,
        Rule::Read,
        Rule::Status,
        Rule::Space,
        Rule::Check,
        Rule::Import,
        Rule::Idempotence,
        Rule::FailStop,
        Rule::Hang,
        Rule::Panic,
        Rule::Repeat,
    ];
    let untouched: Vec<_> = all.into_iter().filter(|rule| !broken.contains(rule)).collect();
    assert!(untouched.is_empty(), "no bug breaks {untouched:?}");
}
