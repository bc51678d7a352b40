//! `vol_*`: volumes, snapshots and clones, in bytes and with all that they can be.

use std::sync::Arc;

use serde_json::Value;

use super::errors::{self, RpcResult};
use super::params::def::{int, optional, required};
use super::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use super::pool::find;
use super::{Context, Method};
use crate::pool::{Imported, ManagerError, VolumeInfo, VolumeOptions};

/// Block sizes of volumes in bytes.
const BLOCK_SIZES: &[u32] = &[512, 4096];
/// The largest volume in bytes.
pub(super) const SIZE_MAX: u64 = 1 << 48;
/// The size of a volume.
const SIZE: Def =
    required("size", int(4096, SIZE_MAX as i128), "Size in bytes, a multiple of 4096.");
/// The volume that a method is for.
pub(super) const VOLUME: Def =
    required("name", Kind::Name, "The volume, as `POOL/VOLUME` or by its UUID.");

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("vol_create", "Creates a volume (ours).", create)
            .answers("the volume, as in `vol_get`"),
        Method::new("vol_delete", "Deletes a volume (ours); -16 while it is open.", delete),
        Method::new(
            "vol_resize",
            "Resizes a volume (ours); an open one grows, but does not shrink.",
            resize,
        ),
        Method::new("vol_rename", "Renames a volume (ours); -16 while it is open.", rename),
        Method::new("vol_get", "Lists volumes and snapshots (ours).", get).answers(
            "list: `name`, `uuid`, `size_bytes`, `block_len`, `mapped_bytes`, `thin`, \
             `snapshot`, `read_only`, `parent`, `children`, `pool`, `device`",
        ),
        Method::new("vol_snapshot", "Makes a snapshot of a volume (ours).", snapshot)
            .answers("the snapshot, as in `vol_get`"),
        Method::new("vol_clone", "Makes a volume that begins as a snapshot (ours).", clone)
            .answers("the clone, as in `vol_get`"),
        Method::new(
            "vol_decouple",
            "Copies what a volume shares; it answers when nothing is shared any more (ours).",
            decouple,
        ),
        Method::new(
            "vol_set_read_only",
            "Makes a volume read-only, or writable again (ours); -16 while it is open.",
            set_read_only,
        ),
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
    const PARAMS: Defs = &[&[
        required("pool", Kind::Name, "Name or UUID of the pool."),
        required("name", Kind::Name, "Name of the volume, without the pool."),
        SIZE,
        optional("thin", Kind::Bool, "Whether space is taken only when it is written.")
            .or_bool(true),
        optional("blk_size", Kind::OneOf(BLOCK_SIZES), "Size of a block in bytes.").or_int(4096),
        optional("uuid", Kind::Uuid, "UUID of the volume; a random one when left out."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let options = VolumeOptions {
            thin: params.required("thin")?,
            uuid: params.optional("uuid")?,
            block_len: params.required("blk_size")?,
        };
        Ok(Self {
            pool: params.required("pool")?,
            name: params.required("name")?,
            size_bytes: params.required("size")?,
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
    const PARAMS: Defs = &[&[VOLUME]];

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
    const PARAMS: Defs = &[&[VOLUME, SIZE]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, size_bytes: params.required("size")? })
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
    const PARAMS: Defs =
        &[&[VOLUME, required("new_name", Kind::Name, "The new name, without the pool.")]];

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
    const PARAMS: Defs = &[&[
        optional("name", Kind::Name, "Only this volume, as `POOL/VOLUME` or by its UUID."),
        optional("pool", Kind::Name, "Only volumes of the pool with this name or UUID."),
    ]];

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
    const PARAMS: Defs = &[&[
        VOLUME,
        required("snapshot_name", Kind::Name, "Name of the snapshot, without the pool."),
    ]];

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
    const PARAMS: Defs = &[&[
        required("name", Kind::Name, "The snapshot, as `POOL/NAME` or by its UUID."),
        required("clone_name", Kind::Name, "Name of the clone, without the pool."),
    ]];

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
    const PARAMS: Defs = &[&[
        VOLUME,
        optional("thick", Kind::Bool, "Whether all of its space is kept for it.").or_bool(false),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let thick = params.required("thick")?;
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
    const PARAMS: Defs = &[&[
        VOLUME,
        optional("read_only", Kind::Bool, "Read-only, or writable again.").or_bool(true),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let on = params.required("read_only")?;
        Ok(Self { name: params.required("name")?, on })
    }
}

async fn set_read_only(context: Arc<Context>, request: SetReadOnly) -> RpcResult<bool> {
    done(context.engine()?.pools().set_read_only(&request.name.0, request.on).await)?;
    Ok(true)
}
