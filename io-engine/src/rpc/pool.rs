//! `pool_*`: pools, beyond what SPDK's methods say of them.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::errors::{self, RpcResult};
use super::params::{Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev::pool::{self, CACHE_MB_MAX, JOURNAL_MB_MAX, import_request, pool_options};
use crate::pool::{CheckReport, DigestKind, ImportOptions, Imported, PoolStats, ScrubStatus};

/// The highest rate of a scrub in bytes per second.
const RATE_MAX: u64 = 1 << 40;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("pool_create", create),
        Method::new("pool_import", import).in_config("bdev"),
        Method::new("pool_export", export),
        Method::new("pool_destroy", destroy),
        Method::new("pool_get", get),
        Method::new("pool_grow", grow),
        Method::new("pool_scrub", scrub),
        Method::new("pool_check", check),
        Method::new("pool_get_stats", get_stats),
    ]
}

/// The pool of a name or UUID.
pub(super) fn find(context: &Context, name: &str) -> RpcResult<Arc<Imported>> {
    context.engine()?.pools().find(name).map_err(|error| errors::failed(&error))
}

struct Create {
    name: Name,
    disk: String,
    uuid: Option<Uuid>,
    digest: Option<DigestKind>,
    journal_mb: Option<u64>,
    cache_mb: Option<u64>,
}

impl Request for Create {
    const NAMES: &'static [&'static str] =
        &["name", "disk", "uuid", "digest", "journal_mb", "cache_mb"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let kinds = DigestKind::ALL.map(|kind| (kind.name(), kind));
        Ok(Self {
            name: params.required("name")?,
            disk: params.required("disk")?,
            uuid: params.optional("uuid")?,
            digest: params.optional_choice("digest", &kinds, false)?,
            journal_mb: params.optional_u64("journal_mb", 1..=JOURNAL_MB_MAX)?,
            cache_mb: params.optional_u64("cache_mb", 1..=CACHE_MB_MAX)?,
        })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<Value> {
    let Create { name, disk, uuid, digest, journal_mb, cache_mb } = request;
    let options = pool_options(&name.0, uuid, digest, journal_mb, cache_mb);
    let made = pool::create(context.engine()?, &disk, options).await;
    let pool = made.map_err(|error| errors::bdev(&error))?;
    describe(&pool).await
}

struct Import {
    disk: String,
    name: Option<Name>,
    cache_mb: Option<u64>,
    read_only: bool,
}

impl Request for Import {
    const NAMES: &'static [&'static str] = &["disk", "name", "cache_mb", "readonly"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            disk: params.required("disk")?,
            name: params.optional("name")?,
            cache_mb: params.optional_u64("cache_mb", 1..=CACHE_MB_MAX)?,
            read_only: params.optional("readonly")?.unwrap_or(false),
        })
    }
}

async fn import(context: Arc<Context>, request: Import) -> RpcResult<Value> {
    let name = request.name.as_ref().map(|name| name.0.as_str());
    let how = import_request(name, request.cache_mb, request.read_only);
    let made = pool::import(context.engine()?, &request.disk, how).await;
    let pool = made.map_err(|error| errors::bdev(&error))?;
    describe(&pool).await
}

struct Export {
    name: Name,
    force: bool,
}

impl Request for Export {
    const NAMES: &'static [&'static str] = &["name", "force"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let force = params.optional("force")?.unwrap_or(false);
        Ok(Self { name: params.required("name")?, force })
    }
}

async fn export(context: Arc<Context>, request: Export) -> RpcResult<Value> {
    let exported = pool::export(context.engine()?, &request.name.0, request.force).await;
    let exported = exported.map_err(|error| errors::bdev(&error))?;
    Ok(json!({ "stopped": exported.stopped }))
}

/// The parameters of a method that names a pool.
struct Named(Name);

impl Request for Named {
    const NAMES: &'static [&'static str] = &["name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self(params.required("name")?))
    }
}

async fn destroy(context: Arc<Context>, request: Named) -> RpcResult<bool> {
    let destroyed = pool::destroy(context.engine()?, &request.0.0).await;
    destroyed.map(|()| true).map_err(|error| errors::bdev(&error))
}

struct Get(Option<Name>);

impl Request for Get {
    const NAMES: &'static [&'static str] = &["name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self(params.optional("name")?))
    }
}

async fn get(context: Arc<Context>, request: Get) -> RpcResult<Vec<Value>> {
    let pools = match request.0 {
        Some(name) => vec![find(&context, &name.0)?],
        None => context.engine()?.pools().all(),
    };
    let mut shown = Vec::with_capacity(pools.len());
    for pool in pools {
        shown.push(describe(&pool).await?);
    }
    Ok(shown)
}

/// A pool as `pool_get` shows it, with the call of a configuration file that imports it again.
async fn describe(pool: &Imported) -> RpcResult<Value> {
    let summary = pool.summary().await.map_err(|error| errors::failed(&error))?;
    let mut shown = serde_json::to_value(&summary)
        .map_err(|error| jsonrpc::codes::internal_error(error.to_string()))?;
    if let Some(members) = shown.as_object_mut() {
        let mut params = json!({ "name": summary.name, "disk": summary.disk });
        if pool.is_read_only() {
            params["readonly"] = true.into();
        }
        if pool.cache_bytes() != ImportOptions::default().cache_bytes {
            params["cache_mb"] = (pool.cache_bytes() >> 20).into();
        }
        let import = json!({ "method": "pool_import", "params": params });
        members.insert("import".to_owned(), import);
    }
    Ok(shown)
}

async fn grow(context: Arc<Context>, request: Named) -> RpcResult<Value> {
    let pool = find(&context, &request.0.0)?;
    let grown = pool.call(async |pool| pool.grow().await).await;
    let bytes = grown.map_err(|error| errors::failed(&error))?;
    Ok(json!({ "grown_bytes": bytes }))
}

#[derive(Clone, Copy)]
enum Action {
    Start,
    Stop,
    Status,
}

struct Scrub {
    name: Name,
    action: Action,
    bytes_per_sec: u64,
}

impl Request for Scrub {
    const NAMES: &'static [&'static str] = &["name", "action", "bytes_per_sec"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let actions =
            [("start", Action::Start), ("stop", Action::Stop), ("status", Action::Status)];
        let action = params.optional_choice("action", &actions, false)?.unwrap_or(Action::Start);
        let rate = params.optional_u64("bytes_per_sec", 0..=RATE_MAX)?;
        if rate.is_some() && !matches!(action, Action::Start) {
            return Err(params.refuse("bytes_per_sec", "it belongs to the action start"));
        }
        let bytes_per_sec = rate.unwrap_or(0);
        Ok(Self { name: params.required("name")?, action, bytes_per_sec })
    }
}

async fn scrub(context: Arc<Context>, request: Scrub) -> RpcResult<ScrubStatus> {
    let pool = find(&context, &request.name.0)?;
    let (action, rate) = (request.action, request.bytes_per_sec);
    let status = pool.call(async move |pool| {
        match action {
            Action::Start => pool.start_scrub(rate)?,
            Action::Stop => pool.stop_scrub(),
            Action::Status => {}
        }
        Ok(pool.scrub_status())
    });
    status.await.map_err(|error| errors::failed(&error))
}

struct Check {
    name: Name,
    data: bool,
}

impl Request for Check {
    const NAMES: &'static [&'static str] = &["name", "data"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let data = params.optional("data")?.unwrap_or(true);
        Ok(Self { name: params.required("name")?, data })
    }
}

async fn check(context: Arc<Context>, request: Check) -> RpcResult<Value> {
    let pool = find(&context, &request.name.0)?;
    let data = request.data;
    let report = pool.call(async move |pool| pool.check_with(data).await).await;
    let report: CheckReport = report.map_err(|error| errors::failed(&error))?;
    let clean = report.is_clean();
    let mut shown = serde_json::to_value(report)
        .map_err(|error| jsonrpc::codes::internal_error(error.to_string()))?;
    if let Some(members) = shown.as_object_mut() {
        members.insert("clean".to_owned(), clean.into());
    }
    Ok(shown)
}

async fn get_stats(context: Arc<Context>, request: Named) -> RpcResult<PoolStats> {
    let pool = find(&context, &request.0.0)?;
    let stats = pool.call(async |pool| Ok(pool.stats())).await;
    stats.map_err(|error| errors::failed(&error))
}
