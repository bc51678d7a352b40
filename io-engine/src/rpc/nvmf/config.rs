//! `nvmf_set_max_subsystems`, `nvmf_set_config`, `nvmf_set_crdt`, `nvmf_get_targets`.

use std::sync::Arc;

use jsonrpsee::types::ErrorObjectOwned;

use super::TARGET;
use crate::rpc::errors::RpcResult;
use crate::rpc::params::def::{int, not_done, only, optional, required};
use crate::rpc::params::{Defs, Kind, Nothing, ParamError, Params, Request};
use crate::rpc::{Context, INVALID_STATE, Method, When};

/// Why authentication has no parameters.
pub(super) const NO_AUTHENTICATION: &str = "there is no in-band authentication yet";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "nvmf_set_max_subsystems",
            "Sets how many subsystems there can be; error -1 once there is a transport or a \
             subsystem.",
            set_max_subsystems,
        )
        .at(When::Always)
        .in_config("nvmf"),
        Method::new(
            "nvmf_set_config",
            "Takes SPDK's settings of the target with the values that ask for nothing.",
            set_config,
        )
        .at(When::Always)
        .in_config("nvmf"),
        Method::new("nvmf_set_crdt", "Takes SPDK's retry delays with 0 only.", set_crdt)
            .at(When::Always)
            .in_config("nvmf"),
        Method::new("nvmf_get_targets", "Lists the targets.", get_targets)
            .answers("`[\"nvmf_tgt\"]`"),
    ]
}

struct MaxSubsystems(u32);

impl Request for MaxSubsystems {
    const PARAMS: Defs = &[&[required(
        "max_subsystems",
        int(1, u32::MAX as i128),
        "Subsystems at the most, the discovery subsystem not counted.",
    )]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("max_subsystems").map(Self)
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
    const PARAMS: Defs = &[&[
        optional(
            "admin_cmd_passthru",
            Kind::Object(PASSTHRU),
            "Admin commands that go to the device itself: none do.",
        ),
        only(
            "discovery_filter",
            "\"match_any\"",
            "a host is shown every subsystem that it may connect to",
        ),
        only(
            "discovery_filters",
            "[\"match_any\"]",
            "a host is shown every subsystem that it may connect to",
        ),
        only("dup_host_policy", "\"allow\"", "a host may connect as often as it likes"),
        not_done("poll_groups_mask", "connections are spread over all reactors"),
        not_done("dhchap_digests", NO_AUTHENTICATION),
        not_done("dhchap_dhgroups", NO_AUTHENTICATION),
        not_done("mdns_prr_discovery", "there is no mDNS service"),
    ]];

    fn take(_: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

/// Why no admin command goes to a device.
const ITSELF: &str = "the target answers admin commands itself";

/// Admin commands that go to the device itself: none do.
const PASSTHRU: Defs = &[&[
    only("identify_ctrlr", "false", ITSELF),
    only("identify_uuid_list", "false", ITSELF),
    only("get_log_page", "false", ITSELF),
    only("get_set_features", "false", ITSELF),
    only("sanitize", "false", ITSELF),
    only("security_send_recv", "false", ITSELF),
    only("fw_update", "false", ITSELF),
    only("nvme_mi", "false", ITSELF),
    only("vendor_specific", "false", ITSELF),
]];

async fn set_config(context: Arc<Context>, _: SetConfig) -> RpcResult<bool> {
    context.engine().map(|_| true)
}

/// Why there are no delays.
const NO_DELAY: &str = "no command is asked to be retried later";

/// Command retry delays: the target asks for none.
struct SetCrdt;

impl Request for SetCrdt {
    const PARAMS: Defs = &[&[
        only("crdt1", "0", NO_DELAY),
        only("crdt2", "0", NO_DELAY),
        only("crdt3", "0", NO_DELAY),
    ]];

    fn take(_: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self)
    }
}

async fn set_crdt(context: Arc<Context>, _: SetCrdt) -> RpcResult<bool> {
    context.engine().map(|_| true)
}

async fn get_targets(_: Arc<Context>, _: Nothing) -> RpcResult<Vec<&'static str>> {
    Ok(vec![TARGET])
}
