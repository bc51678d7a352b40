//! `bdev_nvme_get_io_paths`, `bdev_nvme_get_path_iostat`, `bdev_nvme_set_multipath_policy`,
//! `bdev_nvme_set_preferred_path`.

use std::sync::Arc;

use nix::errno::Errno;
use serde_json::{Value, json};
use spdk_rs::drivers::nvme::{IoPathInfo, MultipathPolicy};
use spdk_rs::reactor::ReactorHandle;

use super::trid;
use crate::rpc::bdev::find_of;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::iostat::figures;
use crate::rpc::params::def::{choice, int, only, optional, required, words};
use crate::rpc::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::thread::thread_name;
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_nvme_get_io_paths", "Lists the paths to namespaces.", get_io_paths)
            .answers(
                "`poll_groups`: `thread`, `io_paths`: `bdev_name`, `cntlid`, `current` (the \
                 thread's I/O takes it), `connected`, `accessible`, `transport`; ours: `ana_state`",
            ),
        Method::new(
            "bdev_nvme_set_multipath_policy",
            "Says which paths of a device are used.",
            set_policy,
        )
        .in_config("bdev"),
        Method::new(
            "bdev_nvme_set_preferred_path",
            "Has a device take a path whenever that is among the best, as long as one path is used \
             at a time. It is not saved: a controller has another identifier at every start.",
            set_preferred_path,
        ),
        Method::new(
            "bdev_nvme_get_path_iostat",
            "Tells what went over each path of a device; error -1 unless its controllers were \
             attached with `io_path_stat` of `bdev_nvme_set_options`.",
            get_path_iostat,
        )
        .answers("`name`, `stats`: `trid`, `stat` (the figures of `bdev_get_iostat`)"),
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
    let by_core = engine.nvme().io_paths_by_core(name.as_deref()).await;
    // Every reactor has a queue of its own on every path.
    let group = |one: &ReactorHandle| {
        let own = by_core.iter().find(|(core, _)| *core == one.core());
        let paths: Vec<Value> =
            own.map(|(_, paths)| paths).into_iter().flatten().map(show).collect();
        json!({ "thread": thread_name(one), "io_paths": paths })
    };
    let groups: Vec<Value> = engine.runtime().reactors().iter().map(group).collect();
    Ok(json!({ "poll_groups": groups }))
}

fn show(path: &IoPathInfo) -> Value {
    let accessible = matches!(path.ana_state, "optimized" | "non_optimized");
    json!({
        "bdev_name": path.bdev,
        "cntlid": path.cntlid,
        "current": path.current,
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

struct SetPreferredPath {
    name: Name,
    cntlid: u16,
}

impl Request for SetPreferredPath {
    const PARAMS: Defs = &[&[
        required("name", Kind::Name, "The device."),
        required("cntlid", int(0, u16::MAX as i128), "Identifier of the path's controller."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, cntlid: params.required("cntlid")? })
    }
}

async fn set_preferred_path(context: Arc<Context>, request: SetPreferredPath) -> RpcResult<bool> {
    let bdev = find_of(&context, &request.name, "nvme")?;
    let nvme = context.engine()?.nvme();
    let set = nvme.set_preferred_path(bdev.name(), request.cntlid).await;
    set.map(|()| true).map_err(|error| errors::failed(&error))
}

struct OfDevice(Name);

impl Request for OfDevice {
    const PARAMS: Defs = &[&[required("name", Kind::Name, "The device.")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}

async fn get_path_iostat(context: Arc<Context>, request: OfDevice) -> RpcResult<Value> {
    let bdev = find_of(&context, &request.0, "nvme")?;
    let counted = context.engine()?.nvme().path_stats(bdev.name()).await;
    let counted = counted.map_err(|error| errors::failed(&error))?;
    if counted.is_empty() {
        let words = format!(
            "the paths of '{}' are not counted: io_path_stat of bdev_nvme_set_options has to be \
             true when their controllers are attached",
            bdev.name()
        );
        return Err(errors::errno(Errno::EPERM, words));
    }
    let stats = counted.iter();
    let stats =
        stats.map(|(trid, stat)| json!({ "trid": trid::show(trid), "stat": figures(stat) }));
    Ok(json!({ "name": bdev.name(), "stats": stats.collect::<Vec<_>>() }))
}
