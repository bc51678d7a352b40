//! The NVMe-oF target, as a configuration file makes it again.

use async_trait::async_trait;
use serde_json::{Value, json};
use spdk_rs::nvmf::AnaState;
use spdk_rs::nvmf::ana::{AnaStates, ana_state_name};
use spdk_rs::nvmf::subsystem::{Namespace, Subsystem as NvmfSubsystem, SubsystemListener};
use spdk_rs::nvmf::target::{Target, TargetOptions, Transport};
use spdk_rs::nvmf::tcp::TcpTransport;

use super::{Call, Subsystem};
use crate::rpc::Context;
use crate::rpc::errors::RpcResult;
use crate::rpc::nvmf::{show_address, to_hex};

/// The subsystem `nvmf`.
pub(super) struct NvmfTarget;

#[async_trait]
impl Subsystem for NvmfTarget {
    fn name(&self) -> &'static str {
        "nvmf"
    }

    fn depends_on(&self) -> &'static [&'static str] {
        &["bdev"]
    }

    async fn calls(&self, context: &Context) -> RpcResult<Vec<Call>> {
        context.engine()?;
        let mut all = Vec::new();
        let max = context.nvmf().options().await.subsystems_max;
        if max != TargetOptions::default().subsystems_max {
            let params = json!({ "max_subsystems": max });
            all.push(Call::new("nvmf_set_max_subsystems", params));
        }
        let Some(target) = context.nvmf().started() else { return Ok(all) };
        for transport in target.transports() {
            all.extend(create_transport(&target, transport.as_ref()));
        }
        let discovery = target.discovery();
        for listener in discovery.listeners() {
            all.extend(add_listener(discovery.nqn().as_str(), &listener));
        }
        for subsystem in target.subsystems() {
            all.extend(create_subsystem(&subsystem));
        }
        for referral in target.referrals() {
            let address = referral.address;
            all.push(Call::new(
                "nvmf_discovery_add_referral",
                json!({
                    "address": show_address(address.transport, address.address),
                    "subnqn": referral.nqn.as_str(),
                    "secure_channel": referral.secure_channel,
                }),
            ));
        }
        Ok(all)
    }
}

fn create_transport(target: &Target, transport: &dyn Transport) -> Option<Call> {
    let tcp = transport.as_any().downcast_ref::<TcpTransport>()?;
    let options = tcp.options();
    let ack_ms = options.ack_timeout.map_or(0, |time| time.as_millis());
    let params = json!({
        "trtype": "TCP",
        "max_queue_depth": options.queue_depth_max,
        "max_io_qpairs_per_ctrlr": target.options().io_qpairs_max,
        "in_capsule_data_size": options.in_capsule_bytes,
        "max_io_size": options.io_bytes_max,
        "io_unit_size": options.io_unit_bytes,
        "num_shared_buffers": options.shared_buffers,
        "zcopy": options.zcopy,
        "c2h_success": options.c2h_success,
        "sock_priority": options.sock_priority,
        "ack_timeout": u64::try_from(ack_ms).unwrap_or(u64::MAX),
        "association_timeout": target.options().association_timeout_ms,
    });
    Some(Call::new("nvmf_create_transport", params))
}

/// A subsystem with its hosts, namespaces and listeners, in this order: nobody connects before all
/// of it is there.
fn create_subsystem(subsystem: &NvmfSubsystem) -> Vec<Call> {
    let (nqn, options) = (subsystem.nqn().as_str(), subsystem.options());
    let params = json!({
        "nqn": nqn,
        "serial_number": options.serial,
        "model_number": options.model,
        "max_namespaces": options.max_namespaces,
        "allow_any_host": subsystem.allows_any_host(),
        "ana_reporting": options.ana_reporting,
        "min_cntlid": options.min_cntlid,
        "max_cntlid": options.max_cntlid,
    });
    let mut all = vec![Call::new("nvmf_create_subsystem", params)];
    for host in subsystem.hosts() {
        let params = json!({ "nqn": nqn, "host": host.as_str() });
        all.push(Call::new("nvmf_subsystem_add_host", params));
    }
    for namespace in subsystem.namespaces() {
        let params = json!({ "nqn": nqn, "namespace": of_namespace(&namespace) });
        all.push(Call::new("nvmf_subsystem_add_ns", params));
    }
    for listener in subsystem.listeners() {
        all.extend(add_listener(nqn, &listener));
    }
    all
}

fn of_namespace(namespace: &Namespace) -> Value {
    let mut params = json!({
        "nsid": namespace.nsid(),
        "bdev_name": namespace.bdev().name(),
        "nguid": to_hex(&namespace.nguid()),
        "uuid": namespace.uuid(),
    });
    if let Some(eui64) = namespace.eui64() {
        params["eui64"] = to_hex(&eui64).into();
    }
    if namespace.ana_group() != namespace.nsid() {
        params["anagrpid"] = namespace.ana_group().into();
    }
    if let Some(file) = namespace.ptpl_file() {
        params["ptpl_file"] = file.display().to_string().into();
    }
    params
}

fn add_listener(nqn: &str, entry: &SubsystemListener) -> Vec<Call> {
    let address = entry.listener.address();
    let address = show_address(address.transport, address.address);
    let mut params = json!({ "nqn": nqn, "listen_address": address });
    let common = in_all_groups(&entry.ana);
    if let Some(state) = common.filter(|&state| state != AnaState::Optimized) {
        params["ana_state"] = ana_state_name(state).into();
    }
    let mut all = vec![Call::new("nvmf_subsystem_add_listener", params)];
    if common.is_some() {
        return all;
    }
    for (group, state) in entry.ana.iter().filter(|(_, state)| *state != AnaState::Optimized) {
        let params = json!({
            "nqn": nqn,
            "listen_address": address,
            "ana_state": ana_state_name(state),
            "anagrpid": group,
        });
        all.push(Call::new("nvmf_subsystem_listener_set_ana_state", params));
    }
    all
}

/// The state of all groups, if they have one.
fn in_all_groups(states: &AnaStates) -> Option<AnaState> {
    let first = states.iter().next().map(|(_, state)| state)?;
    states.iter().all(|(_, state)| state == first).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_with_one_state_are_set_at_once() {
        let mut states = AnaStates::new(3);
        assert_eq!(in_all_groups(&states), Some(AnaState::Optimized));
        states.set(Some(2), AnaState::Inaccessible);
        assert_eq!(in_all_groups(&states), None);
        states.set(None, AnaState::Inaccessible);
        assert_eq!(in_all_groups(&states), Some(AnaState::Inaccessible));
    }
}
