//! `bdev_nvme_start_discovery`, `bdev_nvme_stop_discovery`, `bdev_nvme_get_discovery_info`.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use serde_json::{Value, json};
use spdk_rs::drivers::nvme::{AttachOptions, MultipathMode};
use spdk_rs::nvme::controller::Discovered;
use spdk_rs::nvme::{DISCOVERY_NQN, TransportId};

use super::attach::{HOSTNQN, take_hostnqn};
use super::options::{RECONNECT, Reconnect};
use super::trid;
use crate::core::HostIdentity;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{int, optional, required};
use crate::rpc::params::{Defs, Kind, Name, Nothing, ParamError, Params, Request};
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_nvme_start_discovery",
            "Follows a discovery service, and attaches what it tells of.",
            start,
        )
        .in_config("bdev"),
        Method::new(
            "bdev_nvme_stop_discovery",
            "Stops following a discovery service; what it attached is detached.",
            stop,
        ),
        Method::new(
            "bdev_nvme_get_discovery_info",
            "Lists the discovery services that are followed.",
            get_info,
        )
        .answers("list: `name`, `trid`, `referrals`; ours: `subsystems`, `trouble`"),
    ]
}

struct Start {
    name: Name,
    trid: TransportId,
    hostnqn: Option<String>,
    wait: bool,
    timeout: Option<Duration>,
    reconnect: Reconnect,
}

impl Request for Start {
    const PARAMS: Defs = &[
        &[required("name", Kind::Name, "Name of the service, which devices begin with.")],
        trid::PLACE,
        trid::SOURCE,
        &[
            HOSTNQN,
            optional(
                "wait_for_attach",
                Kind::Bool,
                "Answer when what was discovered is attached; else a failure is only logged. It \
                 is true when `attach_timeout_ms` is given.",
            ),
            optional(
                "attach_timeout_ms",
                int(0, 86_400_000),
                "How long to wait before giving up, in milliseconds; 0 is for ever.",
            )
            .or_int(0),
        ],
        RECONNECT,
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let timeout_ms: u64 = params.required("attach_timeout_ms")?;
        let timeout = (timeout_ms > 0).then(|| Duration::from_millis(timeout_ms));
        let wait: Option<bool> = params.optional("wait_for_attach")?;
        if timeout.is_some() && wait == Some(false) {
            return Err(params.refuse("attach_timeout_ms", "it needs wait_for_attach to be true"));
        }
        Ok(Self {
            name: params.required("name")?,
            trid: trid::take(params, Some(DISCOVERY_NQN))?,
            hostnqn: take_hostnqn(params)?,
            wait: wait.unwrap_or(timeout.is_some()),
            timeout,
            reconnect: Reconnect::take(params)?,
        })
    }
}

async fn start(context: Arc<Context>, request: Start) -> RpcResult<bool> {
    let engine = context.engine()?;
    let Start { name: Name(name), trid, hostnqn, wait, timeout, reconnect } = request;
    let named = hostnqn.as_deref().map(HostIdentity::named);
    let mut controller = context.nvme_defaults.options(named.as_ref().unwrap_or(engine.host()));
    reconnect.apply(&mut controller);
    let (multipath, policy) = (MultipathMode::Multipath, context.nvme_defaults.policy());
    let options = AttachOptions { controller, multipath, policy };
    if engine.nvme().discoveries().iter().any(|one| one.name == name) {
        let words = format!("the discovery service '{name}' is followed already");
        return Err(errors::errno(Errno::EALREADY, words));
    }
    options.controller.check().map_err(|error| errors::errno(Errno::EINVAL, error.to_string()))?;
    let nvme = Arc::clone(engine.nvme());
    if !wait {
        // Who does not wait learns of a failure from the log, and from the information.
        tokio::spawn(async move {
            if let Err(error) = nvme.start_discovery(&name, &trid, &options).await {
                tracing::error!("discovery '{name}': {}", errors::with_causes(&error));
            }
        });
        return Ok(true);
    }
    let begun = nvme.start_discovery(&name, &trid, &options);
    let begun = match timeout {
        None => begun.await,
        Some(timeout) => match tokio::time::timeout(timeout, begun).await {
            Ok(begun) => begun,
            Err(_) => {
                // It may not have come so far that there is something to stop.
                let _ = nvme.stop_discovery(&name).await;
                let ms = timeout.as_millis();
                let words = format!("discovery '{name}': nothing was attached in {ms} ms");
                return Err(errors::errno(Errno::ETIMEDOUT, words));
            }
        },
    };
    begun.map(|()| true).map_err(|error| errors::failed(&error))
}

struct Stop(Name);

impl Request for Stop {
    const PARAMS: Defs = &[&[required("name", Kind::Name, "Name of the service.")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}

async fn stop(context: Arc<Context>, request: Stop) -> RpcResult<bool> {
    let stopped = context.engine()?.nvme().stop_discovery(&request.0.0).await;
    stopped.map(|()| true).map_err(|error| errors::failed(&error))
}

async fn get_info(context: Arc<Context>, _: Nothing) -> RpcResult<Vec<Value>> {
    let all = context.engine()?.nvme().discoveries();
    let shown = all.iter().map(|one| {
        let (referrals, found): (Vec<_>, Vec<_>) =
            one.entries.iter().partition(|entry| entry.is_discovery);
        let show = |entries: Vec<&Discovered>| -> Vec<Value> {
            entries.iter().map(|entry| json!({ "trid": trid::show(&entry.trid) })).collect()
        };
        let mut shown = json!({
            "name": one.name,
            "trid": trid::show(&one.trid),
            "referrals": show(referrals),
            "subsystems": show(found),
        });
        if let Some(trouble) = &one.trouble {
            shown["trouble"] = trouble.as_str().into();
        }
        shown
    });
    Ok(shown.collect())
}
