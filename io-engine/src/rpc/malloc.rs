//! `bdev_malloc_create`, `bdev_malloc_delete`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use spdk_rs::bdev::RegistryError;
use spdk_rs::drivers::malloc::MallocOptions;
use uuid::Uuid;

use super::bdev::{Delete, MemoryShape, NO_METADATA, delete};
use super::errors::{self, RpcResult};
use super::params::def::{only, optional};
use super::params::{Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_malloc_create", "Creates a device in memory.", create)
            .in_config("bdev")
            .answers("name of the device"),
        Method::new(
            "bdev_malloc_delete",
            "Removes a device in memory.",
            |context, request: Delete| delete(context, request, "malloc"),
        ),
    ]
}

struct Create {
    name: Option<Name>,
    uuid: Option<Uuid>,
    shape: MemoryShape,
}

impl Request for Create {
    const PARAMS: Defs = &[
        &[optional(
            "name",
            Kind::Name,
            "Name of the device; `Malloc0`, `Malloc1`, … when left out.",
        )],
        MemoryShape::PARAMS,
        &[
            only("numa_id", "-1", "memory is where the kernel puts it"),
            only("optimal_io_boundary", "0", "memory has no such boundary"),
            only("md_interleave", "false", NO_METADATA),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let shape = MemoryShape::take(params)?;
        Ok(Self { name: params.optional("name")?, uuid: params.optional("uuid")?, shape })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<String> {
    let engine = context.engine()?;
    let MemoryShape { block_len, phys_block_len, num_blocks } = request.shape;
    let uuid = request.uuid;
    let options = |name| MallocOptions { name, uuid, block_len, phys_block_len, num_blocks };
    if let Some(Name(name)) = request.name {
        let made = bdev::malloc::create(engine, options(name)).await;
        return made.map_err(|error| errors::bdev(&error));
    }
    loop {
        let number = context.malloc_next.fetch_add(1, Ordering::Relaxed);
        let name = format!("Malloc{number}");
        match bdev::malloc::create(engine, options(name.clone())).await {
            // The number is taken by a device that was named by its owner: try the next one.
            Err(bdev::BdevError::Registry(RegistryError::NameTaken { .. })) => {}
            made => return made.map_err(|error| errors::bdev(&error)),
        }
    }
}
