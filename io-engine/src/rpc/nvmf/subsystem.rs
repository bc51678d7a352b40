//! `nvmf_create_subsystem`, `nvmf_delete_subsystem`, `nvmf_get_subsystems`.

use std::sync::Arc;

use jsonrpc::codes;
use nix::errno::Errno;
use serde_json::{Value, json};
use spdk_rs::nvmf::subsystem::{
    CNTLID_MAX, DISCOVERY_NQN, NAMESPACES_DEFAULT, NAMESPACES_MAX, Namespace, Nqn, Subsystem,
    SubsystemKind, SubsystemOptions,
};
use spdk_rs::nvmf::target::NvmfErrorKind;

use super::namespace::to_hex;
use super::{NQN, OfSubsystem, TGT_NAME, TargetName, address, internal, invalid};
use crate::rpc::errors::{self, RpcResult, with_causes};
use crate::rpc::params::def::{form, int, not_done, only, optional, required};
use crate::rpc::params::{Defs, Kind, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// Why sizes of commands without data have no limit.
const NO_LIMIT: &str = "the size of such commands is not limited";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("nvmf_create_subsystem", "Creates a subsystem.", create).in_config("nvmf"),
        Method::new(
            "nvmf_delete_subsystem",
            "Deletes a subsystem; it answers when its hosts are disconnected and its devices free.",
            delete,
        ),
        Method::new("nvmf_get_subsystems", "Lists the subsystems.", get).answers(
            "list, the discovery subsystem first: `nqn`, `subtype`, `listen_addresses`, \
             `allow_any_host`, `hosts`; of others also `serial_number`, `model_number`, \
             `max_namespaces`, `min_cntlid`, `max_cntlid`, `dmrsl`, `wzsl`, `passthrough`, \
             `namespaces`: `nsid`, `bdev_name`, `name`, `nguid`, `eui64`, `uuid`, `anagrpid`; \
             ours: `ana_reporting`, `ptpl_file`",
        ),
    ]
}

struct Create {
    target: TargetName,
    options: SubsystemOptions,
}

/// Takes a text of printable ASCII characters.
fn take_text(
    params: &Params<'_>,
    name: &'static str,
    max: usize,
) -> Result<Option<String>, ParamError> {
    let Some(text) = params.optional::<String>(name)? else { return Ok(None) };
    let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    if printable && (1..=max).contains(&text.len()) {
        return Ok(Some(text));
    }
    Err(params.refuse(name, format!("it has to be 1 to {max} printable ASCII characters")))
}

impl Request for Create {
    const PARAMS: Defs = &[&[
        required("nqn", NQN, "Name of the subsystem."),
        optional(
            "serial_number",
            form("1 to 20 printable ASCII characters", "SPDK00000000000001"),
            "Its serial number; zeroes when left out.",
        ),
        optional(
            "model_number",
            form("1 to 40 printable ASCII characters", "io-engine"),
            "Its model number; the engine's name when left out.",
        ),
        optional(
            "max_namespaces",
            int(0, NAMESPACES_MAX as i128),
            "The largest number of a namespace; 0 is the default.",
        )
        .or_int(NAMESPACES_DEFAULT as i64),
        optional("allow_any_host", Kind::Bool, "Whether every host may connect.").or_bool(false),
        optional("ana_reporting", Kind::Bool, "Whether hosts are told ANA states.").or_bool(false),
        optional("min_cntlid", int(1, CNTLID_MAX as i128), "The least controller id.").or_int(1),
        optional("max_cntlid", int(1, CNTLID_MAX as i128), "The largest controller id.")
            .or_int(CNTLID_MAX as i64),
        TGT_NAME,
        not_done("admin_label", "subsystems have no label"),
        only("max_discard_size_kib", "0", NO_LIMIT),
        only("max_write_zeroes_size_kib", "0", NO_LIMIT),
        only("dmrsl", "0", NO_LIMIT),
        only("wzsl", "0", NO_LIMIT),
        only("passthrough", "false", "the target answers commands itself"),
        only("enable_nssr", "false", "a subsystem is not reset by a host"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let nqn: Nqn = params.required("nqn")?;
        let mut options = SubsystemOptions::new(nqn);
        if let Some(serial) = take_text(params, "serial_number", 20)? {
            options.serial = serial;
        }
        if let Some(model) = take_text(params, "model_number", 40)? {
            options.model = model;
        }
        let namespaces = Some(params.required("max_namespaces")?);
        options.max_namespaces = namespaces.filter(|&n| n > 0).unwrap_or(NAMESPACES_DEFAULT);
        options.allow_any_host = params.required("allow_any_host")?;
        options.ana_reporting = params.required("ana_reporting")?;
        options.min_cntlid = params.required("min_cntlid")?;
        options.max_cntlid = params.required("max_cntlid")?;
        if options.max_cntlid < options.min_cntlid {
            let least = options.min_cntlid;
            let words = format!("Invalid cntlid range: it has to be at least min_cntlid, {least}");
            return Err(params.refuse("max_cntlid", words));
        }
        Ok(Self { target: TargetName::take(params)?, options })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<bool> {
    let target = request.target.target(&context).await?;
    let nqn = request.options.nqn.clone();
    let made = target.create_subsystem(request.options).await;
    made.map(|_| true).map_err(|error| match error.kind() {
        NvmfErrorKind::Invalid => invalid(&error),
        // SPDK's words first: scripts look for them.
        _ => codes::internal_error(format!(
            "Unable to create subsystem {nqn}: {}",
            with_causes(&error)
        )),
    })
}

async fn delete(context: Arc<Context>, request: OfSubsystem) -> RpcResult<bool> {
    let subsystem = request.0.find(&context)?;
    if subsystem.kind() == SubsystemKind::Discovery {
        let words = "Invalid parameters: the discovery subsystem cannot be deleted";
        return Err(codes::invalid_params(words));
    }
    let target = request.0.target.target(&context).await?;
    let deleted = target.delete_subsystem(&request.0.nqn).await;
    deleted.map(|()| true).map_err(|error| match error.kind() {
        NvmfErrorKind::NotFound => invalid(&error),
        _ => internal(&error),
    })
}

struct Get {
    nqn: Option<String>,
    target: TargetName,
}

impl Request for Get {
    const PARAMS: Defs =
        &[&[optional("nqn", Kind::Text, "Only the subsystem with this name."), TGT_NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { nqn: params.optional("nqn")?, target: TargetName::take(params)? })
    }
}

async fn get(context: Arc<Context>, request: Get) -> RpcResult<Vec<Value>> {
    let target = request.target.started(&context)?;
    let all = match &target {
        Some(target) => {
            let mut all = vec![show(target.discovery())];
            all.extend(target.subsystems().iter().map(|subsystem| show(subsystem)));
            all
        }
        // There from the first moment on, whether anybody has asked for a target or not.
        None => vec![json!({
            "nqn": DISCOVERY_NQN,
            "subtype": "Discovery",
            "listen_addresses": [],
            "allow_any_host": true,
            "hosts": [],
        })],
    };
    let Some(nqn) = request.nqn else { return Ok(all) };
    let found: Vec<Value> = all.into_iter().filter(|one| one["nqn"] == nqn.as_str()).collect();
    if found.is_empty() {
        let nqn: String = nqn.escape_debug().take(223).collect();
        return Err(errors::errno(Errno::ENODEV, format!("subsystem '{nqn}' does not exist")));
    }
    Ok(found)
}

/// A subsystem as SPDK shows it.
fn show(subsystem: &Subsystem) -> Value {
    let listeners = subsystem.listeners();
    let addresses = listeners.iter().map(|entry| {
        let address = entry.listener.address();
        address::show(address.transport, address.address)
    });
    let hosts = subsystem.hosts();
    let hosts = hosts.iter().map(|host| json!({ "nqn": host.as_str() }));
    let discovery = subsystem.kind() == SubsystemKind::Discovery;
    let mut shown = json!({
        "nqn": subsystem.nqn().as_str(),
        "subtype": if discovery { "Discovery" } else { "NVMe" },
        "listen_addresses": addresses.collect::<Vec<_>>(),
        "allow_any_host": discovery || subsystem.allows_any_host(),
        "hosts": hosts.collect::<Vec<_>>(),
    });
    if discovery {
        return shown;
    }
    let options = subsystem.options();
    let namespaces = subsystem.namespaces();
    let namespaces = namespaces.iter().map(|ns| show_namespace(ns, options.ana_reporting));
    let more = json!({
        "serial_number": options.serial,
        "model_number": options.model,
        "max_namespaces": options.max_namespaces,
        "passthrough": false,
        "min_cntlid": options.min_cntlid,
        "max_cntlid": options.max_cntlid,
        "dmrsl": 0,
        "wzsl": 0,
        "ana_reporting": options.ana_reporting,
        "namespaces": namespaces.collect::<Vec<_>>(),
    });
    if let (Some(members), Value::Object(more)) = (shown.as_object_mut(), more) {
        members.extend(more);
    }
    shown
}

fn show_namespace(namespace: &Namespace, ana: bool) -> Value {
    let name = namespace.bdev().name();
    let mut shown = json!({
        "nsid": namespace.nsid(),
        "bdev_name": name,
        "name": name,
        "nguid": to_hex(&namespace.nguid()),
        "uuid": namespace.uuid(),
    });
    if let Some(eui64) = namespace.eui64() {
        shown["eui64"] = to_hex(&eui64).into();
    }
    if ana {
        shown["anagrpid"] = namespace.ana_group().into();
    }
    if let Some(file) = namespace.ptpl_file() {
        shown["ptpl_file"] = file.display().to_string().into();
    }
    shown
}
