//! Reactors.

use spdk_rs::reactor::{ReactorHandle, ReactorStats};

use super::seconds;
use super::text::{Exposition, Kind, Number};

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
    let mut counts = Vec::with_capacity(reactors.len());
    for (reactor, (core, _)) in reactors.iter().zip(&all) {
        // One that has ended has no pollers to count.
        if let Ok(pollers) = reactor.call(|reactor| reactor.poller_stats()).await {
            let timed = pollers.iter().filter(|poller| poller.period_ticks != 0).count();
            counts.push((core, pollers.len() - timed, timed));
        }
    }
    let mut family = out.family("io_engine_reactor_pollers", Kind::Gauge, "Pollers, by kind.");
    for (core, active, timed) in counts {
        family.sample(&[("core", core), ("kind", "active")], active);
        family.sample(&[("core", core), ("kind", "timed")], timed);
    }
}
