//! `nvmf_set_max_subsystems`, `nvmf_set_config`, `nvmf_set_crdt`, `nvmf_get_targets`.

use std::sync::Arc;

use jsonrpsee::types::ErrorObjectOwned;
use serde_json::json;

use super::TARGET;
use crate::rpc::errors::RpcResult;
use crate::rpc::params::{Nothing, ParamError, Params, Request};
use crate::rpc::{Context, INVALID_STATE, Method};

/// Why authentication has no parameters.
pub(super) const NO_AUTHENTICATION: &str = "there is no in-band authentication yet";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("nvmf_set_max_subsystems", set_max_subsystems).in_config("nvmf"),
        Method::new("nvmf_set_config", set_config).in_config("nvmf"),
        Method::new("nvmf_set_crdt", set_crdt).in_config("nvmf"),
        Method::new("nvmf_get_targets", get_targets),
    ]
}

struct MaxSubsystems(u32);

impl Request for MaxSubsystems {
    const NAMES: &'static [&'static str] = &["max_subsystems"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let count = params.required_u64("max_subsystems", 1..=u32::MAX.into())?;
        Ok(Self(u32::try_from(count).unwrap_or(u32::MAX)))
    }
}

async fn set_max_subsystems(context: Arc<Context>, request: MaxSubsystems) -> RpcResult<bool> {
    context.engine()?;
    let set = context.nvmf().configure(|options| options.subsystems_max = request.0).await;
    set.map(|()| true).map_err(|started| {
        let words = format!("nvmf_set_max_subsystems: {started}");
        ErrorObjectOwned::owned(INVALID_STATE, words, None::<()>)
    })
}

/// The parameters of SPDK's method; the target has none of them, so that only values that ask for
/// nothing are taken.
struct SetConfig;

impl Request for SetConfig {
    const NAMES: &'static [&'static str] = &[
        "admin_cmd_passthru",
        "poll_groups_mask",
        "discovery_filter",
        "dhchap_digests",
        "dhchap_dhgroups",
        "mdns_prr_discovery",
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let _: Option<Passthru> = params.optional_object("admin_cmd_passthru")?;
        params.not_done("poll_groups_mask", "connections are spread over all reactors")?;
        let all = "a host is shown every subsystem that it may connect to";
        params.only("discovery_filter", &json!("match_any"), all)?;
        params.not_done("dhchap_digests", NO_AUTHENTICATION)?;
        params.not_done("dhchap_dhgroups", NO_AUTHENTICATION)?;
        params.not_done("mdns_prr_discovery", "there is no mDNS service")?;
        Ok(Self)
    }
}

/// Admin commands that go to the device itself: none do.
struct Passthru;

impl Request for Passthru {
    const NAMES: &'static [&'static str] = &[
        "identify_ctrlr",
        "identify_uuid_list",
        "get_log_page",
        "get_set_features",
        "sanitize",
        "security_send_recv",
        "fw_update",
        "nvme_mi",
        "vendor_specific",
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        for name in Self::NAMES {
            params.only(name, &json!(false), "the target answers admin commands itself")?;
        }
        Ok(Self)
    }
}

async fn set_config(context: Arc<Context>, _: SetConfig) -> RpcResult<bool> {
    context.engine().map(|_| true)
}

/// Command retry delays: the target asks for none.
struct SetCrdt;

impl Request for SetCrdt {
    const NAMES: &'static [&'static str] = &["crdt1", "crdt2", "crdt3"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        for name in Self::NAMES {
            params.only(name, &json!(0), "no command is asked to be retried later")?;
        }
        Ok(Self)
    }
}

async fn set_crdt(context: Arc<Context>, _: SetCrdt) -> RpcResult<bool> {
    context.engine().map(|_| true)
}

async fn get_targets(_: Arc<Context>, _: Nothing) -> RpcResult<Vec<&'static str>> {
    Ok(vec![TARGET])
}
