//! `nvmf_create_transport`, `nvmf_get_transports`.

use std::sync::Arc;
use std::time::Duration;

use jsonrpc::codes;
use nix::errno::Errno;
use serde_json::{Value, json};
use spdk_rs::nvmf::TransportKind;
use spdk_rs::nvmf::target::{NvmfErrorKind, Target, Transport};
use spdk_rs::nvmf::tcp::{TcpOptions, TcpTransport};

use super::address::{TRANSPORTS, take_trtype};
use super::{TargetName, internal};
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::{ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// I/O queues of a controller at the most: queue 0 is the admin queue.
const IO_QPAIRS_MAX: u16 = 65_534;
/// Entries of the admin queue, the same for every transport.
const AQ_DEPTH: u32 = 32;
/// The longest time in milliseconds: a day.
const MS_MAX: u32 = 86_400_000;
/// Why there is no option of RDMA.
const NO_RDMA: &str = "it is an option of RDMA, and there is TCP only";
/// Why there is no option of vfio-user.
const NO_VFIO_USER: &str = "it is an option of vfio-user, and there is TCP only";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("nvmf_create_transport", create).in_config("nvmf"),
        Method::new("nvmf_get_transports", get),
    ]
}

struct Create {
    target: TargetName,
    options: TcpOptions,
    io_qpairs_max: Option<u16>,
    association_timeout_ms: Option<u32>,
}

impl Request for Create {
    const NAMES: &'static [&'static str] = &[
        "trtype",
        "tgt_name",
        "max_queue_depth",
        "max_io_qpairs_per_ctrlr",
        "in_capsule_data_size",
        "max_io_size",
        "io_unit_size",
        "max_aq_depth",
        "num_shared_buffers",
        "buf_cache_size",
        "dif_insert_or_strip",
        "abort_timeout_sec",
        "association_timeout",
        "c2h_success",
        "sock_priority",
        "zcopy",
        "control_msg_num",
        "acceptor_poll_rate",
        "ack_timeout",
        "disable_command_passthru",
        "kas",
        "min_kato",
        "masked_oncs",
        "masked_fuses",
        "max_srq_depth",
        "no_srq",
        "no_wr_batching",
        "acceptor_backlog",
        "data_wr_pool_size",
        "disable_mappable_bar0",
        "disable_adaptive_irq",
        "disable_shadow_doorbells",
        "disable_compare",
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let TransportKind::Tcp = take_trtype(params)?;
        refuse_the_rest(params)?;
        Ok(Self {
            target: TargetName::take(params)?,
            options: take_options(params)?,
            io_qpairs_max: params.optional_u16("max_io_qpairs_per_ctrlr", 1..=IO_QPAIRS_MAX)?,
            association_timeout_ms: params.optional_u32("association_timeout", 0..=MS_MAX)?,
        })
    }
}

/// SPDK's parameters that ask for what the engine does not do: the value that asks for nothing,
/// and why there is no other.
fn refuse_the_rest(params: &Params<'_>) -> Result<(), ParamError> {
    params.only("max_aq_depth", &json!(AQ_DEPTH), "an admin queue has as many entries")?;
    params.not_done("buf_cache_size", "every reactor has caches of its own for buffers")?;
    params.only("dif_insert_or_strip", &json!(false), "blocks carry no metadata")?;
    params.not_done("abort_timeout_sec", "an abort does not wait: it is answered at once")?;
    params.not_done("control_msg_num", "what controls a connection needs no buffers of a pool")?;
    params.not_done("acceptor_poll_rate", "connections are not polled for: they are told of")?;
    let itself = "commands of a vendor are never passed on to a device";
    params.only("disable_command_passthru", &json!(true), itself)?;
    params.not_done("kas", "the granularity of keep-alive is fixed")?;
    params.only("min_kato", &json!(0), "a host may choose any keep-alive time-out")?;
    let hidden = "what the devices can do is what hosts are told";
    params.only("masked_oncs", &json!([]), hidden)?;
    params.only("masked_fuses", &json!([]), hidden)?;
    params.not_done("max_srq_depth", NO_RDMA)?;
    params.not_done("no_srq", NO_RDMA)?;
    params.not_done("no_wr_batching", NO_RDMA)?;
    params.not_done("acceptor_backlog", NO_RDMA)?;
    params.not_done("data_wr_pool_size", NO_RDMA)?;
    params.not_done("disable_mappable_bar0", NO_VFIO_USER)?;
    params.not_done("disable_adaptive_irq", NO_VFIO_USER)?;
    params.not_done("disable_shadow_doorbells", NO_VFIO_USER)?;
    params.not_done("disable_compare", NO_VFIO_USER)
}

fn take_options(params: &Params<'_>) -> Result<TcpOptions, ParamError> {
    let mut options = TcpOptions::default();
    let number = |name| params.optional_u32(name, 0..=u32::MAX);
    if let Some(depth) = number("max_queue_depth")? {
        options.queue_depth_max = depth;
    }
    if let Some(bytes) = number("in_capsule_data_size")? {
        options.in_capsule_bytes = bytes;
    }
    if let Some(bytes) = number("max_io_size")? {
        options.io_bytes_max = bytes;
        // The unit is never more than the whole.
        options.io_unit_bytes = options.io_unit_bytes.min(bytes);
    }
    if let Some(bytes) = number("io_unit_size")? {
        options.io_unit_bytes = bytes;
    }
    if let Some(count) = number("num_shared_buffers")? {
        options.shared_buffers = count;
    }
    options.c2h_success = params.optional("c2h_success")?.unwrap_or(options.c2h_success);
    options.zcopy = params.optional("zcopy")?.unwrap_or(options.zcopy);
    if let Some(priority) = number("sock_priority")? {
        options.sock_priority = u8::try_from(priority).unwrap_or(u8::MAX);
    }
    let ack_ms = params.optional_u32("ack_timeout", 0..=MS_MAX)?.filter(|&ms| ms > 0);
    options.ack_timeout = ack_ms.map(|ms| Duration::from_millis(ms.into()));
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
    const NAMES: &'static [&'static str] = &["trtype", "tgt_name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let kind = params.optional_choice("trtype", &TRANSPORTS, true)?;
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
