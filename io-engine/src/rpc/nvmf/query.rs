//! `nvmf_subsystem_get_controllers`, `nvmf_subsystem_get_qpairs`.

use std::sync::Arc;

use serde_json::{Value, json};
use spdk_rs::nvmf::controller::Controller;
use spdk_rs::nvmf::subsystem::SubsystemKind;
use uuid::Uuid;

use super::{OfSubsystem, address};
use crate::rpc::errors::RpcResult;
use crate::rpc::thread::thread_name;
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "nvmf_subsystem_get_controllers",
            "Lists the hosts' controllers of a subsystem.",
            get_controllers,
        )
        .answers("list: `cntlid`, `cntrltype`, `hostnqn`, `hostid`, `num_io_qpairs`"),
        Method::new(
            "nvmf_subsystem_get_qpairs",
            "Lists the hosts' queues of a subsystem.",
            get_qpairs,
        )
        .answers(
            "list: `cntlid`, `qid`, `state`, `thread`, `hostnqn`, `listen_address`, \
             `peer_address`",
        ),
    ]
}

async fn get_controllers(context: Arc<Context>, request: OfSubsystem) -> RpcResult<Vec<Value>> {
    let subsystem = request.0.find(&context)?;
    let kind = match subsystem.kind() {
        SubsystemKind::Nvm => "io",
        SubsystemKind::Discovery => "discovery",
    };
    let show = |one: &Arc<Controller>| {
        json!({
            "cntlid": one.cntlid(),
            "cntrltype": kind,
            "hostnqn": one.host().nqn,
            "hostid": Uuid::from_bytes(one.host().id.0),
            "num_io_qpairs": one.io_queue_count(),
        })
    };
    Ok(subsystem.controllers().iter().map(show).collect())
}

async fn get_qpairs(context: Arc<Context>, request: OfSubsystem) -> RpcResult<Vec<Value>> {
    let subsystem = request.0.find(&context)?;
    let reactors = context.engine()?.runtime().reactors();
    let mut shown = Vec::new();
    for controller in subsystem.controllers() {
        let transport = controller.info().transport;
        for queue in controller.queues() {
            let reactor = reactors.iter().find(|reactor| reactor.core() == queue.core);
            shown.push(json!({
                "cntlid": queue.cntlid,
                "qid": queue.qid,
                "state": "enabled",
                "thread": reactor.map(thread_name).unwrap_or_default(),
                "hostnqn": controller.host().nqn,
                "listen_address": address::show(transport, queue.local),
                "peer_address": address::show(transport, queue.peer),
            }));
        }
    }
    Ok(shown)
}
