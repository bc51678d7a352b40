//! `bdev_delay_create`, `bdev_delay_update_latency`, `bdev_delay_delete`.

use std::sync::Arc;

use spdk_rs::drivers::delay::{self, DRIVER, LATENCY_US_MAX, Latencies, Latency};
use uuid::Uuid;

use super::bdev::{Delete, delete, find_of};
use super::errors::{self, RpcResult};
use super::params::def::{choice, int, optional, required, words};
use super::params::{Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev::layers::{self, LayerKind, LayerRequest};

/// A latency in microseconds.
const LATENCY_US: Kind = int(0, LATENCY_US_MAX as i128);

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_delay_create",
            "Creates a device whose reads and writes take longer than those of the one below.",
            create,
        )
        .in_config("bdev")
        .answers("name of the device"),
        Method::new("bdev_delay_update_latency", "Changes a latency of a delay device.", update),
        Method::new("bdev_delay_delete", "Removes a delay device.", |context, request: Delete| {
            delete(context, request, DRIVER)
        }),
    ]
}

struct Create {
    base: Name,
    name: Name,
    uuid: Option<Uuid>,
    latencies: Latencies,
}

impl Request for Create {
    const PARAMS: Defs = &[&[
        required("base_bdev_name", Kind::Name, "The device below: its name, alias or UUID."),
        required("name", Kind::Name, "Name of the device."),
        optional("uuid", Kind::Uuid, "The device's UUID; made from the base's when left out."),
        required("avg_read_latency", LATENCY_US, "What most reads take longer, in microseconds."),
        required(
            "p99_read_latency",
            LATENCY_US,
            "What one read in a hundred takes longer, in microseconds.",
        ),
        required("avg_write_latency", LATENCY_US, "What most writes take longer, in microseconds."),
        required(
            "p99_write_latency",
            LATENCY_US,
            "What one write in a hundred takes longer, in microseconds.",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let latency = |name| params.required::<u64>(name);
        Ok(Self {
            base: params.required("base_bdev_name")?,
            name: params.required("name")?,
            uuid: params.optional("uuid")?,
            latencies: Latencies {
                avg_read_us: latency("avg_read_latency")?,
                p99_read_us: latency("p99_read_latency")?,
                avg_write_us: latency("avg_write_latency")?,
                p99_write_us: latency("p99_write_latency")?,
            },
        })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<String> {
    let Create { base: Name(base), name: Name(name), uuid, latencies } = request;
    let request = LayerRequest { name: Some(name), base, uuid, kind: LayerKind::Delay(latencies) };
    let made = layers::create(context.engine()?, &request).await;
    made.map_err(|error| errors::bdev(&error))
}

struct Update {
    name: Name,
    which: Latency,
    us: u64,
}

impl Request for Update {
    const PARAMS: Defs = &[&[
        required("delay_bdev_name", Kind::Name, "The device's name, alias or UUID."),
        required("latency_type", choice(&words(&Latency::ALL)), "Which latency is changed."),
        required("latency_us", LATENCY_US, "The latency of I/O that ends from now on."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            name: params.required("delay_bdev_name")?,
            which: params.required_choice("latency_type", &Latency::ALL)?,
            us: params.required("latency_us")?,
        })
    }
}

async fn update(context: Arc<Context>, request: Update) -> RpcResult<bool> {
    let bdev = find_of(&context, &request.name, DRIVER)?;
    Ok(delay::update(&bdev, request.which, request.us))
}
