//! `nvmf_discovery_add_referral`, `nvmf_discovery_remove_referral`, `nvmf_discovery_get_referrals`.

use std::sync::Arc;

use serde_json::{Value, json};
use spdk_rs::nvmf::subsystem::Nqn;
use spdk_rs::nvmf::target::Referral;

use super::address::{self, Address};
use super::{NQN, TGT_NAME, TargetName, internal};
use crate::rpc::errors::RpcResult;
use crate::rpc::params::def::{optional, required};
use crate::rpc::params::{Def, Defs, Kind, ParamError, Params, Request};
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "nvmf_discovery_add_referral",
            "Tells hosts of another discovery service.",
            add,
        )
        .in_config("nvmf"),
        Method::new(
            "nvmf_discovery_remove_referral",
            "Tells hosts no longer of another discovery service.",
            remove,
        ),
        Method::new(
            "nvmf_discovery_get_referrals",
            "Lists the discovery services that hosts are told of.",
            get,
        )
        .answers("list: `address`, `secure_channel`, `subnqn`"),
    ]
}

/// Where another discovery service is.
const PLACE: &[Def] = &[
    required("address", Kind::Object(Address::PARAMS), "Where it listens."),
    optional("subnqn", NQN, "Its name; that of every discovery service when left out."),
];

/// Takes the place of another discovery service; a port is needed to reach it.
fn take_place(params: &Params<'_>) -> Result<(Address, Nqn), ParamError> {
    let address: Address = params.required_object("address")?;
    if address.0.address.port() == 0 {
        return Err(params.refuse("address", "trsvcid has to be \"1\" to \"65535\""));
    }
    Ok((address, params.optional("subnqn")?.unwrap_or_else(Nqn::discovery)))
}

struct Add {
    target: TargetName,
    referral: Referral,
}

impl Request for Add {
    const PARAMS: Defs = &[
        PLACE,
        &[
            optional("secure_channel", Kind::Bool, "Whether it is told to want TLS.")
                .or_bool(false),
            TGT_NAME,
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let (Address(address), nqn) = take_place(params)?;
        let secure_channel = params.required("secure_channel")?;
        let referral = Referral { address, nqn, secure_channel };
        Ok(Self { target: TargetName::take(params)?, referral })
    }
}

async fn add(context: Arc<Context>, request: Add) -> RpcResult<bool> {
    let target = request.target.target(&context).await?;
    let added = target.add_referral(request.referral).await;
    added.map(|()| true).map_err(|error| internal(&error))
}

struct Remove {
    target: TargetName,
    address: Address,
    nqn: Nqn,
}

impl Request for Remove {
    const PARAMS: Defs = &[PLACE, &[TGT_NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let (address, nqn) = take_place(params)?;
        Ok(Self { target: TargetName::take(params)?, address, nqn })
    }
}

async fn remove(context: Arc<Context>, request: Remove) -> RpcResult<bool> {
    let target = request.target.target(&context).await?;
    let removed = target.remove_referral(request.address.0, &request.nqn).await;
    removed.map(|()| true).map_err(|error| internal(&error))
}

struct Get(TargetName);

impl Request for Get {
    const PARAMS: Defs = &[&[TGT_NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        TargetName::take(params).map(Self)
    }
}

async fn get(context: Arc<Context>, request: Get) -> RpcResult<Vec<Value>> {
    let target = request.0.started(&context)?;
    let all = target.map(|target| target.referrals()).unwrap_or_default();
    let show = |referral: &Referral| {
        json!({
            "address": address::show(referral.address.transport, referral.address.address),
            "secure_channel": referral.secure_channel,
            "subnqn": referral.nqn.as_str(),
        })
    };
    Ok(all.iter().map(show).collect())
}
