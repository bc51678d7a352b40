//! `bdev_nvme_enable_controller`, `bdev_nvme_disable_controller`.

use std::sync::Arc;

use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{int, optional, required};
use crate::rpc::params::{Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_nvme_disable_controller",
            "Ends the connections of a controller, which stays disconnected until it is enabled; \
             I/O without another path fails. It is not saved: what is attached is enabled.",
            disable,
        ),
        Method::new(
            "bdev_nvme_enable_controller",
            "Connects a controller that was disabled; it answers when that is done.",
            enable,
        ),
    ]
}

/// A controller, or one of its paths.
struct Chosen {
    name: Name,
    cntlid: Option<u16>,
}

impl Request for Chosen {
    const PARAMS: Defs = &[&[
        required("name", Kind::Name, "Name of the controller."),
        optional("cntlid", int(0, u16::MAX as i128), "Only the path with this controller id."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, cntlid: params.optional("cntlid")? })
    }
}

async fn disable(context: Arc<Context>, request: Chosen) -> RpcResult<bool> {
    let Chosen { name: Name(name), cntlid } = request;
    let disabled = context.engine()?.nvme().disable(&name, cntlid).await;
    disabled.map(|()| true).map_err(|error| errors::failed(&error))
}

async fn enable(context: Arc<Context>, request: Chosen) -> RpcResult<bool> {
    let Chosen { name: Name(name), cntlid } = request;
    let enabled = context.engine()?.nvme().enable(&name, cntlid).await;
    enabled.map(|()| true).map_err(|error| errors::failed(&error))
}
