//! `bdev_nvme_get_io_paths`, `bdev_nvme_set_multipath_policy`.

use std::sync::Arc;

use serde_json::{Value, json};
use spdk_rs::drivers::nvme::{IoPathInfo, MultipathPolicy};

use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{choice, only, optional, required, words};
use crate::rpc::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::thread::thread_name;
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_nvme_get_io_paths", "Lists the paths to namespaces.", get_io_paths)
            .answers(
                "`poll_groups`: `thread`, `io_paths`: `bdev_name`, `cntlid`, `connected`, \
                 `accessible`, `transport`; ours: `ana_state`",
            ),
        Method::new(
            "bdev_nvme_set_multipath_policy",
            "Says which paths of a device are used.",
            set_policy,
        )
        .in_config("bdev"),
    ]
}

struct GetIoPaths(Option<Name>);

impl Request for GetIoPaths {
    const PARAMS: Defs = &[&[optional("name", Kind::Name, "Only paths of this device.")]];

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

/// Whether all paths are used.
const POLICIES: [(&str, bool); 2] = [("active_passive", false), ("active_active", true)];
/// How one of several paths is chosen.
const SELECTORS: [(&str, MultipathPolicy); 2] =
    [("round_robin", MultipathPolicy::RoundRobin), ("queue_depth", MultipathPolicy::QueueDepth)];

/// The parameters that say which paths are used.
pub(super) const POLICY: &[Def] = &[
    optional(
        "policy",
        choice(&words(&POLICIES)),
        "One path at a time, or all of them; `active_passive` when left out.",
    ),
    SELECTOR,
];

/// How one of several paths is chosen.
const SELECTOR: Def = optional(
    "selector",
    choice(&words(&SELECTORS)),
    "Which of all paths is next; `round_robin` when left out.",
);

/// Takes which paths are used.
pub(super) fn take_policy(params: &Params<'_>) -> Result<MultipathPolicy, ParamError> {
    let all = params.optional_choice("policy", &POLICIES)?.unwrap_or(false);
    let selector = params.optional_choice("selector", &SELECTORS)?;
    match (all, selector) {
        (true, selector) => Ok(selector.unwrap_or(MultipathPolicy::RoundRobin)),
        (false, None) => Ok(MultipathPolicy::ActivePassive),
        (false, Some(_)) => {
            Err(params.refuse("selector", "it goes with the policy active_active only"))
        }
    }
}

struct SetPolicy {
    name: Name,
    policy: MultipathPolicy,
}

impl Request for SetPolicy {
    const PARAMS: Defs = &[&[
        required("name", Kind::Name, "The device."),
        required("policy", choice(&words(&POLICIES)), "One path at a time, or all of them."),
        SELECTOR,
        only("rr_min_io", "1", "round robin changes the path with each command"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let policy = take_policy(params)?;
        Ok(Self { name: params.required("name")?, policy })
    }
}

async fn set_policy(context: Arc<Context>, request: SetPolicy) -> RpcResult<bool> {
    let set = context.engine()?.nvme().set_policy(&request.name.0, request.policy).await;
    set.map(|()| true).map_err(|error| errors::failed(&error))
}
