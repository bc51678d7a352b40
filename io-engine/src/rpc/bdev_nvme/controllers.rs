//! `bdev_nvme_get_controllers`.

use std::sync::Arc;

use serde_json::{Value, json};
use spdk_rs::drivers::nvme::{ControllerInfo, NvmeError, PathInfo};

use super::trid;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::optional;
use crate::rpc::params::{Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_nvme_get_controllers", "Lists the controllers.", get_controllers).answers(
            "list: `name`, `ctrlrs`: `state`, `trid`, `cntlid`, `host` (`nqn`, `addr`, `svcid`); \
             ours: `bdevs`, and per controller `hostid`, the options it was attached with \
             (`hdgst`, `timeout_us`, `ctrlr_loss_timeout_sec`, …), `io_queues`, `core`, \
             `reconnects`, `trouble` (why it is not connected)",
        ),
    ]
}

struct GetControllers(Option<Name>);

impl Request for GetControllers {
    const PARAMS: Defs = &[&[optional("name", Kind::Name, "Only this controller.")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.optional("name").map(Self)
    }
}

async fn get_controllers(context: Arc<Context>, request: GetControllers) -> RpcResult<Vec<Value>> {
    let name = request.0.map(|Name(name)| name);
    let found = context.engine()?.nvme().controllers(name.as_deref());
    match name {
        Some(name) if found.is_empty() => Err(errors::failed(&NvmeError::NotFound { name })),
        _ => Ok(found.iter().map(show).collect()),
    }
}

fn show(controller: &ControllerInfo) -> Value {
    json!({
        "name": controller.name,
        "ctrlrs": controller.paths.iter().map(show_path).collect::<Vec<_>>(),
        "bdevs": controller.bdevs,
    })
}

fn show_path(path: &PathInfo) -> Value {
    let (source, options) = (path.trid.source, &path.options);
    let mut shown = json!({
        "state": path.state.name(),
        "trid": trid::show(&path.trid),
        "host": {
            "nqn": options.hostnqn,
            "addr": source.map(|source| source.ip().to_string()).unwrap_or_default(),
            "svcid": source.map_or_else(String::new, |source| match source.port() {
                0 => String::new(),
                port => port.to_string(),
            }),
        },
        "hostid": options.hostid,
        "hdgst": options.hdgst,
        "ddgst": options.ddgst,
        "action_on_timeout": options.action_on_timeout.name(),
        "timeout_us": options.timeout_us,
        "timeout_admin_us": options.timeout_admin_us,
        "keep_alive_timeout_ms": options.keep_alive_timeout_ms,
        "transport_retry_count": options.transport_retry_count,
        "ctrlr_loss_timeout_sec": options.ctrlr_loss_timeout_sec,
        "reconnect_delay_sec": options.reconnect_delay_sec,
        "fast_io_fail_timeout_sec": options.fast_io_fail_timeout_sec,
        "io_queues": path.io_queues,
        "core": path.core,
        "reconnects": path.reconnects,
    });
    if path.trid.pci_address().is_some() {
        shown["shadow_doorbells"] = options.shadow_doorbells.into();
        shown["cmb_sqs"] = options.cmb_sqs.into();
        shown["sgl"] = options.sgl.into();
    }
    if let Some(cntlid) = path.cntlid {
        shown["cntlid"] = cntlid.into();
    }
    if let Some(trouble) = &path.trouble {
        shown["trouble"] = trouble.as_str().into();
    }
    shown
}
