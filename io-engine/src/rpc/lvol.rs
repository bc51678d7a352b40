//! `bdev_lvol_*`: SPDK's methods for logical volumes. A logical volume store is a pool, a logical
//! volume is a volume of it; what SPDK counts in clusters is counted in mebibytes.

use std::sync::Arc;

use jsonrpsee::types::ErrorObjectOwned;
use nix::errno::Errno;
use serde_json::{Value, json};
use uuid::Uuid;

use super::errors::{self, RpcResult};
use super::params::def::{choice, int, only, optional, required};
use super::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use super::vol::{self, Named, SIZE_MAX, VOLUME};
use super::{Context, Method, pool};
use crate::bdev;
use crate::pool::{CLUSTER_BYTES, Imported, ManagerError, PoolError, VolumeInfo, VolumeOptions};

/// Why parameters of SPDK's stores are refused.
const NO_CLUSTERS: &str = "a pool has no clusters of its own; it is counted in these";
const NOT_CLEARED: &str = "nothing is read that was not written, so nothing has to be cleared";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_lvol_create_lvstore", "Makes a pool on a device.", create_lvstore),
        Method::new(
            "bdev_lvol_delete_lvstore",
            "Destroys a pool and all that is in it, as `pool_destroy` does.",
            delete_lvstore,
        ),
        Method::new(
            "bdev_lvol_rename_lvstore",
            "Is refused with -95: a pool keeps its name.",
            rename_lvstore,
        ),
        Method::new("bdev_lvol_get_lvstores", "Lists the pools.", get_lvstores).answers(
            "list: `uuid`, `name`, `base_bdev`, `total_data_clusters`, `free_clusters`, \
             `block_size`, `cluster_size`",
        ),
        Method::new(
            "bdev_lvol_grow_lvstore",
            "Lets a pool take what its disk has grown by; that it has not grown is no error.",
            grow_lvstore,
        ),
        Method::new("bdev_lvol_create", "Creates a volume.", create),
        Method::new("bdev_lvol_delete", "Deletes a volume or snapshot.", delete),
        Method::new("bdev_lvol_snapshot", "Makes a snapshot of a volume.", snapshot),
        Method::new("bdev_lvol_clone", "Makes a volume that begins as a snapshot.", clone),
        Method::new("bdev_lvol_rename", "Renames a volume.", rename),
        Method::new("bdev_lvol_resize", "Resizes a volume.", resize),
        Method::new("bdev_lvol_set_read_only", "Makes a volume read-only.", set_read_only),
        Method::new(
            "bdev_lvol_decouple_parent",
            "Copies what a clone shares with its snapshot.",
            decouple_parent,
        ),
        Method::new(
            "bdev_lvol_inflate",
            "Copies what a clone shares, and keeps all of its space for it.",
            inflate,
        ),
        Method::new("bdev_lvol_get_lvols", "Lists the volumes.", get_lvols).answers(
            "list: `alias`, `uuid`, `name`, `is_thin_provisioned`, `is_snapshot`, `is_clone`, \
             `is_esnap_clone`, `is_degraded`, `num_allocated_clusters`, `lvs`: `name`, `uuid`",
        ),
    ]
}

struct CreateStore {
    bdev_name: Name,
    lvs_name: Name,
}

impl Request for CreateStore {
    const PARAMS: Defs = &[&[
        required("bdev_name", Kind::Name, "The device to make the pool on."),
        required("lvs_name", Kind::Name, "Name of the pool."),
        only("cluster_sz", "1048576", NO_CLUSTERS),
        only("clear_method", "\"none\"", NOT_CLEARED),
        only("num_md_pages_per_cluster_ratio", "100", NO_CLUSTERS),
        only("md_page_size", "4096", "metadata are in blocks of 4096 bytes"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            bdev_name: params.required("bdev_name")?,
            lvs_name: params.required("lvs_name")?,
        })
    }
}

async fn create_lvstore(context: Arc<Context>, request: CreateStore) -> RpcResult<Uuid> {
    let options = bdev::pool::pool_options(&request.lvs_name.0, None, None, None, None);
    let made = bdev::pool::create(context.engine()?, &request.bdev_name.0, options).await;
    made.map(|pool| pool.uuid()).map_err(|error| errors::bdev(&error))
}

/// The parameters that name a store; one of them does.
const STORE: &[Def] = &[
    optional("uuid", Kind::Uuid, "UUID of the pool."),
    optional("lvs_name", Kind::Name, "Name of the pool, instead of its UUID."),
];

/// A store, by its UUID or its name.
struct Store(Option<String>);

impl Store {
    fn of(params: &Params<'_>, by_uuid: &'static str) -> Result<Self, ParamError> {
        let uuid: Option<Uuid> = params.optional(by_uuid)?;
        let name: Option<Name> = params.optional("lvs_name")?;
        match (uuid, name) {
            (Some(_), Some(_)) => {
                Err(params.refuse("lvs_name", format!("`{by_uuid}` names the store already")))
            }
            (Some(uuid), None) => Ok(Self(Some(uuid.to_string()))),
            (None, name) => Ok(Self(name.map(|name| name.0))),
        }
    }

    fn find(&self, context: &Context) -> RpcResult<Arc<Imported>> {
        match &self.0 {
            Some(name) => pool::find(context, name),
            None => {
                let words =
                    "parameter `uuid` or `lvs_name` is missing: one of them names the store";
                Err(jsonrpc::codes::invalid_params(words))
            }
        }
    }
}

impl Request for Store {
    const PARAMS: Defs = &[STORE];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Self::of(params, "uuid")
    }
}

async fn delete_lvstore(context: Arc<Context>, request: Store) -> RpcResult<bool> {
    let store = request.find(&context)?;
    let destroyed = bdev::pool::destroy(context.engine()?, store.name()).await;
    destroyed.map(|()| true).map_err(|error| errors::bdev(&error))
}

struct Rename {
    old_name: Name,
    new_name: Name,
}

impl Request for Rename {
    const PARAMS: Defs = &[&[
        required("old_name", Kind::Name, "What is to be renamed."),
        required("new_name", Kind::Name, "The new name, without the pool."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { old_name: params.required("old_name")?, new_name: params.required("new_name")? })
    }
}

async fn rename_lvstore(context: Arc<Context>, request: Rename) -> RpcResult<bool> {
    let store = pool::find(&context, &request.old_name.0)?;
    let words = format!(
        "pool '{}' cannot become '{}': a pool keeps the name that it was made with",
        store.name(),
        request.new_name.0
    );
    Err(errors::errno(Errno::EOPNOTSUPP, words))
}

async fn get_lvstores(context: Arc<Context>, request: Store) -> RpcResult<Vec<Value>> {
    let stores = match &request.0 {
        Some(name) => vec![pool::find(&context, name)?],
        None => context.engine()?.pools().all(),
    };
    let mut shown = Vec::with_capacity(stores.len());
    for store in stores {
        let summary = done(store.summary().await)?;
        shown.push(json!({
            "uuid": summary.uuid,
            "name": summary.name,
            "base_bdev": summary.base_bdev,
            "total_data_clusters": summary.size_bytes / CLUSTER_BYTES,
            "free_clusters": summary.available_bytes / CLUSTER_BYTES,
            "block_size": 4096,
            "cluster_size": CLUSTER_BYTES,
        }));
    }
    Ok(shown)
}

async fn grow_lvstore(context: Arc<Context>, request: Store) -> RpcResult<bool> {
    let store = request.find(&context)?;
    match store.call(async |pool| pool.grow().await).await {
        // SPDK's scripts grow a store after each rescan of its device.
        Err(ManagerError::Pool(PoolError::Parameter { .. }))
            if !shrank(&context, &store).await? =>
        {
            Ok(true)
        }
        grown => done(grown).map(|_| true),
    }
}

/// Whether a pool has more than its device.
async fn shrank(context: &Context, store: &Imported) -> RpcResult<bool> {
    let device = context.engine()?.registry().find(&store.base().device);
    let device = device.map_err(|error| errors::failed(&error))?;
    Ok(device.size_bytes() < done(store.summary().await)?.size_bytes)
}

struct Create {
    store: Store,
    lvol_name: Name,
    size_bytes: u64,
    thin: bool,
}

impl Request for Create {
    const PARAMS: Defs = &[
        &[
            required("lvol_name", Kind::Name, "Name of the volume, without the pool."),
            optional(
                "thin_provision",
                Kind::Bool,
                "Whether space is taken only when it is written.",
            )
            .or_bool(false),
        ],
        SIZE,
        STORE,
        &[optional(
            "clear_method",
            choice(&["default", "none", "unmap", "write_zeroes"]),
            "They all mean the same: what was never written reads as zeroes.",
        )],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        // What a host never wrote reads as zeroes, however it is to be cleared.
        let _: Option<String> = params.optional("clear_method")?;
        Ok(Self {
            store: Store::of(params, "uuid")?,
            lvol_name: params.required("lvol_name")?,
            size_bytes: take_size(params)?,
            thin: params.required("thin_provision")?,
        })
    }
}

/// The size of a volume.
const SIZE: &[Def] = &[
    optional(
        "size_in_mib",
        int(1, (SIZE_MAX >> 20) as i128),
        "Size in MiB; it, or `size`, is required.",
    ),
    optional(
        "size",
        int(1, SIZE_MAX as i128),
        "Size in bytes, rounded up to MiB: what SPDK took before 23.09.",
    ),
];

/// Takes the size of a volume in bytes.
fn take_size(params: &Params<'_>) -> Result<u64, ParamError> {
    let mib: Option<u64> = params.optional("size_in_mib")?;
    let bytes: Option<u64> = params.optional("size")?;
    match (mib, bytes) {
        (Some(mib), None) => Ok(mib << 20),
        (None, Some(bytes)) => Ok(bytes.next_multiple_of(1 << 20)),
        (Some(_), Some(_)) => Err(params.refuse("size", "`size_in_mib` says it already")),
        (None, None) => {
            let allowed = "it has to be the size in MiB".to_owned();
            Err(ParamError::Missing { name: "size_in_mib", allowed })
        }
    }
}

/// The outcome of an operation, with the words in front that SPDK has for two errors: its clients
/// (the CSI driver) know a full store and a volume that is gone by them.
fn done<T>(result: Result<T, ManagerError>) -> RpcResult<T> {
    vol::done(result).map_err(|error| {
        let words = match Errno::from_raw(error.code().wrapping_neg()) {
            Errno::ENOSPC => "No space left on device",
            Errno::ENODEV => "No such device",
            _ => return error,
        };
        let message = format!("{words}: {}", error.message());
        ErrorObjectOwned::owned(error.code(), message, error.data())
    })
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<Uuid> {
    let store = request.store.find(&context)?;
    let options = VolumeOptions { thin: request.thin, ..VolumeOptions::default() };
    let (pools, name) = (context.engine()?.pools(), &request.lvol_name.0);
    let made = pools.create_volume(store.name(), name, request.size_bytes, options).await;
    Ok(done(made)?.uuid)
}

struct Snapshot {
    lvol_name: Name,
    snapshot_name: Name,
}

impl Request for Snapshot {
    const PARAMS: Defs = &[&[
        required("lvol_name", Kind::Name, "The volume, as `POOL/VOLUME` or by its UUID."),
        required("snapshot_name", Kind::Name, "Name of the snapshot, without the pool."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let snapshot_name = params.required("snapshot_name")?;
        Ok(Self { lvol_name: params.required("lvol_name")?, snapshot_name })
    }
}

async fn snapshot(context: Arc<Context>, request: Snapshot) -> RpcResult<Uuid> {
    let pools = context.engine()?.pools();
    Ok(done(pools.snapshot(&request.lvol_name.0, &request.snapshot_name.0).await)?.uuid)
}

struct Clone {
    snapshot_name: Name,
    clone_name: Name,
}

impl Request for Clone {
    const PARAMS: Defs = &[&[
        required("snapshot_name", Kind::Name, "The snapshot, as `POOL/NAME` or by its UUID."),
        required("clone_name", Kind::Name, "Name of the new volume, without the pool."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let snapshot_name = params.required("snapshot_name")?;
        Ok(Self { snapshot_name, clone_name: params.required("clone_name")? })
    }
}

async fn clone(context: Arc<Context>, request: Clone) -> RpcResult<Uuid> {
    let pools = context.engine()?.pools();
    Ok(done(pools.clone_volume(&request.snapshot_name.0, &request.clone_name.0).await)?.uuid)
}

async fn rename(context: Arc<Context>, request: Rename) -> RpcResult<bool> {
    let pools = context.engine()?.pools();
    done(pools.rename_volume(&request.old_name.0, &request.new_name.0).await)?;
    Ok(true)
}

struct Resize {
    name: Name,
    size_bytes: u64,
}

impl Request for Resize {
    const PARAMS: Defs = &[&[VOLUME], SIZE];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, size_bytes: take_size(params)? })
    }
}

async fn resize(context: Arc<Context>, request: Resize) -> RpcResult<bool> {
    let pools = context.engine()?.pools();
    done(pools.resize_volume(&request.name.0, request.size_bytes).await)?;
    Ok(true)
}

async fn delete(context: Arc<Context>, request: Named) -> RpcResult<bool> {
    done(context.engine()?.pools().delete_volume(&request.0.0).await)?;
    Ok(true)
}

async fn set_read_only(context: Arc<Context>, request: Named) -> RpcResult<bool> {
    done(context.engine()?.pools().set_read_only(&request.0.0, true).await)?;
    Ok(true)
}

async fn decouple_parent(context: Arc<Context>, request: Named) -> RpcResult<bool> {
    done(context.engine()?.pools().decouple(&request.0.0, false).await)?;
    Ok(true)
}

async fn inflate(context: Arc<Context>, request: Named) -> RpcResult<bool> {
    done(context.engine()?.pools().decouple(&request.0.0, true).await)?;
    Ok(true)
}

struct GetLvols(Store);

impl Request for GetLvols {
    const PARAMS: Defs = &[&[
        optional("lvs_uuid", Kind::Uuid, "Only volumes of the pool with this UUID."),
        optional("lvs_name", Kind::Name, "Only volumes of the pool with this name."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Store::of(params, "lvs_uuid").map(Self)
    }
}

async fn get_lvols(context: Arc<Context>, request: GetLvols) -> RpcResult<Vec<Value>> {
    let stores = match &request.0.0 {
        Some(name) => vec![pool::find(&context, name)?],
        None => context.engine()?.pools().all(),
    };
    let mut shown = Vec::new();
    for store in stores {
        let volumes = done(store.call(async |pool| Ok(pool.volumes())).await)?;
        shown.extend(volumes.iter().map(|volume| describe(&store, volume)));
    }
    Ok(shown)
}

/// A volume as SPDK lists it.
fn describe(store: &Imported, volume: &VolumeInfo) -> Value {
    json!({
        "alias": format!("{}/{}", store.name(), volume.name),
        "uuid": volume.uuid,
        "name": volume.name,
        "is_thin_provisioned": volume.thin,
        "is_snapshot": volume.snapshot,
        "is_clone": volume.parent.is_some() && !volume.snapshot,
        "is_esnap_clone": false,
        "is_degraded": false,
        "num_allocated_clusters": volume.mapped_bytes / CLUSTER_BYTES,
        "lvs": { "name": store.name(), "uuid": store.uuid() },
    })
}
