//! `bdev_nvme_get_io_paths`, `bdev_nvme_set_multipath_policy`.

use std::sync::Arc;

use serde_json::{Value, json};
use spdk_rs::drivers::nvme::{IoPathInfo, MultipathPolicy};

use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::{Name, ParamError, Params, Request};
use crate::rpc::thread::thread_name;
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_nvme_get_io_paths", get_io_paths),
        Method::new("bdev_nvme_set_multipath_policy", set_policy).in_config("bdev"),
    ]
}

struct GetIoPaths(Option<Name>);

impl Request for GetIoPaths {
    const NAMES: &'static [&'static str] = &["name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.optional("name").map(Self)
    }
}

async fn get_io_paths(context: Arc<Context>, request: GetIoPaths) -> RpcResult<Value> {
    let engine = context.engine()?;
    let name = request.0.map(|Name(name)| name);
    let paths = engine.nvme().io_paths(name.as_deref());
    let shown: Vec<Value> = paths.iter().map(show).collect();
    // Every reactor has a queue of its own on every path.
    let groups = engine.runtime().reactors().iter();
    let groups = groups.map(|one| json!({ "thread": thread_name(one), "io_paths": shown }));
    Ok(json!({ "poll_groups": groups.collect::<Vec<_>>() }))
}

fn show(path: &IoPathInfo) -> Value {
    let accessible = matches!(path.ana_state, "optimized" | "non_optimized");
    json!({
        "bdev_name": path.bdev,
        "cntlid": path.cntlid,
        "connected": path.connected,
        "accessible": accessible,
        "ana_state": path.ana_state,
        "transport": {
            "trtype": path.trid.trtype.name(),
            "traddr": path.trid.traddr(),
            "trsvcid": path.trid.trsvcid(),
            "adrfam": path.trid.adrfam().name(),
        },
    })
}

struct SetPolicy {
    name: Name,
    policy: MultipathPolicy,
}

impl Request for SetPolicy {
    const NAMES: &'static [&'static str] = &["name", "policy", "selector", "rr_min_io"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let policies = [("active_passive", false), ("active_active", true)];
        let selectors = [
            ("round_robin", MultipathPolicy::RoundRobin),
            ("queue_depth", MultipathPolicy::QueueDepth),
        ];
        let all = params.required_choice("policy", &policies)?;
        let selector = params.optional_choice("selector", &selectors, false)?;
        if !all && selector.is_some() {
            return Err(params.refuse("selector", "it goes with the policy active_active only"));
        }
        params.only("rr_min_io", &json!(1), "round robin changes the path with each command")?;
        let policy = if all {
            selector.unwrap_or(MultipathPolicy::RoundRobin)
        } else {
            MultipathPolicy::ActivePassive
        };
        Ok(Self { name: params.required("name")?, policy })
    }
}

async fn set_policy(context: Arc<Context>, request: SetPolicy) -> RpcResult<bool> {
    let set = context.engine()?.nvme().set_policy(&request.name.0, request.policy).await;
    set.map(|()| true).map_err(|error| errors::failed(&error))
}
