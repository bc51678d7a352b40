//! `bdev_nvme_start_discovery`, `bdev_nvme_stop_discovery`, `bdev_nvme_get_discovery_info`.

use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use serde_json::{Value, json};
use spdk_rs::drivers::nvme::{AttachOptions, MultipathMode, MultipathPolicy};
use spdk_rs::nvme::controller::Discovered;
use spdk_rs::nvme::{DISCOVERY_NQN, TransportId};

use super::attach::take_hostnqn;
use super::options::Reconnect;
use super::trid;
use crate::core::HostIdentity;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::{Name, Nothing, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// The longest wait for what is discovered, in milliseconds: a day.
const WAIT_MS_MAX: u64 = 86_400_000;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_nvme_start_discovery", start).in_config("bdev"),
        Method::new("bdev_nvme_stop_discovery", stop),
        Method::new("bdev_nvme_get_discovery_info", get_info),
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
    const NAMES: &'static [&'static str] = &[
        "name",
        trid::NAMES[0],
        trid::NAMES[1],
        trid::NAMES[2],
        trid::NAMES[3],
        trid::NAMES[5],
        trid::NAMES[6],
        "hostnqn",
        "wait_for_attach",
        "attach_timeout_ms",
        "ctrlr_loss_timeout_sec",
        "reconnect_delay_sec",
        "fast_io_fail_timeout_sec",
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let timeout_ms = params.optional_u64("attach_timeout_ms", 0..=WAIT_MS_MAX)?;
        let timeout = timeout_ms.filter(|&ms| ms > 0).map(Duration::from_millis);
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
    let (multipath, policy) = (MultipathMode::Multipath, MultipathPolicy::default());
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
    const NAMES: &'static [&'static str] = &["name"];

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
