//! `bdev_nvme_detach_controller`, `bdev_nvme_reset_controller`.

use std::sync::Arc;

use spdk_rs::drivers::nvme::{NvmeError, PathInfo};

use super::trid;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{int, optional, required};
use crate::rpc::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_nvme_detach_controller", "Detaches a controller or some paths.", detach),
        Method::new(
            "bdev_nvme_reset_controller",
            "Resets a controller; it answers when it is connected again.",
            reset,
        ),
    ]
}

/// The controller that a method is for.
const CONTROLLER: Def = required("name", Kind::Name, "Name of the controller.");

/// A controller, and which of its paths go: those that all of these fit.
struct Detach {
    name: Name,
    wanted: Vec<(&'static str, String)>,
}

impl Request for Detach {
    const PARAMS: Defs = &[&[CONTROLLER], trid::CHOSEN];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let mut wanted = Vec::new();
        for &Def { name, .. } in trid::CHOSEN {
            if let Some(text) = params.optional::<String>(name)? {
                wanted.push((name, text));
            }
        }
        Ok(Self { name: params.required("name")?, wanted })
    }
}

impl Detach {
    fn fits(&self, path: &PathInfo) -> bool {
        let (trid, source) = (&path.trid, path.trid.source);
        self.wanted.iter().all(|(name, text)| match *name {
            "trtype" => text.eq_ignore_ascii_case(trid.trtype.name()),
            "adrfam" => text.eq_ignore_ascii_case(trid.adrfam().name()),
            // Written in another way, it is the same address.
            "traddr" => match trid.pci_address() {
                Some(address) => text.parse() == Ok(address),
                None => text.parse() == Ok(trid.address.ip()),
            },
            "trsvcid" => *text == trid.trsvcid(),
            "subnqn" => *text == trid.subnqn,
            "hostaddr" => source.is_some_and(|source| text.parse() == Ok(source.ip())),
            _ => source.is_some_and(|source| *text == source.port().to_string()),
        })
    }

    fn words(&self) -> String {
        let each = self.wanted.iter().map(|(name, text)| format!("{name} {text}"));
        each.collect::<Vec<_>>().join(", ")
    }
}

async fn detach(context: Arc<Context>, request: Detach) -> RpcResult<bool> {
    let (nvme, name) = (context.engine()?.nvme(), &request.name.0);
    if request.wanted.is_empty() {
        nvme.detach(name, None).await.map_err(|error| errors::failed(&error))?;
        return Ok(true);
    }
    let found = nvme.controllers(Some(name)).into_iter().next();
    let found = found.ok_or_else(|| errors::failed(&NvmeError::NotFound { name: name.clone() }))?;
    let fitting: Vec<_> = found.paths.into_iter().filter(|path| request.fits(path)).collect();
    if fitting.is_empty() {
        let (name, path) = (name.clone(), request.words());
        return Err(errors::failed(&NvmeError::NoPath { name, path }));
    }
    for path in fitting {
        let detached = nvme.detach(name, Some(&path.trid)).await;
        detached.map_err(|error| errors::failed(&error))?;
    }
    Ok(true)
}

struct Reset {
    name: Name,
    cntlid: Option<u16>,
}

impl Request for Reset {
    const PARAMS: Defs = &[&[
        CONTROLLER,
        optional("cntlid", int(0, u16::MAX as i128), "Only the path with this controller id."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, cntlid: params.optional("cntlid")? })
    }
}

async fn reset(context: Arc<Context>, request: Reset) -> RpcResult<bool> {
    let done = context.engine()?.nvme().reset(&request.name.0, request.cntlid).await;
    done.map(|()| true).map_err(|error| errors::failed(&error))
}
