//! `bdev_get_iostat`, `bdev_reset_iostat`, `bdev_set_qd_sampling_period`.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use spdk_rs::bdev::{Bdev, IoStats, IoType, ResetMode};
use spdk_rs::env::Clock;
use spdk_rs::reactor::ReactorHandle;

use super::bdev::{NAME, find};
use super::errors::RpcResult;
use super::params::def::{Kind, choice, int, optional, required, words};
use super::params::{Defs, Name, ParamError, Params, Request};
use super::thread::thread_id;
use super::{Context, Method};

/// SPDK's words for what is set back.
const MODES: [(&str, ResetMode); 4] = [
    ("all", ResetMode::All),
    ("maxmin", ResetMode::MaxMin),
    ("error", ResetMode::Errors),
    ("none", ResetMode::None),
];
/// The names of several devices.
const NAMES: Kind = Kind::List { item: &Kind::Name, min: 1, max: 1024 };
/// The longest time between two looks at the queue depth, in microseconds: an hour.
const PERIOD_US_MAX: i128 = 3_600_000_000;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_get_iostat", "Tells what I/O devices have done.", get_iostat).answers(
            "`tick_rate`, `ticks`, `bdevs`; with `per_channel`: `name` and `channels`; see below",
        ),
        Method::new("bdev_reset_iostat", "Sets the figures of devices back.", reset_iostat),
        Method::new(
            "bdev_set_qd_sampling_period",
            "Looks at how many I/Os a device has under way, again and again.",
            set_sampling,
        )
        .in_config("bdev"),
    ]
}

struct GetIostat {
    /// None for every device.
    names: Option<Vec<Name>>,
    per_channel: bool,
    mode: ResetMode,
}

impl Request for GetIostat {
    const PARAMS: Defs = &[&[
        optional("name", Kind::Name, "Only the device with this name, alias or UUID."),
        optional("names", NAMES, "Only these devices."),
        optional("per_channel", Kind::Bool, "One entry per reactor; needs one device.")
            .or_bool(false),
        optional("reset_mode", choice(&words(&MODES)), "What is set back once it was read.")
            .or_text("none"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let one: Option<Name> = params.optional("name")?;
        let several: Option<Vec<Name>> = params.optional("names")?;
        if one.is_some() && several.is_some() {
            return Err(params.refuse("names", "`name` is given already"));
        }
        let names = several.or_else(|| one.map(|name| vec![name]));
        let per_channel = params.required("per_channel")?;
        if per_channel && names.as_ref().is_none_or(|names| names.len() != 1) {
            return Err(params.refuse("per_channel", "it needs one device in `name` or `names`"));
        }
        Ok(Self { names, per_channel, mode: params.required_choice("reset_mode", &MODES)? })
    }
}

async fn get_iostat(context: Arc<Context>, request: GetIostat) -> RpcResult<Value> {
    let engine = context.engine()?;
    let mut answer = json!({ "tick_rate": Clock::Real.hz(), "ticks": Clock::Real.ticks() });
    // Every name is looked up before anything is set back.
    let devices = match request.names {
        Some(names) => {
            names.iter().map(|name| find(&context, name)).collect::<RpcResult<Vec<_>>>()?
        }
        None => engine.registry().all(),
    };
    let mut list = Vec::new();
    if request.per_channel {
        for bdev in &devices {
            answer["name"] = bdev.name().into();
            let channels = match request.mode {
                ResetMode::None => bdev.channel_stats(),
                mode => bdev.take_channel_stats(mode).await,
            };
            let reactors = engine.runtime().reactors();
            list.extend(channels.iter().map(|channel| of_channel(reactors, channel)));
        }
        answer["channels"] = list.into();
    } else {
        for bdev in &devices {
            let stats = match request.mode {
                ResetMode::None => bdev.stats(),
                mode => bdev.take_stats(mode).await,
            };
            list.push(of_device(bdev, &stats));
        }
        answer["bdevs"] = list.into();
    }
    Ok(answer)
}

fn of_channel(reactors: &[ReactorHandle], (reactor, stats): &(ReactorHandle, IoStats)) -> Value {
    let mut shown = figures(stats);
    shown.insert("thread_id".to_owned(), thread_id(reactors, reactor).into());
    shown.into()
}

fn of_device(bdev: &Bdev, stats: &IoStats) -> Value {
    let mut shown = figures(stats);
    shown.insert("name".to_owned(), bdev.name().into());
    if let Some(seen) = bdev.queue_depth() {
        let us = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        for (name, value) in [
            ("queue_depth_polling_period", us(seen.period)),
            ("queue_depth", seen.depth),
            ("io_time", us(seen.io_time)),
            ("weighted_io_time", us(seen.weighted_io_time)),
        ] {
            shown.insert(name.to_owned(), value.into());
        }
    }
    shown.into()
}

struct ResetIostat {
    name: Option<Name>,
    mode: ResetMode,
}

impl Request for ResetIostat {
    const PARAMS: Defs = &[&[
        optional("name", Kind::Name, "Only the device with this name, alias or UUID."),
        optional("mode", choice(&words(&MODES)), "What is set back.").or_text("all"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let mode = params.required_choice("mode", &MODES)?;
        Ok(Self { name: params.optional("name")?, mode })
    }
}

async fn reset_iostat(context: Arc<Context>, request: ResetIostat) -> RpcResult<bool> {
    let devices = match request.name {
        Some(name) => vec![find(&context, &name)?],
        None => context.engine()?.registry().all(),
    };
    for bdev in devices {
        let _ = bdev.take_stats(request.mode).await;
    }
    Ok(true)
}

struct SetSampling {
    name: Name,
    period_us: u64,
}

impl Request for SetSampling {
    const PARAMS: Defs = &[&[
        NAME,
        required(
            "period",
            int(0, PERIOD_US_MAX),
            "Microseconds from one look to the next; 0 ends it.",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, period_us: params.required("period")? })
    }
}

async fn set_sampling(context: Arc<Context>, request: SetSampling) -> RpcResult<bool> {
    let bdev = find(&context, &request.name)?;
    let period = Some(Duration::from_micros(request.period_us)).filter(|time| !time.is_zero());
    bdev.set_queue_depth_sampling(period).await;
    Ok(true)
}

/// SPDK's figures: of a kind with data, bytes and operations that succeeded, and latencies of all;
/// failures by kind. `flush`, `write_zeroes` and `compare` are ours beyond SPDK's.
pub(super) fn figures(stats: &IoStats) -> Map<String, Value> {
    let mut shown = Map::new();
    for (kind, bytes_name, word) in [
        (IoType::Read, Some("bytes_read"), "read"),
        (IoType::Write, Some("bytes_written"), "write"),
        (IoType::Unmap, Some("bytes_unmapped"), "unmap"),
        (IoType::Copy, Some("bytes_copied"), "copy"),
        (IoType::Flush, None, "flush"),
        (IoType::WriteZeroes, Some("bytes_zeroed"), "write_zeroes"),
        (IoType::Compare, Some("bytes_compared"), "compare"),
    ] {
        let op = stats.of(kind);
        if let Some(name) = bytes_name {
            shown.insert(name.to_owned(), op.bytes.into());
        }
        shown.insert(format!("num_{word}_ops"), op.ops.saturating_sub(op.errors).into());
        shown.insert(format!("{word}_latency_ticks"), op.ticks.into());
        shown.insert(format!("max_{word}_latency_ticks"), op.ticks_max.into());
        shown.insert(format!("min_{word}_latency_ticks"), op.ticks_min.into());
    }
    let errors: Map<String, Value> = IoType::ALL
        .iter()
        .filter(|&&kind| stats.of(kind).errors != 0)
        .map(|&kind| (kind.name().to_owned(), stats.of(kind).errors.into()))
        .collect();
    shown.insert("io_error".to_owned(), errors.into());
    shown
}
