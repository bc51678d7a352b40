//! `nvmf_subsystem_add_host`, `nvmf_subsystem_remove_host`, `nvmf_subsystem_allow_any_host`.

use std::sync::Arc;
use std::time::Duration;

use jsonrpc::codes;
use spdk_rs::nvmf::subsystem::Nqn;

use super::config::NO_AUTHENTICATION;
use super::{SubsystemName, internal};
use crate::rpc::errors::RpcResult;
use crate::rpc::params::{ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// The longest wait for a host to be gone, in milliseconds: a day.
const WAIT_MS_MAX: u64 = 86_400_000;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("nvmf_subsystem_add_host", add).in_config("nvmf"),
        Method::new("nvmf_subsystem_remove_host", remove),
        Method::new("nvmf_subsystem_allow_any_host", allow_any).in_config("nvmf"),
    ]
}

struct Add {
    subsystem: SubsystemName,
    host: Nqn,
}

impl Request for Add {
    const NAMES: &'static [&'static str] =
        &["nqn", "host", "tgt_name", "psk", "dhchap_key", "dhchap_ctrlr_key"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let request =
            Self { subsystem: SubsystemName::take(params)?, host: params.required("host")? };
        params.not_done("psk", "there is no TLS yet")?;
        params.not_done("dhchap_key", NO_AUTHENTICATION)?;
        params.not_done("dhchap_ctrlr_key", NO_AUTHENTICATION)?;
        Ok(request)
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
    const NAMES: &'static [&'static str] = &["nqn", "host", "tgt_name", "timeout_ms"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let wait_ms = params.optional_u64("timeout_ms", 0..=WAIT_MS_MAX)?;
        Ok(Self {
            subsystem: SubsystemName::take(params)?,
            host: params.required("host")?,
            wait: wait_ms.filter(|&ms| ms > 0).map(Duration::from_millis),
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
    const NAMES: &'static [&'static str] = &["nqn", "allow_any_host", "tgt_name"];

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
