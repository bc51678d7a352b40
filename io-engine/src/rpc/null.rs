//! `bdev_null_create`, `bdev_null_delete`, `bdev_null_resize`.

use std::sync::Arc;

use nix::errno::Errno;
use spdk_rs::drivers::null::{self, NullOptions};
use uuid::Uuid;

use super::bdev::{BYTES_MAX, Delete, MemoryShape, NAME, delete, find_of};
use super::errors::{self, RpcResult};
use super::params::def::{int, only, required};
use super::params::{Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};

/// Why a device without a medium prefers nothing.
const NO_OPTIMUM: &str = "nothing is written, so no size is better than another";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_null_create", "Creates a device that keeps nothing.", create)
            .in_config("bdev")
            .answers("name of the device"),
        Method::new("bdev_null_resize", "Makes a null device larger.", resize).in_config("bdev"),
        Method::new("bdev_null_delete", "Removes a null device.", |context, request: Delete| {
            delete(context, request, "null")
        }),
    ]
}

struct Create {
    name: Name,
    uuid: Option<Uuid>,
    shape: MemoryShape,
}

impl Request for Create {
    const PARAMS: Defs = &[
        &[required("name", Kind::Name, "Name of the device.")],
        MemoryShape::PARAMS,
        &[
            only("preferred_write_alignment", "0", NO_OPTIMUM),
            only("preferred_write_granularity", "0", NO_OPTIMUM),
            only("optimal_write_size", "0", NO_OPTIMUM),
            only("preferred_unmap_alignment", "0", NO_OPTIMUM),
            only("preferred_unmap_granularity", "0", NO_OPTIMUM),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            name: params.required("name")?,
            uuid: params.optional("uuid")?,
            shape: MemoryShape::take(params)?,
        })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<String> {
    let MemoryShape { block_len, phys_block_len, num_blocks } = request.shape;
    let (Name(name), uuid) = (request.name, request.uuid);
    let bdev = null::create(NullOptions { name, uuid, block_len, phys_block_len, num_blocks });
    let registered = context.engine()?.registry().register(&bdev);
    registered.map_err(|error| errors::failed(&error))?;
    Ok(bdev.name().to_owned())
}

struct Resize {
    name: Name,
    new_size_mib: u64,
}

impl Request for Resize {
    const PARAMS: Defs = &[&[
        NAME,
        required(
            "new_size",
            int(1, (BYTES_MAX >> 20) as i128),
            "The new size in MiB; a device does not shrink.",
        ),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, new_size_mib: params.required("new_size")? })
    }
}

async fn resize(context: Arc<Context>, request: Resize) -> RpcResult<bool> {
    let bdev = find_of(&context, &request.name, "null")?;
    let bytes = request.new_size_mib << 20;
    if bytes < bdev.size_bytes() {
        let (name, mib) = (bdev.name(), request.new_size_mib);
        let words = format!(
            "parameter `new_size` cannot be {mib}: device '{name}' has {} bytes and cannot shrink",
            bdev.size_bytes()
        );
        return Err(errors::errno(Errno::EINVAL, words));
    }
    bdev.resize(bytes / u64::from(bdev.info().block_len)).await;
    Ok(true)
}
