//! `vol_*`: volumes, snapshots and clones, in bytes and with all that they can be.

use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use super::errors::{self, RpcResult};
use super::params::{Name, ParamError, Params, Request};
use super::pool::find;
use super::{Context, Method};
use crate::pool::{Imported, ManagerError, VolumeInfo, VolumeOptions};

/// Block sizes of volumes in bytes.
const BLOCK_SIZES: &[u32] = &[512, 4096];
/// The largest volume in bytes.
pub(super) const SIZE_MAX: u64 = 1 << 48;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("vol_create", create),
        Method::new("vol_delete", delete),
        Method::new("vol_resize", resize),
        Method::new("vol_rename", rename),
        Method::new("vol_get", get),
        Method::new("vol_snapshot", snapshot),
        Method::new("vol_clone", clone),
        Method::new("vol_decouple", decouple),
        Method::new("vol_set_read_only", set_read_only),
    ]
}

/// What the manager refuses, as a method answers it.
pub(super) fn done<T>(result: Result<T, ManagerError>) -> RpcResult<T> {
    result.map_err(|error| errors::failed(&error))
}

struct Create {
    pool: Name,
    name: Name,
    size_bytes: u64,
    options: VolumeOptions,
}

impl Request for Create {
    const NAMES: &'static [&'static str] = &["pool", "name", "size", "thin", "blk_size", "uuid"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let defaults = VolumeOptions::default();
        let options = VolumeOptions {
            thin: params.optional("thin")?.unwrap_or(defaults.thin),
            uuid: params.optional::<Uuid>("uuid")?,
            block_len: params
                .optional_one_of("blk_size", BLOCK_SIZES)?
                .unwrap_or(defaults.block_len),
        };
        Ok(Self {
            pool: params.required("pool")?,
            name: params.required("name")?,
            size_bytes: params.required_u64("size", 4096..=SIZE_MAX)?,
            options,
        })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<Value> {
    let Create { pool, name, size_bytes, options } = request;
    let pool = find(&context, &pool.0)?;
    let pools = context.engine()?.pools();
    let made = pools.create_volume(pool.name(), &name.0, size_bytes, options).await;
    describe(&pool, &done(made)?)
}

/// The parameters of a method that names a volume.
pub(super) struct Named(pub(super) Name);

impl Request for Named {
    const NAMES: &'static [&'static str] = &["name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self(params.required("name")?))
    }
}

pub(super) async fn delete(context: Arc<Context>, request: Named) -> RpcResult<bool> {
    done(context.engine()?.pools().delete_volume(&request.0.0).await)?;
    Ok(true)
}

struct Resize {
    name: Name,
    size_bytes: u64,
}

impl Request for Resize {
    const NAMES: &'static [&'static str] = &["name", "size"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let size_bytes = params.required_u64("size", 4096..=SIZE_MAX)?;
        Ok(Self { name: params.required("name")?, size_bytes })
    }
}

async fn resize(context: Arc<Context>, request: Resize) -> RpcResult<bool> {
    let pools = context.engine()?.pools();
    done(pools.resize_volume(&request.name.0, request.size_bytes).await)?;
    Ok(true)
}

struct Rename {
    name: Name,
    new_name: Name,
}

impl Request for Rename {
    const NAMES: &'static [&'static str] = &["name", "new_name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, new_name: params.required("new_name")? })
    }
}

async fn rename(context: Arc<Context>, request: Rename) -> RpcResult<bool> {
    let pools = context.engine()?.pools();
    done(pools.rename_volume(&request.name.0, &request.new_name.0).await)?;
    Ok(true)
}

struct Get {
    name: Option<Name>,
    pool: Option<Name>,
}

impl Request for Get {
    const NAMES: &'static [&'static str] = &["name", "pool"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.optional("name")?;
        if name.is_some() && params.has("pool") {
            return Err(params.refuse("pool", "`name` names one volume; leave one of both out"));
        }
        Ok(Self { name, pool: params.optional("pool")? })
    }
}

async fn get(context: Arc<Context>, request: Get) -> RpcResult<Vec<Value>> {
    if let Some(name) = request.name {
        let (pool, volume) = done(context.engine()?.pools().locate(&name.0).await)?;
        return Ok(vec![describe(&pool, &volume)?]);
    }
    let pools = match request.pool {
        Some(pool) => vec![find(&context, &pool.0)?],
        None => context.engine()?.pools().all(),
    };
    let mut shown = Vec::new();
    for pool in pools {
        for volume in done(pool.call(async |pool| Ok(pool.volumes())).await)? {
            shown.push(describe(&pool, &volume)?);
        }
    }
    Ok(shown)
}

/// A volume as `vol_get` shows it: with its pool and the name of its device.
fn describe(pool: &Imported, volume: &VolumeInfo) -> RpcResult<Value> {
    let mut shown = serde_json::to_value(volume)
        .map_err(|error| jsonrpc::codes::internal_error(error.to_string()))?;
    if let Some(members) = shown.as_object_mut() {
        members.insert("pool".to_owned(), pool.name().into());
        members.insert("device".to_owned(), format!("{}/{}", pool.name(), volume.name).into());
    }
    Ok(shown)
}

struct Snapshot {
    name: Name,
    snapshot_name: Name,
}

impl Request for Snapshot {
    const NAMES: &'static [&'static str] = &["name", "snapshot_name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let snapshot_name = params.required("snapshot_name")?;
        Ok(Self { name: params.required("name")?, snapshot_name })
    }
}

async fn snapshot(context: Arc<Context>, request: Snapshot) -> RpcResult<Value> {
    let pools = context.engine()?.pools();
    let (pool, _) = done(pools.locate(&request.name.0).await)?;
    let made = pools.snapshot(&request.name.0, &request.snapshot_name.0).await;
    describe(&pool, &done(made)?)
}

struct Clone {
    name: Name,
    clone_name: Name,
}

impl Request for Clone {
    const NAMES: &'static [&'static str] = &["name", "clone_name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, clone_name: params.required("clone_name")? })
    }
}

async fn clone(context: Arc<Context>, request: Clone) -> RpcResult<Value> {
    let pools = context.engine()?.pools();
    let (pool, _) = done(pools.locate(&request.name.0).await)?;
    let made = pools.clone_volume(&request.name.0, &request.clone_name.0).await;
    describe(&pool, &done(made)?)
}

struct Decouple {
    name: Name,
    thick: bool,
}

impl Request for Decouple {
    const NAMES: &'static [&'static str] = &["name", "thick"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let thick = params.optional("thick")?.unwrap_or(false);
        Ok(Self { name: params.required("name")?, thick })
    }
}

async fn decouple(context: Arc<Context>, request: Decouple) -> RpcResult<bool> {
    done(context.engine()?.pools().decouple(&request.name.0, request.thick).await)?;
    Ok(true)
}

struct SetReadOnly {
    name: Name,
    on: bool,
}

impl Request for SetReadOnly {
    const NAMES: &'static [&'static str] = &["name", "read_only"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let on = params.optional("read_only")?.unwrap_or(true);
        Ok(Self { name: params.required("name")?, on })
    }
}

async fn set_read_only(context: Arc<Context>, request: SetReadOnly) -> RpcResult<bool> {
    done(context.engine()?.pools().set_read_only(&request.name.0, request.on).await)?;
    Ok(true)
}
