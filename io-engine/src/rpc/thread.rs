//! `thread_get_stats`, `thread_get_pollers`, `thread_get_io_channels`.
//!
//! A reactor is its thread here: thread ids count the reactors from 1, in order of their cores.

use std::sync::Arc;

use serde_json::{Value, json};
use spdk_rs::bdev::BdevCore;
use spdk_rs::env::Clock;
use spdk_rs::env::cpu::CoreSet;
use spdk_rs::reactor::{PollerStats, ReactorHandle};

use super::errors::{self, RpcResult};
use super::params::Nothing;
use super::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("thread_get_stats", "Tells how busy the reactors' threads are.", get_stats)
            .answers(
                "`tick_rate`, `threads`: `name`, `id`, `cpumask`, `busy`, `idle`, `in_interrupt`, \
                 `active_pollers_count`, `timed_pollers_count`, `paused_pollers_count`; ours: \
                 `turns`, `sleeps`, `sleep_ticks`, `stalls`, `kernel_entries` (calls of \
                 `io_uring_enter`)",
            ),
        Method::new("thread_get_pollers", "Lists the pollers of every thread.", get_pollers)
            .answers(
                "`tick_rate`, `threads`: `name`, `id`, `active_pollers`, `timed_pollers`, \
                 `paused_pollers`: `name`, `id`, `state`, `run_count`, `busy_count`, \
                 `period_ticks`",
            ),
        Method::new(
            "thread_get_io_channels",
            "Lists the devices that every thread has a channel to.",
            get_io_channels,
        )
        .answers(
            "`tick_rate`, `threads`: `name`, `id`, `io_channels`: `name` (`bdev_` and the device's), \
             `ref` (its users)",
        ),
    ]
}

/// The id of a reactor's thread; 0 when it is none of `reactors`.
pub(super) fn thread_id(reactors: &[ReactorHandle], reactor: &ReactorHandle) -> usize {
    reactors.iter().position(|other| other.core() == reactor.core()).map_or(0, |index| index + 1)
}

/// The name of a reactor's thread.
pub(super) fn thread_name(reactor: &ReactorHandle) -> String {
    format!("reactor_{}", reactor.core())
}

/// The mask of a reactor's one core, hexadecimal without a prefix, as SPDK writes it.
pub(super) fn cpumask(reactor: &ReactorHandle) -> String {
    let mask = std::iter::once(reactor.core()).collect::<CoreSet>().mask_hex();
    mask.trim_start_matches("0x").to_owned()
}

/// The pollers of a reactor, asked for on the reactor.
async fn pollers(reactor: &ReactorHandle) -> RpcResult<Vec<PollerStats>> {
    reactor.call(|reactor| reactor.poller_stats()).await.map_err(|error| errors::failed(&error))
}

async fn get_stats(context: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let reactors = context.engine()?.runtime().reactors();
    let mut threads = Vec::with_capacity(reactors.len());
    for reactor in reactors {
        let pollers = pollers(reactor).await?;
        let timed = pollers.iter().filter(|poller| poller.period_ticks != 0).count();
        let stats = reactor.stats();
        threads.push(json!({
            "name": thread_name(reactor),
            "id": thread_id(reactors, reactor),
            "cpumask": cpumask(reactor),
            "busy": stats.busy_ticks,
            "idle": stats.idle_ticks,
            "in_interrupt": false,
            "active_pollers_count": pollers.len() - timed,
            "timed_pollers_count": timed,
            "paused_pollers_count": 0,
            "turns": stats.turns,
            "sleeps": stats.sleeps,
            "kernel_entries": stats.kernel_entries,
            "sleep_ticks": stats.sleep_ticks,
            "stalls": stats.stalls,
        }));
    }
    Ok(json!({ "tick_rate": Clock::Real.hz(), "threads": threads }))
}

async fn get_pollers(context: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let reactors = context.engine()?.runtime().reactors();
    let mut threads = Vec::with_capacity(reactors.len());
    for reactor in reactors {
        let all = pollers(reactor).await?;
        let shown = |timed: bool| -> Vec<Value> {
            let numbered = all.iter().enumerate();
            let chosen = numbered.filter(|(_, poller)| (poller.period_ticks != 0) == timed);
            chosen.map(|(index, poller)| of_poller(index + 1, poller)).collect()
        };
        threads.push(json!({
            "name": thread_name(reactor),
            "id": thread_id(reactors, reactor),
            "active_pollers": shown(false),
            "timed_pollers": shown(true),
            "paused_pollers": [],
        }));
    }
    Ok(json!({ "tick_rate": Clock::Real.hz(), "threads": threads }))
}

async fn get_io_channels(context: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let reactors = context.engine()?.runtime().reactors();
    let mut threads = Vec::with_capacity(reactors.len());
    for reactor in reactors {
        let asked = reactor.call(|reactor| BdevCore::of(reactor).open_channels()).await;
        let open = asked.map_err(|error| errors::failed(&error))?;
        let shown =
            |(name, uses): &(String, usize)| json!({ "name": format!("bdev_{name}"), "ref": uses });
        threads.push(json!({
            "name": thread_name(reactor),
            "id": thread_id(reactors, reactor),
            "io_channels": open.iter().map(shown).collect::<Vec<_>>(),
        }));
    }
    Ok(json!({ "tick_rate": Clock::Real.hz(), "threads": threads }))
}

fn of_poller(id: usize, poller: &PollerStats) -> Value {
    let mut shown = json!({
        "name": poller.name,
        "id": id,
        "state": "waiting",
        "run_count": poller.runs,
        "busy_count": poller.busy_runs,
    });
    if poller.period_ticks != 0 {
        shown["period_ticks"] = poller.period_ticks.into();
    }
    shown
}
