//! `bdev_get_iostat`.

use std::sync::Arc;

use serde_json::{Map, Value, json};
use spdk_rs::bdev::{Bdev, IoStats, IoType};
use spdk_rs::env::Clock;

use super::bdev::find;
use super::errors::RpcResult;
use super::params::def::{only, optional};
use super::params::{Defs, Kind, Name, ParamError, Params, Request};
use super::thread::thread_id;
use super::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![Method::new("bdev_get_iostat", "Tells what I/O devices have done.", get_iostat).answers(
        "`tick_rate`, `ticks`, `bdevs`; with `per_channel`: `name` and `channels`; see below",
    )]
}

struct GetIostat {
    name: Option<Name>,
    per_channel: bool,
}

impl Request for GetIostat {
    const PARAMS: Defs = &[&[
        optional("name", Kind::Name, "Only the device with this name, alias or UUID."),
        optional("per_channel", Kind::Bool, "One entry per reactor; needs `name`.").or_bool(false),
        only("reset_mode", "\"none\"", "figures are never set back"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name: Option<Name> = params.optional("name")?;
        let per_channel = params.required("per_channel")?;
        if per_channel && name.is_none() {
            return Err(params.refuse("per_channel", "it needs a device in `name`"));
        }
        Ok(Self { name, per_channel })
    }
}

async fn get_iostat(context: Arc<Context>, request: GetIostat) -> RpcResult<Value> {
    let engine = context.engine()?;
    let clock = Clock::Real;
    let mut answer = json!({ "tick_rate": clock.hz(), "ticks": clock.ticks() });
    let (member, list) = match request.name {
        Some(name) => {
            let bdev = find(&context, &name)?;
            if request.per_channel {
                answer["name"] = bdev.name().into();
                ("channels", channels(engine.runtime().reactors(), &bdev))
            } else {
                ("bdevs", vec![of_device(&bdev)])
            }
        }
        None => ("bdevs", engine.registry().all().iter().map(|bdev| of_device(bdev)).collect()),
    };
    answer[member] = list.into();
    Ok(answer)
}

fn channels(reactors: &[spdk_rs::reactor::ReactorHandle], bdev: &Bdev) -> Vec<Value> {
    let channel = |(reactor, stats): &(spdk_rs::reactor::ReactorHandle, IoStats)| {
        let mut shown = figures(stats);
        shown.insert("thread_id".to_owned(), thread_id(reactors, reactor).into());
        shown.into()
    };
    bdev.channel_stats().iter().map(channel).collect()
}

fn of_device(bdev: &Bdev) -> Value {
    let mut shown = figures(&bdev.stats());
    shown.insert("name".to_owned(), bdev.name().into());
    shown.into()
}

/// SPDK's figures: of a kind with data, bytes and operations that succeeded, and latencies of all;
/// failures by kind. `flush`, `write_zeroes` and `compare` are ours beyond SPDK's.
fn figures(stats: &IoStats) -> Map<String, Value> {
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
