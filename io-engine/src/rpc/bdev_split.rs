//! `bdev_split_create`, `bdev_split_delete`.

use std::sync::Arc;

use nix::errno::Errno;
use spdk_rs::drivers::split::{COUNT_MAX, parts_of};

use super::bdev::find;
use super::errors::{self, RpcResult};
use super::params::def::{int, optional, required};
use super::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev::split::{self, SIZE_MB_MAX, SplitRequest, size_of};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_split_create",
            "Creates devices that are parts of another one, side by side: `p0` and so on behind \
             its name.",
            create,
        )
        .in_config("bdev")
        .answers("names of the devices"),
        Method::new("bdev_split_delete", "Removes all parts of a device.", delete),
    ]
}

const BASE: Def = required("base_bdev", Kind::Name, "The device below: its name, alias or UUID.");

struct Create {
    base: Name,
    count: u32,
    size_mb: u64,
}

impl Request for Create {
    const PARAMS: Defs = &[&[
        BASE,
        required("split_count", int(1, COUNT_MAX as i128), "The most parts."),
        optional(
            "split_size_mb",
            int(0, SIZE_MB_MAX as i128),
            "MiB of a part, of which as many are made as there is room for; 0 is an equal share.",
        )
        .or_int(0),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            base: params.required("base_bdev")?,
            count: params.required("split_count")?,
            size_mb: params.required("split_size_mb")?,
        })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<Vec<String>> {
    let Create { base: Name(base), count, size_mb } = request;
    let request = SplitRequest { base, count, size: size_of(size_mb) };
    let made = split::create(context.engine()?, &request).await;
    made.map_err(|error| errors::bdev(&error))
}

struct Delete(Name);

impl Request for Delete {
    const PARAMS: Defs = &[&[BASE]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("base_bdev").map(Self)
    }
}

async fn delete(context: Arc<Context>, request: Delete) -> RpcResult<bool> {
    let (engine, base) = (context.engine()?, find(&context, &request.0)?);
    if parts_of(engine.registry(), &base).is_empty() {
        let words = format!("device '{}' has no parts", base.name());
        return Err(errors::errno(Errno::ENODEV, words));
    }
    split::delete(engine, &base).await.map_err(|error| errors::bdev(&error))?;
    Ok(true)
}
