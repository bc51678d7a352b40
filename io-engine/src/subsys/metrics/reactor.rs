//! Reactors.

use std::collections::BTreeMap;

use spdk_rs::reactor::{PollerStats, ReactorHandle, ReactorStats};

use super::seconds;
use super::text::{Exposition, Figure, Kind, Number};

/// A family with a sample per reactor.
type Column = (&'static str, &'static str, fn(&ReactorStats) -> Number);

const COLUMNS: &[Column] = &[
    ("io_engine_reactor_busy_seconds_total", "Time in turns that found work.", |stats| {
        seconds(stats.busy_ticks).into()
    }),
    (
        "io_engine_reactor_idle_seconds_total",
        "Time in turns that found no work, time asleep included.",
        |stats| seconds(stats.idle_ticks).into(),
    ),
    ("io_engine_reactor_sleep_seconds_total", "Time asleep in the kernel.", |stats| {
        seconds(stats.sleep_ticks).into()
    }),
    ("io_engine_reactor_turns_total", "Turns of the loop.", |stats| stats.turns.into()),
    ("io_engine_reactor_sleeps_total", "How often it went to sleep.", |stats| stats.sleeps.into()),
    ("io_engine_reactor_stalls_total", "Turns that took longer than the stall limit.", |stats| {
        stats.stalls.into()
    }),
    ("io_engine_reactor_kernel_entries_total", "Calls of io_uring_enter.", |stats| {
        stats.kernel_entries.into()
    }),
];

pub(super) async fn write(out: &mut Exposition, reactors: &[ReactorHandle]) {
    let all: Vec<(String, ReactorStats)> =
        reactors.iter().map(|one| (one.core().to_string(), one.stats())).collect();
    for (name, help, value) in COLUMNS {
        let mut family = out.family(name, Kind::Counter, help);
        for (core, stats) in &all {
            family.sample(&[("core", core)], value(stats));
        }
    }
    let mut pollers = Vec::with_capacity(reactors.len());
    for (reactor, (core, _)) in reactors.iter().zip(&all) {
        // One that has ended has no pollers to count.
        if let Ok(found) = reactor.call(|reactor| reactor.poller_stats()).await {
            pollers.push((core.as_str(), found));
        }
    }
    write_pollers(out, &pollers);
}

/// Runs of pollers, and those that found work.
type Runs = (u64, u64);

/// The pollers of each core: how many there are, and by their names how often they ran.
fn write_pollers(out: &mut Exposition, reactors: &[(&str, Vec<PollerStats>)]) {
    let mut family = out.family("io_engine_reactor_pollers", Kind::Gauge, "Pollers, by kind.");
    for (core, pollers) in reactors {
        let timed = pollers.iter().filter(|poller| poller.period_ticks != 0).count();
        family.sample(&[("core", core), ("kind", "active")], pollers.len() - timed);
        family.sample(&[("core", core), ("kind", "timed")], timed);
    }
    let mut named: BTreeMap<(&str, &str), Runs> = BTreeMap::new();
    for (core, pollers) in reactors {
        for poller in pollers {
            let (runs, busy) = named.entry((core, poller.name)).or_default();
            (*runs, *busy) = (*runs + poller.runs, *busy + poller.busy_runs);
        }
    }
    let columns: [Figure<Runs, u64>; 2] = [
        ("io_engine_reactor_poller_runs_total", "Runs of the pollers of a name.", |all| all.0),
        (
            "io_engine_reactor_poller_busy_runs_total",
            "Runs of the pollers of a name that found work.",
            |all| all.1,
        ),
    ];
    for (name, help, value) in columns {
        let mut family = out.family(name, Kind::Counter, help);
        for ((core, poller), counts) in &named {
            family.sample(&[("core", core), ("poller", poller)], value(counts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pollers_of_a_name_are_counted_together() {
        let poller = |name, period_ticks, runs, busy_runs| PollerStats {
            name,
            period_ticks,
            runs,
            busy_runs,
        };
        let mut out = Exposition::default();
        let all = vec![poller("a", 0, 5, 2), poller("b", 9, 1, 0), poller("a", 9, 10, 3)];
        write_pollers(&mut out, &[("0", all), ("1", vec![poller("a", 0, 7, 7)])]);
        let text = out.into_text();
        for line in [
            "io_engine_reactor_pollers{core=\"0\",kind=\"active\"} 1\n",
            "io_engine_reactor_pollers{core=\"0\",kind=\"timed\"} 2\n",
            "io_engine_reactor_poller_runs_total{core=\"0\",poller=\"a\"} 15\n",
            "io_engine_reactor_poller_busy_runs_total{core=\"0\",poller=\"a\"} 5\n",
            "io_engine_reactor_poller_busy_runs_total{core=\"0\",poller=\"b\"} 0\n",
            "io_engine_reactor_poller_runs_total{core=\"1\",poller=\"a\"} 7\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }
}
