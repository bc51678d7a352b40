//! `bdev_nvme_attach_controller`.

use std::sync::Arc;

use serde_json::json;
use spdk_rs::drivers::nvme::{AttachOptions, MultipathMode, MultipathPolicy};
use spdk_rs::nvme::{TransportId, check_nqn};

use super::options::Reconnect;
use super::trid;
use crate::core::HostIdentity;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::{Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// The shortest and the longest time to connect, in microseconds.
const CONNECT_US: std::ops::RangeInclusive<u64> = 1000..=1 << 52;
/// The highest priority of a socket that needs no privilege (socket(7)).
const PRIORITY_MAX: u8 = 6;
/// Names of block devices that SPDK returns at the most.
const BDEVS_DEFAULT: u32 = 128;

pub(super) fn methods() -> Vec<Method> {
    vec![Method::new("bdev_nvme_attach_controller", attach).in_config("bdev")]
}

struct Attach {
    name: Name,
    trid: TransportId,
    hostnqn: Option<String>,
    hdgst: bool,
    ddgst: bool,
    fabrics_connect_timeout_us: Option<u64>,
    multipath: MultipathMode,
    num_io_queues: Option<u16>,
    reconnect: Reconnect,
}

/// Takes the host's name.
pub(super) fn take_hostnqn(params: &Params<'_>) -> Result<Option<String>, ParamError> {
    let Some(nqn) = params.optional::<String>("hostnqn")? else { return Ok(None) };
    check_nqn(&nqn).map_err(|error| params.refuse("hostnqn", error.to_string()))?;
    Ok(Some(nqn))
}

impl Request for Attach {
    const NAMES: &'static [&'static str] = &[
        "name",
        trid::NAMES[0],
        trid::NAMES[1],
        trid::NAMES[2],
        trid::NAMES[3],
        trid::NAMES[4],
        trid::NAMES[5],
        trid::NAMES[6],
        "priority",
        "hostnqn",
        "hdgst",
        "ddgst",
        "fabrics_connect_timeout_us",
        "multipath",
        "num_io_queues",
        "ctrlr_loss_timeout_sec",
        "reconnect_delay_sec",
        "fast_io_fail_timeout_sec",
        "prchk_reftag",
        "prchk_guard",
        "max_bdevs",
        "allow_unrecognized_csi",
        "psk",
        "dhchap_key",
        "dhchap_ctrlr_key",
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        let mut trid = trid::take(params, None)?;
        if let Some(text) = params.optional::<String>("priority")? {
            let priority = text.parse().ok().filter(|&priority: &u8| priority <= PRIORITY_MAX);
            let allowed = "it has to be a whole number as text, \"0\" to \"6\"";
            trid.priority = Some(priority.ok_or_else(|| params.refuse("priority", allowed))?);
        }
        for check in ["prchk_reftag", "prchk_guard"] {
            params.only(check, &json!(false), "blocks carry no metadata")?;
        }
        params.only("max_bdevs", &json!(BDEVS_DEFAULT), "every namespace becomes a device")?;
        let reason = "a namespace of an unknown command set cannot be a device";
        params.only("allow_unrecognized_csi", &json!(false), reason)?;
        params.not_done("psk", "there is no TLS yet")?;
        for key in ["dhchap_key", "dhchap_ctrlr_key"] {
            params.not_done(key, "there is no in-band authentication yet")?;
        }
        let fabrics_only = ["priority", "hostnqn", "hdgst", "ddgst"];
        let given = fabrics_only.iter().find(|name| params.has(name));
        if let (Some(_), Some(name)) = (trid.pci_address(), given) {
            return Err(params.refuse(name, "it means nothing for a PCIe controller"));
        }
        let modes = [
            ("disable", MultipathMode::Disable),
            ("failover", MultipathMode::Failover),
            ("multipath", MultipathMode::Multipath),
        ];
        let connect = params.optional_u64("fabrics_connect_timeout_us", CONNECT_US)?;
        Ok(Self {
            name,
            trid,
            hostnqn: take_hostnqn(params)?,
            hdgst: params.optional("hdgst")?.unwrap_or(false),
            ddgst: params.optional("ddgst")?.unwrap_or(false),
            fabrics_connect_timeout_us: connect,
            multipath: params.optional_choice("multipath", &modes, true)?.unwrap_or_default(),
            num_io_queues: params.optional_u16("num_io_queues", 1..=u16::MAX)?,
            reconnect: Reconnect::take(params)?,
        })
    }
}

async fn attach(context: Arc<Context>, request: Attach) -> RpcResult<Vec<String>> {
    let engine = context.engine()?;
    let named = request.hostnqn.as_deref().map(HostIdentity::named);
    let host = named.as_ref().unwrap_or(engine.host());
    let mut controller = context.nvme_defaults.options(host);
    (controller.hdgst, controller.ddgst) = (request.hdgst, request.ddgst);
    if let Some(us) = request.fabrics_connect_timeout_us {
        controller.fabrics_connect_timeout_us = us;
    }
    if let Some(queues) = request.num_io_queues {
        controller.num_io_queues = queues;
    }
    request.reconnect.apply(&mut controller);
    let (multipath, policy) = (request.multipath, MultipathPolicy::default());
    let options = AttachOptions { controller, multipath, policy };
    let attached = engine.nvme().attach(&request.name.0, &request.trid, &options).await;
    attached.map_err(|error| errors::failed(&error))
}
