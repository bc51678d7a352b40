//! `nvmf_subsystem_add_host`, `nvmf_subsystem_remove_host`, `nvmf_subsystem_allow_any_host`.

use std::sync::Arc;
use std::time::Duration;

use jsonrpc::codes;
use spdk_rs::nvmf::subsystem::Nqn;

use super::config::NO_AUTHENTICATION;
use super::{NQN, SUBSYSTEM, SubsystemName, internal};
use crate::rpc::errors::RpcResult;
use crate::rpc::params::def::{int, not_done, optional, required};
use crate::rpc::params::{Def, Defs, Kind, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// The host that a method is for.
const HOST: Def = required("host", NQN, "The host's name.");

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("nvmf_subsystem_add_host", "Lets a host connect.", add).in_config("nvmf"),
        Method::new(
            "nvmf_subsystem_remove_host",
            "Lets a host connect no longer; it answers when the host is disconnected.",
            remove,
        ),
        Method::new("nvmf_subsystem_allow_any_host", "Lets every host connect, or not.", allow_any)
            .in_config("nvmf"),
    ]
}

struct Add {
    subsystem: SubsystemName,
    host: Nqn,
}

impl Request for Add {
    const PARAMS: Defs = &[
        SUBSYSTEM,
        &[
            HOST,
            not_done("psk", "there is no TLS yet"),
            not_done("dhchap_key", NO_AUTHENTICATION),
            not_done("dhchap_ctrlr_key", NO_AUTHENTICATION),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { subsystem: SubsystemName::take(params)?, host: params.required("host")? })
    }
}

async fn add(context: Arc<Context>, request: Add) -> RpcResult<bool> {
    let added = request.subsystem.find(&context)?.add_host(request.host).await;
    added.map(|()| true).map_err(|error| internal(&error))
}

struct Remove {
    subsystem: SubsystemName,
    host: Nqn,
    /// How long to wait for the host's controllers to be gone; none for any time.
    wait: Option<Duration>,
}

impl Request for Remove {
    const PARAMS: Defs = &[
        SUBSYSTEM,
        &[
            HOST,
            optional(
                "timeout_ms",
                int(0, 86_400_000),
                "How long to wait for it to be gone, in milliseconds; 0 is for ever.",
            )
            .or_int(0),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let wait_ms: u64 = params.required("timeout_ms")?;
        Ok(Self {
            subsystem: SubsystemName::take(params)?,
            host: params.required("host")?,
            wait: (wait_ms > 0).then(|| Duration::from_millis(wait_ms)),
        })
    }
}

async fn remove(context: Arc<Context>, request: Remove) -> RpcResult<bool> {
    let subsystem = request.subsystem.find(&context)?;
    let removed = subsystem.remove_host(&request.host);
    let removed = match request.wait {
        None => removed.await,
        Some(wait) => match tokio::time::timeout(wait, removed).await {
            Ok(removed) => removed,
            Err(_) => return Err(codes::internal_error("Timeout reached during host removal")),
        },
    };
    removed.map(|()| true).map_err(|error| internal(&error))
}

struct AllowAny {
    subsystem: SubsystemName,
    allow: bool,
}

impl Request for AllowAny {
    const PARAMS: Defs =
        &[SUBSYSTEM, &[required("allow_any_host", Kind::Bool, "Whether every host may connect.")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            subsystem: SubsystemName::take(params)?,
            allow: params.required("allow_any_host")?,
        })
    }
}

async fn allow_any(context: Arc<Context>, request: AllowAny) -> RpcResult<bool> {
    request.subsystem.find(&context)?.set_allow_any_host(request.allow).await;
    Ok(true)
}
