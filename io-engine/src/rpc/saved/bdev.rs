//! Devices, pools and the block API, as a configuration file makes them again.

use async_trait::async_trait;
use nix::errno::Errno;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};
use spdk_rs::bdev::Bdev;
use spdk_rs::drivers::aio::AioOptions;

use super::{Call, Subsystem, device_settings, layers, nvme};
use crate::core::Engine;
use crate::pool::block_api::{BlockStore, CreateOptions};
use crate::rpc::Context;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::pool::import_call;

/// How the devices of one driver are made again.
pub(in crate::rpc) trait Remake: Send + Sync {
    /// The driver, as `bdev_get_bdevs` names it.
    fn driver(&self) -> &'static str;

    /// The calls that make a device of this driver again. What several devices need (the
    /// controller of namespaces, the pool of volumes) is asked for by each, and done once.
    fn calls(&self, context: &Context, engine: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>>;
}

/// The drivers there are.
fn drivers() -> Vec<Box<dyn Remake>> {
    let mut all: Vec<Box<dyn Remake>> = vec![
        Box::new(Malloc),
        Box::new(Null),
        Box::new(Aio),
        Box::new(Uring),
        Box::new(Volume),
        Box::new(nvme::Namespace),
    ];
    all.extend(layers::drivers());
    all
}

/// The subsystem `bdev`.
pub(super) struct Bdevs;

#[async_trait]
impl Subsystem for Bdevs {
    fn name(&self) -> &'static str {
        "bdev"
    }

    fn depends_on(&self) -> &'static [&'static str] {
        &[]
    }

    async fn calls(&self, context: &Context) -> RpcResult<Vec<Call>> {
        let engine = context.engine()?;
        let mut all = nvme::options(context);
        all.extend(nvme::hotplug(context));
        all.extend(device_settings::general(engine));
        let (drivers, stores) = (drivers(), context.blocks.all().await);
        let add = |all: &mut Vec<Call>, calls: Vec<Call>| {
            for call in calls {
                if !all.contains(&call) {
                    all.push(call);
                }
            }
        };
        let devices = engine.registry().all_in_order();
        for bdev in &devices {
            if is_made_for(engine, &stores, bdev.name()) {
                continue;
            }
            let driver = bdev.info().driver_name;
            let remake = drivers.iter().find(|remake| remake.driver() == driver);
            let calls = remake.map(|remake| remake.calls(context, engine, bdev));
            let calls = calls.transpose()?.ok_or_else(|| unsaved(bdev))?;
            add(&mut all, calls);
        }
        // Pools without volumes and controllers without namespaces have no device to ask for them.
        add(&mut all, engine.pools().all().iter().map(|pool| import_call(pool)).collect());
        add(&mut all, nvme::all(context, engine));
        add(&mut all, stores.iter().map(|store| block_create(store)).collect());
        for bdev in &devices {
            add(&mut all, device_settings::of_device(engine, bdev));
        }
        // Last: what makes devices and pools again is not to fail because of them.
        #[cfg(feature = "fault-injection")]
        {
            devices.iter().for_each(|bdev| all.extend(super::faults::orders(bdev)));
            all.extend(super::faults::injections(engine).await);
            all.extend(super::faults::commands(engine));
        }
        Ok(all)
    }
}

fn unsaved(bdev: &Bdev) -> jsonrpsee::types::ErrorObjectOwned {
    let (name, driver) = (bdev.name(), bdev.info().driver_name);
    let words = format!("device '{name}' cannot be saved: no call makes a {driver} device");
    errors::errno(Errno::EOPNOTSUPP, words)
}

/// Whether a device is made, and removed, with a pool or with a store of the block API.
fn is_made_for(engine: &Engine, stores: &[std::sync::Arc<BlockStore>], name: &str) -> bool {
    let of_pool = |pool: &std::sync::Arc<crate::pool::Imported>| {
        pool.base().owned && pool.base().device == name
    };
    engine.pools().all().iter().any(of_pool)
        || stores.iter().any(|store| store.made_device() && store.name() == name)
}

fn block_create(store: &BlockStore) -> Call {
    let CreateOptions { name, total_size, io_depth, alignment, declared } = store.options();
    Call::new(
        "block_create",
        json!({
            "name": name,
            "total_size": total_size,
            "io_depth": io_depth,
            "alignment": alignment,
            "perf_metrics": declared,
        }),
    )
}

/// What devices in memory have in common.
fn memory_shape(bdev: &Bdev) -> Value {
    let info = bdev.info();
    json!({
        "name": info.name,
        "num_blocks": bdev.num_blocks(),
        "block_size": info.block_len,
        "physical_block_size": info.phys_block_len,
        "uuid": info.uuid,
    })
}

struct Malloc;

impl Remake for Malloc {
    fn driver(&self) -> &'static str {
        "malloc"
    }

    fn calls(&self, _: &Context, _: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        Ok(vec![Call::new("bdev_malloc_create", memory_shape(bdev))])
    }
}

struct Null;

impl Remake for Null {
    fn driver(&self) -> &'static str {
        "null"
    }

    fn calls(&self, _: &Context, _: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        Ok(vec![Call::new("bdev_null_create", memory_shape(bdev))])
    }
}

/// What a part of a URI may not have as it is.
const ESCAPED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'?').add(b'=');

/// The parameters of a device over a file, as a call and as the query of a URI: the call has no
/// word for some of them.
fn file(bdev: &Bdev, facts: &Value) -> (Value, Vec<(&'static str, String)>) {
    let info = bdev.info();
    let given = facts["block_size_override"] == true;
    let block_size = given.then_some(info.block_len);
    let params = json!({
        "name": info.name,
        "filename": facts["filename"],
        "block_size": block_size,
        "uuid": info.uuid,
    });
    let mut query = vec![("name", info.name.clone()), ("uuid", info.uuid.to_string())];
    query.extend(block_size.map(|bytes| ("blk_size", bytes.to_string())));
    if info.read_only {
        query.push(("readonly", "true".to_owned()));
    }
    (params, query)
}

fn filename(facts: &Value) -> &str {
    facts["filename"].as_str().unwrap_or_default()
}

/// A device that a URI makes.
pub(super) fn by_uri(scheme: &str, path: &str, query: &[(&'static str, String)]) -> Call {
    let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
    let path = escaped(path);
    let query: Vec<String> =
        query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let uri = format!("{scheme}://{path}?{}", query.join("&"));
    Call::new("bdev_create", json!({ "uri": uri }))
}

struct Aio;

impl Remake for Aio {
    fn driver(&self) -> &'static str {
        "aio"
    }

    fn calls(&self, _: &Context, _: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        let facts = &bdev.ops().driver_info()["aio"];
        let (mut params, mut query) = file(bdev, facts);
        if facts["queue_depth"] != AioOptions::DEPTH {
            query.push(("depth", facts["queue_depth"].to_string()));
            return Ok(vec![by_uri("aio", filename(facts), &query)]);
        }
        params["readonly"] = bdev.info().read_only.into();
        Ok(vec![Call::new("bdev_aio_create", params)])
    }
}

struct Uring;

impl Remake for Uring {
    fn driver(&self) -> &'static str {
        "uring"
    }

    fn calls(&self, _: &Context, _: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        let facts = &bdev.ops().driver_info()["uring"];
        let (params, mut query) = file(bdev, facts);
        let said = [("direct", "direct_override"), ("iopoll", "iopoll_override")];
        let said = said.into_iter().filter_map(|(name, fact)| Some((name, facts[fact].as_bool()?)));
        let said: Vec<_> = said.map(|(name, on)| (name, on.to_string())).collect();
        if said.is_empty() && !bdev.info().read_only {
            return Ok(vec![Call::new("bdev_uring_create", params)]);
        }
        query.extend(said);
        Ok(vec![by_uri("uring", filename(facts), &query)])
    }
}

/// A volume or snapshot comes with its pool.
struct Volume;

impl Remake for Volume {
    fn driver(&self) -> &'static str {
        crate::pool::bdev::DRIVER
    }

    fn calls(&self, _: &Context, engine: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        let pools = engine.pools().all();
        let of = |pool: &&std::sync::Arc<crate::pool::Imported>| {
            bdev.name().strip_prefix(pool.name()).is_some_and(|rest| rest.starts_with('/'))
        };
        Ok(pools.iter().filter(of).map(|pool| import_call(pool)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_says_what_a_call_cannot() {
        let call =
            by_uri("aio", "/tmp/a b?c", &[("name", "n&m".to_owned()), ("depth", "8".to_owned())]);
        assert_eq!(call.params["uri"], "aio:///tmp/a%20b%3Fc?name=n%26m&depth=8");
        crate::bdev::plan(call.params["uri"].as_str().expect("text")).expect("it can be read");
    }

    #[test]
    fn what_is_null_is_left_out() {
        let call = Call::new("m", json!({ "a": 1, "b": null }));
        assert_eq!(Value::from(call.params), json!({ "a": 1 }));
    }
}
