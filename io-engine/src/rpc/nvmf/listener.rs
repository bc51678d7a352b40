//! `nvmf_subsystem_add_listener`, `nvmf_subsystem_remove_listener`,
//! `nvmf_subsystem_get_listeners`, `nvmf_subsystem_listener_set_ana_state`.

use std::sync::Arc;

use jsonrpc::codes;
use serde_json::{Value, json};
use spdk_rs::nvmf::AnaState;
use spdk_rs::nvmf::ana::{ANA_STATES, ana_state_name};
use spdk_rs::nvmf::subsystem::{NAMESPACES_MAX, Subsystem, SubsystemListener};

use super::address::{self, Address};
use super::{OfSubsystem, SUBSYSTEM, SubsystemName, invalid};
use crate::rpc::errors::RpcResult;
use crate::rpc::params::def::{choice, int, only, optional, required, words};
use crate::rpc::params::{Def, Defs, Kind, ParamError, Params, Request};
use crate::rpc::sock::{self, IMPLS, Impl};
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("nvmf_subsystem_add_listener", "Lets a subsystem listen.", add)
            .in_config("nvmf"),
        Method::new(
            "nvmf_subsystem_remove_listener",
            "Lets a subsystem listen no longer; it answers when the hosts that came through it \
             are disconnected.",
            remove,
        ),
        Method::new("nvmf_subsystem_get_listeners", "Lists where a subsystem listens.", get)
            .answers("list: `address`, and with ANA `ana_states`: `ana_group`, `ana_state`"),
        Method::new(
            "nvmf_subsystem_listener_set_ana_state",
            "Sets how well namespaces can be reached through a listener.",
            set_ana_state,
        )
        .in_config("nvmf"),
    ]
}

/// The states by their names: SPDK's, and ours, `persistent_loss` and `change`.
const STATES: [(&str, AnaState); ANA_STATES.len()] = {
    let mut states = [("", AnaState::Optimized); ANA_STATES.len()];
    let mut index = 0;
    while index < states.len() {
        states[index] = (ANA_STATES[index].1, ANA_STATES[index].0);
        index += 1;
    }
    states
};

/// Where a subsystem listens.
const ADDRESS: Def =
    required("listen_address", Kind::Object(Address::PARAMS), "Where the subsystem listens.");

struct Add {
    subsystem: SubsystemName,
    address: Address,
    ana_state: Option<AnaState>,
    sock_impl: Option<Impl>,
}

impl Request for Add {
    const PARAMS: Defs = &[
        SUBSYSTEM,
        &[
            ADDRESS,
            optional(
                "ana_state",
                choice(&words(&STATES)),
                "How well namespaces can be reached through it; `optimized` when left out.",
            ),
            only("secure_channel", "false", "there is no TLS yet"),
            only("numa_id", "-1", "connections are spread over all reactors"),
            optional(
                "sock_impl",
                choice(&words(&IMPLS)),
                "The way of networking: that of `sock_get_default_impl`; another one is refused \
                 with -95.",
            ),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            subsystem: SubsystemName::take(params)?,
            address: params.required_object("listen_address")?,
            ana_state: params.optional_choice("ana_state", &STATES)?,
            sock_impl: params.optional_choice("sock_impl", &IMPLS)?,
        })
    }
}

async fn add(context: Arc<Context>, request: Add) -> RpcResult<bool> {
    if let Some(asked) = request.sock_impl {
        sock::check(&context, asked)?;
    }
    let subsystem = request.subsystem.find(&context)?;
    let state = request.ana_state.filter(|&state| state != AnaState::Optimized);
    if state.is_some() && !subsystem.options().ana_reporting {
        return Err(no_ana(&subsystem));
    }
    let added = subsystem.add_listener(request.address.0).await;
    let address = added.map_err(|error| invalid(&error))?.address();
    tracing::info!("subsystem '{}' listens at {address}", subsystem.nqn());
    let Some(state) = state else { return Ok(true) };
    if let Err(error) = subsystem.set_ana_state(address, None, state).await {
        let removed = subsystem.remove_listener(address).await;
        removed.map_err(|error| invalid(&error))?;
        return Err(invalid(&error));
    }
    Ok(true)
}

fn no_ana(subsystem: &Subsystem) -> jsonrpsee::types::ErrorObjectOwned {
    let nqn = subsystem.nqn();
    codes::invalid_params(format!(
        "Invalid parameters: subsystem {nqn} does not report ANA states; create it with \
         `ana_reporting` true"
    ))
}

struct Remove {
    subsystem: SubsystemName,
    address: Address,
}

impl Request for Remove {
    const PARAMS: Defs = &[SUBSYSTEM, &[ADDRESS]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            subsystem: SubsystemName::take(params)?,
            address: params.required_object("listen_address")?,
        })
    }
}

async fn remove(context: Arc<Context>, request: Remove) -> RpcResult<bool> {
    let removed = request.subsystem.find(&context)?.remove_listener(request.address.0).await;
    removed.map(|()| true).map_err(|error| invalid(&error))
}

async fn get(context: Arc<Context>, request: OfSubsystem) -> RpcResult<Vec<Value>> {
    let subsystem = request.0.find(&context)?;
    let ana = subsystem.options().ana_reporting;
    Ok(subsystem.listeners().iter().map(|listener| show(listener, ana)).collect())
}

fn show(entry: &SubsystemListener, ana: bool) -> Value {
    let address = entry.listener.address();
    let mut shown = json!({ "address": address::show(address.transport, address.address) });
    if ana {
        let states = entry.ana.iter().map(
            |(group, state)| json!({ "ana_group": group, "ana_state": ana_state_name(state) }),
        );
        shown["ana_states"] = states.collect();
    }
    shown
}

struct SetAnaState {
    subsystem: SubsystemName,
    address: Address,
    state: AnaState,
    group: Option<u32>,
}

impl Request for SetAnaState {
    const PARAMS: Defs = &[
        SUBSYSTEM,
        &[
            ADDRESS,
            required("ana_state", choice(&words(&STATES)), "How well they can be reached."),
            optional(
                "anagrpid",
                int(0, NAMESPACES_MAX as i128),
                "The ANA group; 0, the default, is every group.",
            )
            .or_int(0),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let group: u32 = params.required("anagrpid")?;
        Ok(Self {
            subsystem: SubsystemName::take(params)?,
            address: params.required_object("listen_address")?,
            state: params.required_choice("ana_state", &STATES)?,
            group: Some(group).filter(|&id| id > 0),
        })
    }
}

async fn set_ana_state(context: Arc<Context>, request: SetAnaState) -> RpcResult<bool> {
    let subsystem = request.subsystem.find(&context)?;
    if !subsystem.options().ana_reporting {
        return Err(no_ana(&subsystem));
    }
    let set = subsystem.set_ana_state(request.address.0, request.group, request.state).await;
    set.map(|()| true).map_err(|error| invalid(&error))
}
