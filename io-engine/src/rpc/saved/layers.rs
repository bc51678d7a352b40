//! Devices over devices, as a configuration file makes them again. The errors that one was told to
//! make come later.

use serde_json::{Value, json};
use spdk_rs::bdev::Bdev;
use spdk_rs::drivers::split::{self, PartOf, PartSize};

use super::{Call, Remake};
use crate::core::Engine;
use crate::rpc::Context;
use crate::rpc::errors::RpcResult;

/// The drivers.
pub(super) fn drivers() -> Vec<Box<dyn Remake>> {
    vec![
        Box::new(Passthru),
        Box::new(Delay),
        Box::new(Split),
        #[cfg(feature = "fault-injection")]
        Box::new(Error),
    ]
}

/// What the drivers have in common.
fn layer(bdev: &Bdev, facts: &Value) -> Value {
    json!({
        "base_bdev_name": facts["base_bdev_name"],
        "name": bdev.name(),
        "uuid": bdev.info().uuid,
    })
}

struct Passthru;

impl Remake for Passthru {
    fn driver(&self) -> &'static str {
        spdk_rs::drivers::passthru::DRIVER
    }

    fn calls(&self, _: &Context, _: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        let params = layer(bdev, &bdev.ops().driver_info());
        Ok(vec![Call::new("bdev_passthru_create", params)])
    }
}

struct Delay;

impl Remake for Delay {
    fn driver(&self) -> &'static str {
        spdk_rs::drivers::delay::DRIVER
    }

    fn calls(&self, _: &Context, _: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        let facts = bdev.ops().driver_info();
        let mut params = layer(bdev, &facts);
        for (word, _) in spdk_rs::drivers::delay::Latency::ALL {
            let name = format!("{word}_latency");
            params[&name] = facts[&name].clone();
        }
        Ok(vec![Call::new("bdev_delay_create", params)])
    }
}

#[cfg(feature = "fault-injection")]
struct Error;

#[cfg(feature = "fault-injection")]
impl Remake for Error {
    fn driver(&self) -> &'static str {
        spdk_rs::drivers::error::DRIVER
    }

    fn calls(&self, _: &Context, _: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        let facts = bdev.ops().driver_info();
        let base = facts["base_bdev_name"].as_str().unwrap_or_default();
        let (name, uuid) = (bdev.name(), bdev.info().uuid);
        if name == format!("{}{base}", spdk_rs::drivers::error::PREFIX) {
            let params = json!({ "base_name": base, "uuid": uuid });
            return Ok(vec![Call::new("bdev_error_create", params)]);
        }
        let query = [("base", base.to_owned()), ("uuid", uuid.to_string())];
        Ok(vec![super::bdev::by_uri("error", &format!("/{name}"), &query)])
    }
}

struct Split;

impl Remake for Split {
    fn driver(&self) -> &'static str {
        split::DRIVER
    }

    /// One call for all parts, which are made again in the same places.
    fn calls(&self, _: &Context, _: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        let Some(PartOf { base, count, size }) = split::part_of(bdev) else {
            return Ok(Vec::new());
        };
        let mib = match size {
            // The device below may have been resized since.
            PartSize::Even if base.num_blocks() / count == bdev.num_blocks() => 0,
            PartSize::MiB(mib) => mib,
            PartSize::Even | PartSize::Blocks(_) => {
                let blocks = bdev.num_blocks().to_string();
                let query = [("split_count", count.to_string()), ("num_blocks", blocks)];
                return Ok(vec![super::bdev::by_uri(
                    "split",
                    &format!("/{}", base.name()),
                    &query,
                )]);
            }
        };
        let params =
            json!({ "base_bdev": base.name(), "split_count": count, "split_size_mb": mib });
        Ok(vec![Call::new("bdev_split_create", params)])
    }
}
