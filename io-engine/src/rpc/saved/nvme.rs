//! NVMe controllers and discovery services, as a configuration file makes them again.

use serde_json::{Map, Value, json};
use spdk_rs::bdev::Bdev;
use spdk_rs::drivers::nvme::{
    ControllerInfo, DiscoveryInfo, MultipathMode, MultipathPolicy, PathInfo,
};
use spdk_rs::nvme::TransportId;
use spdk_rs::nvme::controller::ControllerOptions;

use super::{Call, Remake};
use crate::core::{Engine, HostIdentity};
use crate::rpc::Context;
use crate::rpc::errors::RpcResult;
use crate::subsys::hotplug::PERIOD_DEFAULT;

/// What controllers are attached with, when something was set.
pub(super) fn options(context: &Context) -> Vec<Call> {
    let set = context.nvme_defaults.set();
    if set.is_empty() {
        return Vec::new();
    }
    vec![Call::new("bdev_nvme_set_options", set.into())]
}

/// Hot plug, while it is on. It comes before everything else that attaches, so that what it finds
/// is there for what is configured after it.
pub(super) fn hotplug(context: &Context) -> Vec<Call> {
    let period = context.hotplug().period();
    let period = period.map(|period| u64::try_from(period.as_micros()).unwrap_or(u64::MAX));
    let call = |period: u64| {
        let usual = u128::from(period) == PERIOD_DEFAULT.as_micros();
        let period = if usual { Value::Null } else { period.into() };
        Call::new("bdev_nvme_set_hotplug", json!({ "enable": true, "period_us": period }))
    };
    period.map(call).into_iter().collect()
}

/// All controllers and discovery services, with or without devices.
pub(super) fn all(context: &Context, engine: &Engine) -> Vec<Call> {
    let discoveries = engine.nvme().discoveries();
    let mut calls: Vec<Call> =
        discoveries.iter().map(|one| start_discovery(context, engine, one)).collect();
    for controller in engine.nvme().controllers(None) {
        if !discoveries.iter().any(|one| one.attached.contains(&controller.name)) {
            calls.extend(attach(context, engine, &controller));
        }
    }
    calls
}

/// A namespace comes with its controller, or with the discovery service that named that.
pub(super) struct Namespace;

impl Remake for Namespace {
    fn driver(&self) -> &'static str {
        "nvme"
    }

    fn calls(&self, context: &Context, engine: &Engine, bdev: &Bdev) -> RpcResult<Vec<Call>> {
        let controllers = engine.nvme().controllers(None);
        let of_bdev = |one: &&ControllerInfo| one.bdevs.iter().any(|name| name == bdev.name());
        let mut calls = Vec::new();
        if let Some(controller) = controllers.iter().find(of_bdev) {
            let discoveries = engine.nvme().discoveries();
            let found = discoveries.iter().find(|one| one.attached.contains(&controller.name));
            match found {
                Some(service) => calls.push(start_discovery(context, engine, service)),
                None => calls.extend(attach(context, engine, controller)),
            }
        }
        calls.extend(policy(context, bdev));
        Ok(calls)
    }
}

/// The policy of a device's paths, when it is not the usual one.
fn policy(context: &Context, bdev: &Bdev) -> Option<Call> {
    let facts = bdev.ops().driver_info();
    let (policy, selector) = (&facts["mp_policy"], &facts["selector"]);
    let usual = context.nvme_defaults.policy().names();
    if policy == usual.0 && selector == usual.1 {
        return None;
    }
    // A selector goes with several paths at a time only.
    let one = policy == MultipathPolicy::ActivePassive.names().0;
    let selector = if one { &Value::Null } else { selector };
    let params = json!({ "name": bdev.name(), "policy": policy, "selector": selector });
    Some(Call::new("bdev_nvme_set_multipath_policy", params))
}

fn attach(context: &Context, engine: &Engine, controller: &ControllerInfo) -> Vec<Call> {
    let mut places = controller.paths.iter().filter_map(|path| path.trid.pci_address());
    if places.any(|address| context.hotplug().has_attached(address)) {
        // It comes by itself, as long as it is plugged in.
        return Vec::new();
    }
    let multipath = match controller.multipath {
        MultipathMode::Disable => "disable",
        MultipathMode::Failover => "failover",
        MultipathMode::Multipath => "multipath",
    };
    let one = |path: &PathInfo| {
        let mut params = place(&path.trid);
        params.insert("subnqn".to_owned(), path.trid.subnqn.as_str().into());
        params.insert("name".to_owned(), controller.name.as_str().into());
        params.insert("multipath".to_owned(), multipath.into());
        let priority = path.trid.priority.map(|priority| priority.to_string());
        params.insert("priority".to_owned(), priority.into());
        params.extend(connection(context, engine, &path.options));
        params.extend(reconnect(context, engine, &path.options));
        if path.trid.pci_address().is_some() {
            // A controller of this machine is connected to by nobody's name and over no network.
            let fabrics = ["adrfam", "trsvcid", "subnqn", "priority", "hostnqn", "hostid"];
            for name in fabrics.iter().chain(&["hdgst", "ddgst", "fabrics_connect_timeout_us"]) {
                params.remove(*name);
            }
            params.extend(local(context, engine, &path.options));
        }
        Call::new("bdev_nvme_attach_controller", params.into())
    };
    controller.paths.iter().map(one).collect()
}

fn start_discovery(context: &Context, engine: &Engine, service: &DiscoveryInfo) -> Call {
    let mut params = place(&service.trid);
    params.insert("name".to_owned(), service.name.as_str().into());
    params.insert("hostnqn".to_owned(), hostnqn(engine, &service.options));
    // What is configured after it may need the devices.
    params.insert("wait_for_attach".to_owned(), true.into());
    params.extend(reconnect(context, engine, &service.options));
    Call::new("bdev_nvme_start_discovery", params.into())
}

/// Where a subsystem is, and from where it is reached.
fn place(trid: &TransportId) -> Map<String, Value> {
    let mut params = Map::new();
    params.insert("trtype".to_owned(), trid.trtype.name().into());
    params.insert("adrfam".to_owned(), trid.adrfam().name().into());
    params.insert("traddr".to_owned(), trid.traddr().into());
    params.insert("trsvcid".to_owned(), trid.trsvcid().into());
    if let Some(source) = trid.source {
        params.insert("hostaddr".to_owned(), source.ip().to_string().into());
        if source.port() != 0 {
            params.insert("hostsvcid".to_owned(), source.port().to_string().into());
        }
    }
    params
}

/// The host's name, when it is not the one that the engine chose for itself: that is another one
/// at every start.
fn hostnqn(engine: &Engine, options: &ControllerOptions) -> Value {
    if options.hostnqn == engine.host().nqn { Value::Null } else { options.hostnqn.clone().into() }
}

/// What differs from what a controller is attached with when nothing is said.
fn connection(
    context: &Context,
    engine: &Engine,
    options: &ControllerOptions,
) -> Map<String, Value> {
    let usual = context.nvme_defaults.options(engine.host());
    let named = HostIdentity::named(&options.hostnqn);
    let differs = |differs: bool, value: Value| if differs { value } else { Value::Null };
    let all = [
        ("hostnqn", hostnqn(engine, options)),
        ("hostid", differs(options.hostid != named.id, json!(options.hostid))),
        ("hdgst", options.hdgst.into()),
        ("ddgst", options.ddgst.into()),
        (
            "fabrics_connect_timeout_us",
            differs(
                options.fabrics_connect_timeout_us != usual.fabrics_connect_timeout_us,
                options.fabrics_connect_timeout_us.into(),
            ),
        ),
        (
            "num_io_queues",
            differs(options.num_io_queues != usual.num_io_queues, options.num_io_queues.into()),
        ),
        (
            "io_queue_size",
            differs(options.io_queue_size != usual.io_queue_size, options.io_queue_size.into()),
        ),
        (
            "keep_alive_timeout_ms",
            differs(
                options.keep_alive_timeout_ms != usual.keep_alive_timeout_ms,
                options.keep_alive_timeout_ms.into(),
            ),
        ),
        ("timeout_us", differs(options.timeout_us != usual.timeout_us, options.timeout_us.into())),
    ];
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What only a controller of this machine has, as far as it is not what every one has.
fn local(context: &Context, engine: &Engine, options: &ControllerOptions) -> Map<String, Value> {
    let usual = context.nvme_defaults.options(engine.host());
    let all = [
        ("shadow_doorbells", options.shadow_doorbells, usual.shadow_doorbells),
        ("cmb_sqs", options.cmb_sqs, usual.cmb_sqs),
        ("sgl", options.sgl, usual.sgl),
    ];
    let changed = all.into_iter().filter(|(_, now, usual)| now != usual);
    changed.map(|(name, now, _)| (name.to_owned(), now.into())).collect()
}

/// The times of reconnecting, when one of them differs from the usual: they go together.
fn reconnect(
    context: &Context,
    engine: &Engine,
    options: &ControllerOptions,
) -> Map<String, Value> {
    let usual = context.nvme_defaults.options(engine.host());
    let times = |of: &ControllerOptions| {
        (of.ctrlr_loss_timeout_sec, of.reconnect_delay_sec, of.fast_io_fail_timeout_sec)
    };
    let mut params = Map::new();
    if times(options) != times(&usual) {
        let (loss, delay, fast) = times(options);
        params.insert("ctrlr_loss_timeout_sec".to_owned(), loss.into());
        params.insert("reconnect_delay_sec".to_owned(), delay.into());
        params.insert("fast_io_fail_timeout_sec".to_owned(), fast.into());
    }
    params
}
