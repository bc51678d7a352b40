//! `bdev_delay_create`, `bdev_delay_update_latency`, `bdev_delay_delete`.

use std::sync::Arc;

use spdk_rs::drivers::delay::{self, DRIVER, LATENCY_US_MAX, Latencies, Latency};
use uuid::Uuid;

use super::bdev::{Delete, delete, find_of};
use super::errors::{self, RpcResult};
use super::params::{Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev::layers::{self, LayerKind, LayerRequest};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_delay_create", create).in_config("bdev"),
        Method::new("bdev_delay_update_latency", update),
        Method::new("bdev_delay_delete", |context, request: Delete| {
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
    const NAMES: &'static [&'static str] = &[
        "base_bdev_name",
        "name",
        "uuid",
        "avg_read_latency",
        "p99_read_latency",
        "avg_write_latency",
        "p99_write_latency",
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let latency = |name| params.required_u64(name, 0..=LATENCY_US_MAX);
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
    const NAMES: &'static [&'static str] = &["delay_bdev_name", "latency_type", "latency_us"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            name: params.required("delay_bdev_name")?,
            which: params.required_choice("latency_type", &Latency::ALL)?,
            us: params.required_u64("latency_us", 0..=LATENCY_US_MAX)?,
        })
    }
}

async fn update(context: Arc<Context>, request: Update) -> RpcResult<bool> {
    let bdev = find_of(&context, &request.name, DRIVER)?;
    Ok(delay::update(&bdev, request.which, request.us))
}
