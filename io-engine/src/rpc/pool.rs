//! `pool_*`: pools, beyond what SPDK's methods say of them.

use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::errors::{self, RpcResult};
use super::method::Answer;
use super::params::def::{choice, int, optional, required, words};
use super::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use super::saved::Call;
use super::{Context, Method};
use crate::bdev::pool::{self, CACHE_MB_MAX, JOURNAL_MB_MAX, import_request, pool_options};
use crate::pool::{CheckReport, DigestKind, ImportOptions, Imported, PoolStats, ScrubStatus};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "pool_create",
            "Makes a pool on a disk (ours); -17 when the disk holds one already.",
            create,
        )
        .answers("the pool, as in `pool_get`"),
        Method::new("pool_import", "Imports the pool that is on a disk (ours).", import)
            .in_config("bdev")
            .answers("the pool, as in `pool_get`"),
        Method::new("pool_export", "Gives a pool up; its disk keeps it (ours).", export)
            .answers("`stopped`: why the pool took no more changes before, or `null`"),
        Method::new("pool_destroy", "Destroys a pool and all that is in it (ours).", destroy),
        Method::new("pool_get", "Lists the pools (ours).", get).answers(
            "list: `name`, `uuid`, `base_bdev`, `disk`, `core`, `digest`, `size_bytes`, \
             `free_bytes`, `available_bytes`, `journal_bytes`, `write_bytes_max`, `read_only` \
             (why, or `null`), `volumes`, `snapshots` (how many), `scrub`, `import` (the call \
             that imports it again, for a configuration file)",
        ),
        Method::new(
            "pool_grow",
            "Lets a pool take what its disk has grown by, after `bdev_aio_rescan` for example \
             (ours).",
            grow,
        )
        .answers("`grown_bytes`"),
        Method::new("pool_scrub", "Reads all of a pool and compares digests (ours).", scrub)
            .answers(
                "`state` `none`, `running`, `done` or `stopped`; `bytes_per_sec`, \
                 `scrubbed_bytes`, `passed_bytes`, `total_bytes`, `percent`, `damaged_blocks`, \
                 `damaged`: `volume`, `block` (of 4 KiB), `blocks`, `problem`",
            ),
        Method::new(
            "pool_check",
            "Checks a pool's structure (ours); writes wait until it has ended.",
            check,
        )
        .answers(
            "`clean`, `errors` (text), `error_count`, `datasets`, `nodes`, `data_blocks`, \
             `leaked_blocks`",
        ),
        Method::new("pool_get_stats", "Tells what a pool has done (ours).", get_stats).answers(
            "`write`, `read`, `flush`, `checkpoint`: `count`, `total_ns`, `max_ns`; \
             `written_bytes`, `read_bytes`, `recovery_ns`, `recovery_records`, \
             `recovery_transactions`, `invalid_blocks`, `journal_records`, \
             `journal_blocks_written`, `journal_fill_blocks`, `journal_blocks`, `cached_nodes`, \
             `cached_nodes_max`, `dirty_nodes`, `nodes_read` (of the map, while somebody waited), \
             `nodes_read_ahead`",
        ),
    ]
}

/// The pool of a name or UUID.
pub(super) fn find(context: &Context, name: &str) -> RpcResult<Arc<Imported>> {
    context.engine()?.pools().find(name).map_err(|error| errors::failed(&error))
}

/// The digests there are.
const DIGESTS: [(&str, DigestKind); 3] = [
    (DigestKind::Sha256.name(), DigestKind::Sha256),
    (DigestKind::Blake3.name(), DigestKind::Blake3),
    (DigestKind::Crc32c.name(), DigestKind::Crc32c),
];

/// How much memory the map of a pool may take.
const CACHE_MB: Def =
    optional("cache_mb", int(1, CACHE_MB_MAX as i128), "Memory for the map of the pool, in MiB.");

/// The pool that a method is for.
const POOL: Def = required("name", Kind::Name, "Name or UUID of the pool.");

struct Create {
    name: Name,
    disk: String,
    uuid: Option<Uuid>,
    digest: Option<DigestKind>,
    journal_mb: Option<u64>,
    cache_mb: Option<u64>,
}

impl Request for Create {
    const PARAMS: Defs = &[&[
        required("name", Kind::Name, "Name of the pool."),
        required("disk", Kind::Text, "A device's name, or a URI."),
        optional("uuid", Kind::Uuid, "UUID of the pool; a random one when left out."),
        optional("digest", choice(&words(&DIGESTS)), "How data are checked.")
            .or_text(DigestKind::Sha256.name()),
        optional(
            "journal_mb",
            int(1, JOURNAL_MB_MAX as i128),
            "Size of the journal in MiB; by the size of the disk when left out.",
        ),
        CACHE_MB,
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            name: params.required("name")?,
            disk: params.required("disk")?,
            uuid: params.optional("uuid")?,
            digest: params.optional_choice("digest", &DIGESTS)?,
            journal_mb: params.optional("journal_mb")?,
            cache_mb: params.optional("cache_mb")?,
        })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<Value> {
    let Create { name, disk, uuid, digest, journal_mb, cache_mb } = request;
    context.roots().check_uri(&disk)?;
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
    const PARAMS: Defs = &[&[
        required("disk", Kind::Text, "A device's name, or a URI."),
        optional("name", Kind::Name, "Refuse a pool with another name."),
        CACHE_MB,
        optional("readonly", Kind::Bool, "Whether nothing is written to it.").or_bool(false),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            disk: params.required("disk")?,
            name: params.optional("name")?,
            cache_mb: params.optional("cache_mb")?,
            read_only: params.required("readonly")?,
        })
    }
}

async fn import(context: Arc<Context>, request: Import) -> RpcResult<Value> {
    context.roots().check_uri(&request.disk)?;
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
    const PARAMS: Defs =
        &[&[POOL, optional("force", Kind::Bool, "Although volumes are open.").or_bool(false)]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, force: params.required("force")? })
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
    const PARAMS: Defs = &[&[POOL]];

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
    const PARAMS: Defs =
        &[&[optional("name", Kind::Name, "Only the pool with this name or UUID.")]];

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
    shown["import"] = serde_json::to_value(import_call(pool))
        .map_err(|error| jsonrpc::codes::internal_error(error.to_string()))?;
    Ok(shown)
}

/// The call of a configuration file that imports a pool again.
pub(super) fn import_call(pool: &Imported) -> Call {
    let mut params = json!({ "name": pool.name(), "disk": pool.base().disk });
    if pool.is_read_only() {
        params["readonly"] = true.into();
    }
    if pool.cache_bytes() != ImportOptions::default().cache_bytes {
        params["cache_mb"] = (pool.cache_bytes() >> 20).into();
    }
    Call::new("pool_import", params)
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

/// What can be done with a scrub.
const ACTIONS: [(&str, Action); 3] =
    [("start", Action::Start), ("stop", Action::Stop), ("status", Action::Status)];

struct Scrub {
    name: Name,
    action: Action,
    bytes_per_sec: u64,
}

impl Request for Scrub {
    const PARAMS: Defs = &[&[
        POOL,
        optional("action", choice(&words(&ACTIONS)), "What to do.").or_text("start"),
        optional(
            "bytes_per_sec",
            int(0, 1 << 40),
            "How fast, with `start`; 0, the default, is as fast as it goes.",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let action = params.required_choice("action", &ACTIONS)?;
        if params.has("bytes_per_sec") && !matches!(action, Action::Start) {
            return Err(params.refuse("bytes_per_sec", "it belongs to the action start"));
        }
        let bytes_per_sec = params.optional("bytes_per_sec")?.unwrap_or(0);
        Ok(Self { name: params.required("name")?, action, bytes_per_sec })
    }
}

impl Answer for ScrubStatus {
    fn schema() -> Value {
        json!({ "type": "object" })
    }
}

impl Answer for PoolStats {
    fn schema() -> Value {
        json!({ "type": "object" })
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
    const PARAMS: Defs = &[&[
        POOL,
        optional("data", Kind::Bool, "Whether to read data too, not only the map.").or_bool(true),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, data: params.required("data")? })
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
