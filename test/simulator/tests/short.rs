//! The simulator at work, as long as CI can wait: the doubles, right and wrong.

use io_engine_simulator::modes::mutants::budget;
use io_engine_simulator::modes::random::{Search, search};
use io_engine_simulator::plan::generate::Profile;

use io_engine_simulator::store::double::{Bug, Double};
use io_engine_simulator::store::pool::POOL;

fn job(bug: Option<Bug>, profile: Profile, seeds: u64) -> Search {
    Search {
        kind: Double::new(bug),
        profile: Some(profile),
        seeds: 0..seeds,
        budget: budget(profile),
        time_max: None,
        workers: 1,
        shrink_tries: 200,
    }
}

#[test]
fn the_correct_double_passes() {
    for profile in [Profile::Everything, Profile::Damage, Profile::Faults] {
        let done = search(&job(None, profile, 100), &|_| {});
        match done {
            Ok(totals) => println!("{profile:?}: {totals:?}"),
            Err(caught) => panic!("{}\n{}", caught.scenario, caught.finding),
        }
    }
}

#[test]
fn the_pool_passes() {
    for profile in [Profile::Everything, Profile::Damage, Profile::Faults] {
        let job = Search { kind: &POOL, ..job(None, profile, 20) };
        match search(&job, &|_| {}) {
            Ok(totals) => println!("{profile:?}: {totals:?}"),
            Err(caught) => println!("{}\n{}\n{:?}", caught.scenario, caught.finding, caught.totals),
        }
    }
}

#[test]
fn every_bug_is_caught() {
    for bug in Bug::ALL {
        let found = [Profile::Everything, Profile::Damage, Profile::Faults]
            .into_iter()
            .find_map(|profile| search(&job(Some(bug), profile, 200), &|_| {}).err());
        match found {
            Some(caught) => println!(
                "{bug:?}: {:?} at seed {}, {} ops",
                caught.finding.failure.rule,
                caught.scenario.seed,
                caught.scenario.segments.iter().map(Vec::len).sum::<usize>()
            ),
            None => println!("{bug:?} SURVIVES"),
        }
    }
}
