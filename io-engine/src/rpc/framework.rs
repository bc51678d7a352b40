//! `rpc_get_methods`, `spdk_get_version`, `framework_*`, `spdk_kill_instance`.

use std::collections::HashMap;
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use spdk_rs::env::Clock;

use super::errors::{self, RpcResult};
use super::params::def::{choice, optional, required, words};
use super::params::{Defs, Kind, Nothing, ParamError, Params, Request};
use super::thread::{cpumask, thread_id, thread_name};
use super::{Context, Method, When};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("rpc_get_methods", "Lists the methods.", get_methods)
            .at(When::Always)
            .answers("names"),
        Method::new("spdk_get_version", "Tells the version.", get_version)
            .at(When::Always)
            .answers("`version` text; `fields`: `major`, `minor`, `patch`, `suffix`"),
        Method::new("framework_wait_init", "Waits until the engine has started.", wait_init)
            .at(When::Always),
        Method::new("framework_start_init", "Starts what `--wait-for-rpc` holds back.", start_init)
            .at(When::Startup),
        Method::new("framework_get_reactors", "Tells what the reactors do.", get_reactors).answers(
            "`tick_rate`, `pid`, `reactors`: `lcore`, `tid`, `busy` and `idle` in ticks, \
                 `in_interrupt`, `irq` and `sys` (of the core, in the kernel's clock ticks, from \
                 `/proc/stat`), `lw_threads`: `name`, `id`, `cpumask`, `elapsed`",
        ),
        Method::new("spdk_kill_instance", "Sends the daemon a signal.", kill_instance)
            .at(When::Always),
    ]
}

struct GetMethods {
    current: bool,
}

impl Request for GetMethods {
    const PARAMS: Defs = &[&[
        optional("current", Kind::Bool, "Only what may be called now.").or_bool(false),
        optional("include_aliases", Kind::Bool, "There are none, so the list is the same.")
            .or_bool(true),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let current = params.required("current")?;
        // There are no aliases, so the list is the same with and without them.
        let _: bool = params.required("include_aliases")?;
        Ok(Self { current })
    }
}

async fn get_methods(context: Arc<Context>, request: GetMethods) -> RpcResult<Vec<&'static str>> {
    let all = super::methods();
    let callable =
        |method: &&Method| !request.current || context.phase().check(method.when()).is_ok();
    let callable = all.iter().filter(callable);
    Ok(callable.map(Method::name).collect())
}

async fn get_version(_: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let number = |text: &str| text.parse::<u64>().unwrap_or(0);
    Ok(json!({
        "version": concat!("io-engine v", env!("CARGO_PKG_VERSION"), " (SPDK RPC dialect)"),
        "fields": {
            "major": number(env!("CARGO_PKG_VERSION_MAJOR")),
            "minor": number(env!("CARGO_PKG_VERSION_MINOR")),
            "patch": number(env!("CARGO_PKG_VERSION_PATCH")),
            "suffix": env!("CARGO_PKG_VERSION_PRE"),
        },
    }))
}

async fn wait_init(context: Arc<Context>, _: Nothing) -> RpcResult<bool> {
    context.phase().running().await;
    Ok(true)
}

async fn start_init(context: Arc<Context>, _: Nothing) -> RpcResult<bool> {
    context.phase().begin();
    context.phase().running().await;
    Ok(true)
}

async fn get_reactors(context: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    let reactors = context.engine()?.runtime().reactors();
    let times = core_times(&std::fs::read_to_string("/proc/stat").unwrap_or_default());
    let shown: Vec<Value> = reactors
        .iter()
        .map(|reactor| {
            let stats = reactor.stats();
            let (sys, irq) = times.get(&reactor.core().0).copied().unwrap_or_default();
            json!({
                "lcore": reactor.core().0,
                "tid": stats.os_thread,
                "busy": stats.busy_ticks,
                "idle": stats.idle_ticks,
                "in_interrupt": false,
                "irq": irq,
                "sys": sys,
                "lw_threads": [{
                    "name": thread_name(reactor),
                    "id": thread_id(reactors, reactor),
                    "cpumask": cpumask(reactor),
                    "elapsed": stats.busy_ticks.saturating_add(stats.idle_ticks),
                }],
            })
        })
        .collect();
    Ok(json!({ "tick_rate": Clock::Real.hz(), "pid": std::process::id(), "reactors": shown }))
}

/// Time of each core in the kernel and in interrupts, in the kernel's clock ticks, out of
/// `/proc/stat` (proc_stat(5)).
fn core_times(text: &str) -> HashMap<u32, (u64, u64)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let core = words.next()?.strip_prefix("cpu")?.parse().ok()?;
        let times: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        Some((core, (*times.get(2)?, *times.get(5)?)))
    };
    text.lines().filter_map(line).collect()
}

/// The signals that may be sent.
const SIGNALS: [(&str, Signal); 3] =
    [("SIGTERM", Signal::SIGTERM), ("SIGINT", Signal::SIGINT), ("SIGKILL", Signal::SIGKILL)];

struct KillInstance(Signal);

impl Request for KillInstance {
    const PARAMS: Defs = &[&[required(
        "sig_name",
        choice(&words(&SIGNALS)),
        "`SIGTERM` and `SIGINT` end in order; with `SIGKILL` nothing is flushed.",
    )]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required_choice("sig_name", &SIGNALS).map(Self)
    }
}

async fn kill_instance(_: Arc<Context>, request: KillInstance) -> RpcResult<bool> {
    kill(Pid::this(), request.0).map_err(|errno| errors::errno(errno, "cannot send the signal"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_cores() {
        let times = core_times("cpu  1 2 3 4 5 6 7 8\ncpu0 10 11 12 13 14 15 16\ncpu3 1 2\nintr 5");
        assert_eq!(times, HashMap::from([(0, (12, 15))]));
    }
}
