//! `bdev_aio_create`, `bdev_aio_delete`, `bdev_aio_rescan`, and the same for `uring`.

use std::sync::Arc;

use nix::errno::Errno;
use spdk_rs::bdev::IoType;
use spdk_rs::drivers::aio::AioOptions;
use spdk_rs::drivers::common::{FileOptions, rescan as rescan_file};
use spdk_rs::drivers::uring::UringOptions;
use uuid::Uuid;

use super::bdev::{Delete, NAME, delete, find_of};
use super::errors::{self, RpcResult};
use super::params::def::{only, optional, required};
use super::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev;
use crate::bdev::file_params::BLOCK_SIZES;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_aio_create", "Creates a device over a file by Linux AIO.", create_aio)
            .in_config("bdev")
            .answers("name of the device"),
        Method::new(
            "bdev_aio_delete",
            "Removes a device; its file stays.",
            |context, request: Delete| delete(context, request, "aio"),
        ),
        Method::new(
            "bdev_aio_rescan",
            "Gives a device the size that its file has now.",
            |context, request| rescan(context, request, "aio"),
        ),
        Method::new("bdev_uring_create", "Creates a device over a file by io_uring.", create_uring)
            .in_config("bdev")
            .answers("name of the device"),
        Method::new(
            "bdev_uring_delete",
            "Removes a device; its file stays.",
            |context, request: Delete| delete(context, request, "uring"),
        ),
        Method::new(
            "bdev_uring_rescan",
            "Gives a device the size that its file has now.",
            |context, request| rescan(context, request, "uring"),
        ),
    ]
}

/// The parameters that both have.
const FILE: &[Def] = &[
    required("name", Kind::Name, "Name of the device."),
    required("filename", Kind::Text, "Path of a file or block device that exists."),
    optional(
        "block_size",
        Kind::OneOf(BLOCK_SIZES),
        "Size of a block in bytes; the least that the file does when left out.",
    ),
    optional("uuid", Kind::Uuid, "The device's UUID; one made of the path when left out."),
];

/// What both have. The file exists; a device over a new one is made by its URI.
fn take_file(params: &Params<'_>) -> Result<FileOptions, ParamError> {
    let Name(name) = params.required("name")?;
    let path: String = params.required("filename")?;
    if path.contains('\0') {
        return Err(params.refuse("filename", "a path has no zero byte"));
    }
    let mut file = FileOptions::new(name, path);
    file.block_len = params.optional("block_size")?;
    file.uuid = params.optional::<Uuid>("uuid")?;
    Ok(file)
}

struct CreateAio {
    file: FileOptions,
    /// Whether unmap and write zeroes have to work; where they can, they always do.
    fallocate: bool,
}

impl Request for CreateAio {
    const PARAMS: Defs = &[
        FILE,
        &[
            optional("readonly", Kind::Bool, "Whether nothing may be written.").or_bool(false),
            optional(
                "fallocate",
                Kind::Bool,
                "Refuse a file that cannot be unmapped; where it can, unmap works anyway.",
            )
            .or_bool(false),
            only("nowait", "false", "a request that would wait is left to the kernel's threads"),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let mut file = take_file(params)?;
        file.read_only = params.required("readonly")?;
        let fallocate = params.required("fallocate")?;
        if fallocate && file.read_only {
            return Err(params.refuse("fallocate", "a device that is read-only unmaps nothing"));
        }
        Ok(Self { file, fallocate })
    }
}

async fn create_aio(context: Arc<Context>, request: CreateAio) -> RpcResult<String> {
    let engine = context.engine()?;
    context.roots().check(&request.file.path)?;
    let made = bdev::aio::create(engine, AioOptions::new(request.file)).await;
    let bdev = made.map_err(|error| errors::bdev(&error))?;
    let name = bdev.name().to_owned();
    if request.fallocate && !bdev.native_io_types().contains(IoType::Unmap) {
        let removed = bdev::destroy(engine, &name).await;
        removed.map_err(|error| errors::bdev(&error))?;
        let words = "parameter `fallocate` cannot be true: the file system cannot punch holes, \
                     or the device cannot discard";
        return Err(errors::errno(Errno::EOPNOTSUPP, words));
    }
    Ok(name)
}

struct CreateUring(FileOptions);

impl Request for CreateUring {
    const PARAMS: Defs = &[FILE];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        take_file(params).map(Self)
    }
}

async fn create_uring(context: Arc<Context>, request: CreateUring) -> RpcResult<String> {
    context.roots().check(&request.0.path)?;
    let made = bdev::uring::create(context.engine()?, UringOptions::new(request.0)).await;
    made.map(|bdev| bdev.name().to_owned()).map_err(|error| errors::bdev(&error))
}

struct Rescan(Name);

impl Request for Rescan {
    const PARAMS: Defs = &[&[NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}

async fn rescan(context: Arc<Context>, request: Rescan, driver: &'static str) -> RpcResult<bool> {
    let bdev = find_of(&context, &request.0, driver)?;
    let offload = context.engine()?.runtime().offload();
    let blocks = rescan_file(&bdev, offload).await.map_err(|error| errors::failed(&error))?;
    tracing::info!("device '{}' has {blocks} blocks", bdev.name());
    Ok(true)
}
