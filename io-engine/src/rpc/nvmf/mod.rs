//! `nvmf_*`: the NVMe-oF target, in SPDK's words.
//!
//! Codes are SPDK's: what a caller names wrongly is -32602 with words that begin with "Invalid
//! parameters", what fails for another reason is -32603, and a look-up of one thing is -19.

mod address;
mod config;
mod discovery;
mod host;
mod listener;
mod namespace;
mod query;
mod stats;
mod subsystem;
mod transport;

use std::sync::Arc;

use jsonrpc::codes;
use jsonrpsee::types::ErrorObjectOwned;
use serde_json::Value;
use spdk_rs::nvmf::subsystem::{Nqn, Subsystem};
use spdk_rs::nvmf::target::{NvmfError, NvmfErrorKind, Target};

pub(in crate::rpc) use self::address::show as show_address;
pub(in crate::rpc) use self::namespace::to_hex;
use super::errors::{RpcResult, with_causes};
use super::params::def::{form, optional, required};
use super::params::{Def, Defs, Kind, Param, ParamError, Params, Request};
use super::{Context, Method};

/// The name of the one target, SPDK's default.
const TARGET: &str = "nvmf_tgt";

pub(in crate::rpc) fn methods() -> Vec<Method> {
    let mut all = config::methods();
    all.extend(discovery::methods());
    all.extend(host::methods());
    all.extend(listener::methods());
    all.extend(namespace::methods());
    all.extend(query::methods());
    all.extend(stats::methods());
    all.extend(subsystem::methods());
    all.extend(transport::methods());
    all
}

/// The form of an [`Nqn`].
const NQN: Kind = form(
    "an NVMe qualified name like \"nqn.2016-06.io.spdk:cnode1\", at most 223 bytes",
    "nqn.2016-06.io.spdk:cnode1",
);

/// The one target's name.
const TGT_NAME: Def =
    optional("tgt_name", Kind::Text, "The target; there is `nvmf_tgt` only.").or_text(TARGET);

/// The parameters that name a subsystem.
const SUBSYSTEM: &[Def] = &[required("nqn", Kind::Text, "Name of the subsystem."), TGT_NAME];

impl Param for Nqn {
    fn of(value: &Value) -> Option<Self> {
        Self::new(value.as_str()?).ok()
    }
}

/// `tgt_name`: the target that a method is for, if it names one.
struct TargetName(String);

impl TargetName {
    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("tgt_name").map(Self)
    }

    /// Refuses any name but that of the one target.
    fn check(&self) -> RpcResult<()> {
        if self.0 == TARGET {
            return Ok(());
        }
        let name: String = self.0.escape_debug().take(100).collect();
        let words = format!("Unable to find target {name}; there is {TARGET} only");
        Err(codes::internal_error(words))
    }

    /// The target, started if it is not.
    async fn target(&self, context: &Context) -> RpcResult<Arc<Target>> {
        self.check()?;
        context.nvmf().target(context.engine()?).await.map_err(|error| internal(&error))
    }

    /// The target, if it is started: a method that only looks does not start it.
    fn started(&self, context: &Context) -> RpcResult<Option<Arc<Target>>> {
        self.check()?;
        context.engine()?;
        Ok(context.nvmf().started())
    }
}

/// A subsystem of a target.
struct SubsystemName {
    nqn: String,
    target: TargetName,
}

impl SubsystemName {
    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { nqn: params.required("nqn")?, target: TargetName::take(params)? })
    }

    fn find(&self, context: &Context) -> RpcResult<Arc<Subsystem>> {
        let target = self.target.started(context)?;
        let found = target.map(|target| target.subsystem(&self.nqn));
        found.unwrap_or_else(|| Err(self.missing())).map_err(|error| invalid(&error))
    }

    fn missing(&self) -> NvmfError {
        NvmfError::NotFound { what: "subsystem", name: self.nqn.clone() }
    }
}

/// A request that names a subsystem and nothing else.
struct OfSubsystem(SubsystemName);

impl Request for OfSubsystem {
    const PARAMS: Defs = &[SUBSYSTEM];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        SubsystemName::take(params).map(Self)
    }
}

/// The error of a caller who named something wrongly.
fn invalid(error: &NvmfError) -> ErrorObjectOwned {
    codes::invalid_params(format!("Invalid parameters: {}", with_causes(error)))
}

/// The error of an operation that did not succeed.
fn internal(error: &NvmfError) -> ErrorObjectOwned {
    match error.kind() {
        NvmfErrorKind::Invalid => invalid(error),
        _ => codes::internal_error(with_causes(error)),
    }
}
