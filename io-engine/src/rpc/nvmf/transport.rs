//! `nvmf_create_transport`, `nvmf_get_transports`.

use std::sync::Arc;
use std::time::Duration;

use jsonrpc::codes;
use nix::errno::Errno;
use serde_json::{Value, json};
use spdk_rs::nvmf::TransportKind;
use spdk_rs::nvmf::target::{NvmfErrorKind, Target, Transport};
use spdk_rs::nvmf::tcp::{TcpOptions, TcpTransport};

use super::address::{TRANSPORTS, TRTYPE};
use super::{TGT_NAME, TargetName, internal};
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{choice_any_case, int, not_done, only, optional, words};
use crate::rpc::params::{Def, Defs, Kind, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// I/O queues of a controller at the most: queue 0 is the admin queue.
const IO_QPAIRS_MAX: i128 = 65_534;
/// Entries of the admin queue, the same for every transport.
const AQ_DEPTH: u32 = 32;
/// The longest time in milliseconds: a day.
const MS_MAX: i128 = 86_400_000;
/// Why nothing is hidden from hosts.
const HIDDEN: &str = "what the devices can do is what hosts are told";
/// Why caches of buffers have no size.
const CACHES: &str = "every reactor has caches of its own for buffers";
/// Why there is no option of RDMA.
const NO_RDMA: &str = "it is an option of RDMA, and there is TCP only";
/// Why there is no option of vfio-user.
const NO_VFIO_USER: &str = "it is an option of vfio-user, and there is TCP only";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("nvmf_create_transport", "Creates the transport.", create).in_config("nvmf"),
        Method::new("nvmf_get_transports", "Lists the transports.", get).answers(
            "list with the parameters of `nvmf_create_transport`; ours: `connections`, \
             `connections_accepted`, `connections_terminated`",
        ),
    ]
}

struct Create {
    target: TargetName,
    options: TcpOptions,
    io_qpairs_max: Option<u16>,
    association_timeout_ms: Option<u32>,
}

impl Request for Create {
    const PARAMS: Defs = &[&[TRTYPE, TGT_NAME], OPTIONS, NOTHING];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            target: TargetName::take(params)?,
            options: take_options(params)?,
            io_qpairs_max: params.optional("max_io_qpairs_per_ctrlr")?,
            association_timeout_ms: params.optional("association_timeout")?,
        })
    }
}

/// What a transport is created with.
const OPTIONS: &[Def] = &[
    optional("max_queue_depth", int(2, 16_384), "Entries of a queue.").or_int(128),
    optional(
        "max_io_qpairs_per_ctrlr",
        int(1, IO_QPAIRS_MAX),
        "I/O queues of a controller (127); the same for all transports.",
    ),
    optional(
        "in_capsule_data_size",
        int(0, 131_072),
        "Bytes of data that a command may bring with it, a multiple of 16.",
    )
    .or_int(4096),
    optional("max_io_size", int(4096, 1 << 20), "Bytes of an I/O, a power of two.").or_int(131_072),
    optional(
        "io_unit_size",
        int(4096, 1 << 20),
        "Bytes of a buffer, a multiple of 4096; 131072 or `max_io_size` when left out.",
    ),
    optional("num_shared_buffers", int(1, u32::MAX as i128), "Buffers of a reactor.").or_int(511),
    optional("c2h_success", Kind::Bool, "Whether data may carry the success.").or_bool(true),
    optional("sock_priority", int(0, 6), "Priority of the sockets.").or_int(0),
    optional("zcopy", Kind::Bool, "Whether data leave from the device's buffer.").or_bool(true),
    optional(
        "ack_timeout",
        int(0, MS_MAX),
        "How long a peer may not acknowledge, in milliseconds; 0 is the kernel's own.",
    )
    .or_int(0),
    optional(
        "max_aq_depth",
        int(AQ_DEPTH as i128, 65_535),
        "Entries of an admin queue at the most: there are 32, however many there may be.",
    )
    .or_int(AQ_DEPTH as i64),
    optional(
        "disable_command_passthru",
        Kind::Bool,
        "Commands of a vendor are not passed on to a device, whatever it says.",
    )
    .or_bool(true),
    optional(
        "association_timeout",
        int(0, MS_MAX),
        "How long a controller outlives its connection, in milliseconds (120000); the same for \
         all transports.",
    ),
];

/// SPDK's parameters that ask for what the engine does not do: the value that asks for nothing,
/// and why there is no other.
const NOTHING: &[Def] = &[
    // SPDK's word for as many as it likes.
    only("buf_cache_size", "4294967295", CACHES),
    only("dif_insert_or_strip", "false", "blocks carry no metadata"),
    only("abort_timeout_sec", "1", "an abort does not wait: it is answered at once"),
    not_done("control_msg_num", "what controls a connection needs no buffers of a pool"),
    not_done("acceptor_poll_rate", "connections are not polled for: they are told of"),
    not_done("kas", "the granularity of keep-alive is fixed"),
    only("min_kato", "0", "a host may choose any keep-alive time-out"),
    only("masked_oncs", "[]", HIDDEN),
    only("masked_fuses", "[]", HIDDEN),
    not_done("max_srq_depth", NO_RDMA),
    not_done("num_cqe", NO_RDMA),
    not_done("iobuf_small_cache_size", CACHES),
    not_done("iobuf_large_cache_size", CACHES),
    only("no_srq", "false", NO_RDMA),
    only("no_wr_batching", "false", NO_RDMA),
    not_done("acceptor_backlog", NO_RDMA),
    only("data_wr_pool_size", "0", NO_RDMA),
    only("disable_mappable_bar0", "false", NO_VFIO_USER),
    only("disable_adaptive_irq", "false", NO_VFIO_USER),
    only("disable_shadow_doorbells", "false", NO_VFIO_USER),
    only("disable_compare", "false", NO_VFIO_USER),
];

fn take_options(params: &Params<'_>) -> Result<TcpOptions, ParamError> {
    // SPDK's tools always say something, and the engine does the same in either case.
    let _: bool = params.required("disable_command_passthru")?;
    let _: u16 = params.required("max_aq_depth")?;
    let io_bytes_max = params.required("max_io_size")?;
    let defaults = TcpOptions::default();
    // The unit is never more than the whole.
    let unit = defaults.io_unit_bytes.min(io_bytes_max);
    let ack_ms: u64 = params.required("ack_timeout")?;
    let options = TcpOptions {
        queue_depth_max: params.required("max_queue_depth")?,
        in_capsule_bytes: params.required("in_capsule_data_size")?,
        io_bytes_max,
        io_unit_bytes: params.optional("io_unit_size")?.unwrap_or(unit),
        shared_buffers: params.required("num_shared_buffers")?,
        c2h_success: params.required("c2h_success")?,
        zcopy: params.required("zcopy")?,
        sock_priority: params.required("sock_priority")?,
        ack_timeout: (ack_ms > 0).then(|| Duration::from_millis(ack_ms)),
        ..defaults
    };
    options.check().map_err(|error| {
        let words = format!("allowed is {}", error.allowed);
        params.refuse(error.name, words)
    })?;
    Ok(options)
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<bool> {
    request.target.check()?;
    let engine = context.engine()?;
    if context.nvmf().started().is_some_and(|target| has(&target)) {
        return Err(exists());
    }
    let configured = context.nvmf().configure(|options| {
        if let Some(count) = request.io_qpairs_max {
            options.io_qpairs_max = count;
        }
        if let Some(ms) = request.association_timeout_ms {
            options.association_timeout_ms = ms.into();
        }
    });
    configured.await.map_err(|started| {
        let words = format!("max_io_qpairs_per_ctrlr, association_timeout: {started}");
        codes::internal_error(words)
    })?;
    let target = request.target.target(&context).await?;
    let made = TcpTransport::new(request.options, engine.runtime().reactors().to_vec());
    let transport =
        made.map_err(|error| codes::invalid_params(format!("Invalid parameters: {error}")))?;
    match target.add_transport(transport) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == NvmfErrorKind::Exists => Err(exists()),
        Err(error) => Err(internal(&error)),
    }
}

fn has(target: &Target) -> bool {
    target.transport(TransportKind::Tcp).is_some()
}

/// In SPDK's words: scripts look for them.
fn exists() -> jsonrpsee::types::ErrorObjectOwned {
    codes::internal_error("Transport type 'TCP' already exists")
}

struct Get {
    kind: Option<TransportKind>,
    target: TargetName,
}

impl Request for Get {
    const PARAMS: Defs = &[&[
        optional("trtype", choice_any_case(&words(&TRANSPORTS)), "Only this transport."),
        TGT_NAME,
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let kind = params.optional_choice("trtype", &TRANSPORTS)?;
        Ok(Self { kind, target: TargetName::take(params)? })
    }
}

async fn get(context: Arc<Context>, request: Get) -> RpcResult<Vec<Value>> {
    let target = request.target.started(&context)?;
    let shown = target.as_ref().map_or_else(Vec::new, |target| {
        let all = target.transports();
        all.iter().filter_map(|transport| show(target, transport.as_ref())).collect()
    });
    match request.kind {
        Some(_) if shown.is_empty() => {
            Err(errors::errno(Errno::ENODEV, "transport 'TCP' does not exist"))
        }
        _ => Ok(shown),
    }
}

fn show(target: &Target, transport: &dyn Transport) -> Option<Value> {
    let tcp = transport.as_any().downcast_ref::<TcpTransport>()?;
    let (options, stats) = (tcp.options(), tcp.stats());
    let ack_ms = options.ack_timeout.map_or(0, |time| time.as_millis());
    Some(json!({
        "trtype": "TCP",
        "max_queue_depth": options.queue_depth_max,
        "max_io_qpairs_per_ctrlr": target.options().io_qpairs_max,
        "in_capsule_data_size": options.in_capsule_bytes,
        "max_io_size": options.io_bytes_max,
        "io_unit_size": options.io_unit_bytes,
        "max_aq_depth": AQ_DEPTH,
        "num_shared_buffers": options.shared_buffers,
        "dif_insert_or_strip": false,
        "zcopy": options.zcopy,
        "c2h_success": options.c2h_success,
        "sock_priority": options.sock_priority,
        "ack_timeout": u64::try_from(ack_ms).unwrap_or(u64::MAX),
        "association_timeout": target.options().association_timeout_ms,
        "disable_command_passthru": true,
        "connections_accepted": stats.accepted,
        "connections": stats.current,
        "connections_terminated": stats.terminated,
    }))
}
