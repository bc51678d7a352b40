//! `bdev_nvme_attach_controller`.

use std::sync::Arc;

use spdk_rs::drivers::nvme::{AttachOptions, MultipathMode, MultipathPolicy};
use spdk_rs::nvme::controller::ControllerOptions;
use spdk_rs::nvme::{TransportId, check_nqn};
use uuid::Uuid;

use super::options::{RECONNECT, Reconnect};
use super::paths::{POLICY, take_policy};
use super::trid;
use crate::core::HostIdentity;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{
    choice_any_case, form, int, not_done, only, optional, required, words,
};
use crate::rpc::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// The highest priority of a socket that needs no privilege (socket(7)).
const PRIORITY_MAX: u8 = 6;
/// What a further path to the same name can mean.
const MODES: [(&str, MultipathMode); 3] = [
    ("disable", MultipathMode::Disable),
    ("failover", MultipathMode::Failover),
    ("multipath", MultipathMode::Multipath),
];
/// The host's name.
pub(super) const HOSTNQN: Def = optional(
    "hostnqn",
    form("an NVMe qualified name", "nqn.2014-08.org.nvmexpress:host"),
    "The host's name; the engine's own when left out.",
);

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_nvme_attach_controller",
            "Connects to a subsystem; its namespaces become devices.",
            attach,
        )
        .in_config("bdev")
        .answers("names of the devices, `NAMEn1`, `NAMEn2`, …"),
    ]
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
    hostid: Option<Uuid>,
    io_queue_size: u16,
    keep_alive_timeout_ms: Option<u32>,
    timeout_us: Option<u64>,
    local: Local,
    policy: Option<MultipathPolicy>,
    reconnect: Reconnect,
}

/// What only a controller of this machine has.
#[derive(Clone, Copy, Debug)]
struct Local {
    shadow_doorbells: bool,
    cmb_sqs: bool,
    sgl: bool,
}

impl Local {
    const PARAMS: &'static [Def] = &[
        optional(
            "shadow_doorbells",
            Kind::Bool,
            "Whether shadow doorbells are used where a PCIe controller has them (ours).",
        )
        .or_bool(true),
        optional(
            "cmb_sqs",
            Kind::Bool,
            "Whether submission queues are in a PCIe controller's own memory; one without is \
             refused (ours).",
        )
        .or_bool(false),
        optional(
            "sgl",
            Kind::Bool,
            "Whether a PCIe controller gets SGLs for data that PRP entries cannot describe; else \
             they are copied (ours).",
        )
        .or_bool(true),
    ];

    fn take(params: &Params<'_>, trid: &TransportId) -> Result<Self, ParamError> {
        let given = Self::PARAMS.iter().find(|def| params.has(def.name));
        if let (None, Some(def)) = (trid.pci_address(), given) {
            return Err(params.refuse(def.name, "only a PCIe controller has it; leave it out"));
        }
        Ok(Self {
            shadow_doorbells: params.required("shadow_doorbells")?,
            cmb_sqs: params.required("cmb_sqs")?,
            sgl: params.required("sgl")?,
        })
    }

    fn apply(self, options: &mut ControllerOptions) {
        options.shadow_doorbells = self.shadow_doorbells;
        options.cmb_sqs = self.cmb_sqs;
        options.sgl = self.sgl;
    }
}

/// Which of several paths are used.
pub(super) struct MultipathOptions(pub(super) MultipathPolicy);

impl Request for MultipathOptions {
    const PARAMS: Defs =
        &[POLICY, &[only("min_io", "1", "round robin changes the path with each command")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        take_policy(params).map(Self)
    }
}

/// Takes the host's name.
pub(super) fn take_hostnqn(params: &Params<'_>) -> Result<Option<String>, ParamError> {
    let Some(nqn) = params.optional::<String>("hostnqn")? else { return Ok(None) };
    check_nqn(&nqn).map_err(|error| params.refuse("hostnqn", error.to_string()))?;
    Ok(Some(nqn))
}

impl Request for Attach {
    const PARAMS: Defs = &[
        &[required("name", Kind::Name, "Name of the controller, which its devices begin with.")],
        trid::PLACE,
        &[trid::SUBNQN],
        trid::SOURCE,
        &[
            optional(
                "priority",
                form("a whole number as text, \"0\" to \"6\"", "0"),
                "Priority of the socket.",
            ),
            HOSTNQN,
            optional("hdgst", Kind::Bool, "Whether headers have digests.").or_bool(false),
            optional("ddgst", Kind::Bool, "Whether data have digests.").or_bool(false),
            optional(
                "fabrics_connect_timeout_us",
                int(1000, 1 << 52),
                "How long connecting may take, in microseconds.",
            )
            .or_int(15_000_000),
            optional(
                "multipath",
                choice_any_case(&words(&MODES)),
                "What a further path to the same name means.",
            )
            .or_text("multipath"),
            optional(
                "num_io_queues",
                int(1, u16::MAX as i128),
                "I/O queues at the most; there is one per core.",
            )
            .or_int(1024),
            optional("hostid", Kind::Uuid, "The host's identifier (ours); made of its name."),
            optional(
                "io_queue_size",
                int(2, u16::MAX as i128),
                "Entries of an I/O queue at the most (ours).",
            )
            .or_int(128),
            optional(
                "keep_alive_timeout_ms",
                int(0, u32::MAX as i128),
                "Keep-alive time-out in milliseconds, 0 is none (ours); that of \
                 `bdev_nvme_set_options` when left out.",
            ),
            optional(
                "timeout_us",
                int(0, 1 << 52),
                "Time of an I/O command in µs, 0 is any (ours); that of `bdev_nvme_set_options` \
                 when left out.",
            ),
        ],
        Local::PARAMS,
        RECONNECT,
        &[
            optional(
                "multipath_opts",
                Kind::Object(MultipathOptions::PARAMS),
                "Which of several paths are used.",
            ),
            only("disable_sq_flow_control", "false", "submission queues have flow control"),
            only("prchk_reftag", "false", "blocks carry no metadata"),
            only("prchk_guard", "false", "blocks carry no metadata"),
            // Names of block devices that SPDK returns at the most.
            only("max_bdevs", "128", "every namespace becomes a device"),
            only(
                "allow_unrecognized_csi",
                "false",
                "a namespace of an unknown command set cannot be a device",
            ),
            not_done("psk", "there is no TLS yet"),
            not_done("dhchap_key", "there is no in-band authentication yet"),
            not_done("dhchap_ctrlr_key", "there is no in-band authentication yet"),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        let mut trid = trid::take(params, None)?;
        if let Some(text) = params.optional::<String>("priority")? {
            let priority = text.parse().ok().filter(|&priority: &u8| priority <= PRIORITY_MAX);
            let allowed = "it has to be a whole number as text, \"0\" to \"6\"";
            trid.priority = Some(priority.ok_or_else(|| params.refuse("priority", allowed))?);
        }
        let (hdgst, ddgst) = (params.required("hdgst")?, params.required("ddgst")?);
        // SPDK's client says of every controller whether it has digests.
        let fabrics_only = [
            ("priority", params.has("priority")),
            ("hostnqn", params.has("hostnqn")),
            ("hdgst", hdgst),
            ("ddgst", ddgst),
        ];
        let asked = fabrics_only.iter().find(|(_, asked)| *asked);
        if let (Some(_), Some((name, _))) = (trid.pci_address(), asked) {
            return Err(params.refuse(name, "it means nothing for a PCIe controller"));
        }
        let local = Local::take(params, &trid)?;
        let policy: Option<MultipathOptions> = params.optional_object("multipath_opts")?;
        Ok(Self {
            name,
            trid,
            hostnqn: take_hostnqn(params)?,
            hdgst,
            ddgst,
            fabrics_connect_timeout_us: params.optional("fabrics_connect_timeout_us")?,
            multipath: params.required_choice("multipath", &MODES)?,
            num_io_queues: params.optional("num_io_queues")?,
            hostid: params.optional("hostid")?,
            io_queue_size: params.required("io_queue_size")?,
            keep_alive_timeout_ms: params.optional("keep_alive_timeout_ms")?,
            timeout_us: params.optional("timeout_us")?,
            local,
            policy: policy.map(|MultipathOptions(one)| one),
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
    controller.io_queue_size = request.io_queue_size;
    if let Some(id) = request.hostid {
        controller.hostid = id;
    }
    if let Some(ms) = request.keep_alive_timeout_ms {
        controller.keep_alive_timeout_ms = ms;
    }
    if let Some(us) = request.timeout_us {
        controller.timeout_us = us;
    }
    request.local.apply(&mut controller);
    request.reconnect.apply(&mut controller);
    let policy = request.policy.unwrap_or_else(|| context.nvme_defaults.policy());
    let multipath = request.multipath;
    let options = AttachOptions { controller, multipath, policy };
    let attached = engine.nvme().attach(&request.name.0, &request.trid, &options).await;
    attached.map_err(|error| errors::failed(&error))
}
