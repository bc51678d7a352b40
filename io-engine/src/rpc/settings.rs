//! SPDK's settings of the framework that the engine has one answer to: schedulers, core locks,
//! `bdev_set_options`.
//!
//! What a setting asks for and the engine does anyway is taken; anything else is refused by name.

use std::sync::Arc;

use nix::errno::Errno;
use serde_json::{Value, json};

use super::errors::{self, RpcResult};
use super::memory::NO_IOBUF;
use super::method::When;
use super::params::def::{choice, int, not_done, only, required};
use super::params::{Def, Defs, Kind, Name, Nothing, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev;
use crate::pool::{ManagerError, PoolError};

/// Why there are no schedulers.
const PINNED: &str = "a reactor is its thread and stays on its core";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("framework_get_scheduler", "Tells how threads are scheduled.", get_scheduler)
            .answers("`scheduler_name` `static`, `scheduler_period` 0"),
        Method::new(
            "framework_set_scheduler",
            "Takes `static`, which is how it is; others are refused with -95.",
            set_scheduler,
        )
        .at(When::Always),
        Method::new(
            "framework_get_governor",
            "Tells how the frequency of cores is governed: it is left to the kernel.",
            get_governor,
        )
        .answers("`{}`"),
        Method::new(
            "framework_monitor_context_switch",
            "Tells whether context switches are monitored: they are not.",
            monitor_context_switch,
        )
        .answers("`enabled` `false`"),
        Method::new(
            "framework_disable_cpumask_locks",
            "Lets other processes use the cores, which they may anyway.",
            disable_locks,
        )
        .at(When::Always),
        Method::new(
            "framework_enable_cpumask_locks",
            "Is refused with -95: cores are not locked against other processes.",
            enable_locks,
        )
        .at(When::Always),
        Method::new("thread_set_cpumask", "Is refused with -95: threads do not move.", set_cpumask),
        Method::new("log_enable_timestamps", "Takes `true`, which is how it is.", timestamps)
            .at(When::Always),
        Method::new("bdev_set_options", "Takes SPDK's options that ask for nothing.", options)
            .at(When::Always)
            .in_config("bdev"),
        Method::new(
            "bdev_examine",
            "Imports the pool that is on a device, if there is one that is not imported.",
            examine,
        )
        .in_config("bdev"),
    ]
}

async fn get_scheduler(_: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    Ok(json!({ "scheduler_name": "static", "scheduler_period": 0 }))
}

struct SetScheduler(String);

impl Request for SetScheduler {
    const PARAMS: Defs = &[&[
        required("name", choice(&["static", "dynamic", "gscheduler"]), "The scheduler."),
        only("period", "0", PINNED),
        not_done("load_limit", PINNED),
        not_done("core_limit", PINNED),
        not_done("core_busy", PINNED),
        not_done("mappings", PINNED),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}

fn unsupported(words: impl Into<String>) -> jsonrpsee::types::ErrorObjectOwned {
    errors::errno(Errno::EOPNOTSUPP, words)
}

async fn set_scheduler(_: Arc<Context>, request: SetScheduler) -> RpcResult<bool> {
    if request.0 == "static" {
        return Ok(true);
    }
    Err(unsupported(format!("there is no scheduler '{}': {PINNED}; there is static", request.0)))
}

async fn get_governor(_: Arc<Context>, _: Nothing) -> RpcResult<Value> {
    Ok(json!({}))
}

struct Monitor;

impl Request for Monitor {
    const PARAMS: Defs =
        &[&[only("enabled", "false", "the kernel counts them, in /proc/PID/status")]];

    fn take(_: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

async fn monitor_context_switch(_: Arc<Context>, _: Monitor) -> RpcResult<Value> {
    Ok(json!({ "enabled": false }))
}

async fn disable_locks(_: Arc<Context>, _: Nothing) -> RpcResult<bool> {
    Ok(true)
}

async fn enable_locks(_: Arc<Context>, _: Nothing) -> RpcResult<bool> {
    Err(unsupported("cores are not locked against other processes"))
}

struct SetCpumask;

impl Request for SetCpumask {
    const PARAMS: Defs = &[&[
        required("id", int(1, u32::MAX as i128), "The thread's id."),
        required("cpumask", Kind::Text, "The cores."),
    ]];

    fn take(_: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

async fn set_cpumask(_: Arc<Context>, _: SetCpumask) -> RpcResult<bool> {
    Err(unsupported(format!("threads do not move: {PINNED}")))
}

struct Timestamps;

impl Request for Timestamps {
    const PARAMS: Defs = &[&[only("enabled", "true", "every line of the log has its time")]];

    fn take(_: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

async fn timestamps(_: Arc<Context>, _: Timestamps) -> RpcResult<bool> {
    Ok(true)
}

struct Options;

impl Request for Options {
    const PARAMS: Defs = &[&[
        only("bdev_auto_examine", "false", "pools are imported when that is asked for"),
        not_done("bdev_io_pool_size", "every core has as many I/Os as it needs"),
        not_done("bdev_io_cache_size", "every core has as many I/Os as it needs"),
        not_done("iobuf_small_cache_size", NO_IOBUF),
        not_done("iobuf_large_cache_size", NO_IOBUF),
    ]];

    fn take(_: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

async fn options(_: Arc<Context>, _: Options) -> RpcResult<bool> {
    Ok(true)
}

struct Examine(Name);

impl Request for Examine {
    const PARAMS: Defs = &[&[EXAMINED]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}

/// The device to look at.
const EXAMINED: Def = required("name", Kind::Name, "The device.");

async fn examine(context: Arc<Context>, request: Examine) -> RpcResult<bool> {
    let engine = context.engine()?;
    let device = super::bdev::find(&context, &request.0)?.name().to_owned();
    if engine.pools().all().iter().any(|pool| pool.base().device == device) {
        return Ok(true);
    }
    match engine.pools().label(&device).await {
        Ok(_) => {}
        Err(ManagerError::Pool(PoolError::NotAPool { .. })) => return Ok(true),
        Err(error) => return Err(errors::failed(&error)),
    }
    let how = bdev::pool::import_request(None, None, false);
    let imported = bdev::pool::import(engine, &device, how).await;
    imported.map(|_| true).map_err(|error| errors::bdev(&error))
}
