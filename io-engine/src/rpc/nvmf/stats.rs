//! `nvmf_get_stats`.

use std::sync::Arc;

use serde_json::{Value, json};
use spdk_rs::env::Clock;
use spdk_rs::nvmf::TransportKind;

use super::{TGT_NAME, TargetName};
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::{Defs, ParamError, Params, Request};
use crate::rpc::thread::thread_name;
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![Method::new("nvmf_get_stats", "Tells what the target has done.", get_stats).answers(
        "`tick_rate`, `poll_groups`: one per reactor, `name`, `admin_qpairs` and `io_qpairs` \
         since the start, `current_admin_qpairs`, `current_io_qpairs`, `pending_bdev_io`, \
         `completed_nvme_io`, `transports`; ours: `commands`, `errors`, `num_read_ops`, \
         `bytes_read`, `num_write_ops`, `bytes_written`, `memory_waits`",
    )]
}

struct GetStats(TargetName);

impl Request for GetStats {
    const PARAMS: Defs = &[&[TGT_NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        TargetName::take(params).map(Self)
    }
}

async fn get_stats(context: Arc<Context>, request: GetStats) -> RpcResult<Value> {
    let tick_rate = Clock::Real.hz();
    let Some(target) = request.0.started(&context)? else {
        return Ok(json!({ "tick_rate": tick_rate, "poll_groups": [] }));
    };
    let transports: Vec<Value> = target
        .transports()
        .iter()
        .map(|transport| match transport.kind() {
            TransportKind::Tcp => json!({ "trtype": "TCP" }),
        })
        .collect();
    let reactors = context.engine()?.runtime().reactors();
    let stats = target.stats().await.map_err(|error| errors::failed(&error))?;
    let groups = stats.iter().map(|group| {
        let reactor = reactors.iter().find(|reactor| reactor.core() == group.core);
        json!({
            "name": reactor.map(thread_name).unwrap_or_default(),
            "admin_qpairs": group.admin_qpairs,
            "io_qpairs": group.io_qpairs,
            "current_admin_qpairs": group.current_admin_qpairs,
            "current_io_qpairs": group.current_io_qpairs,
            "pending_bdev_io": group.pending_io,
            "completed_nvme_io": group.completed_io,
            "transports": transports,
            "commands": group.queues.commands,
            "errors": group.queues.errors,
            "num_read_ops": group.queues.reads,
            "bytes_read": group.queues.read_bytes,
            "num_write_ops": group.queues.writes,
            "bytes_written": group.queues.write_bytes,
            "memory_waits": group.queues.waits,
        })
    });
    Ok(json!({ "tick_rate": tick_rate, "poll_groups": groups.collect::<Vec<_>>() }))
}
