//! `bdev_passthru_create`, `bdev_passthru_delete`.

use std::sync::Arc;

use spdk_rs::drivers::passthru::DRIVER;
use uuid::Uuid;

use super::bdev::{Delete, delete};
use super::errors::{self, RpcResult};
use super::params::def::{optional, required};
use super::params::{Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev::layers::{self, LayerKind, LayerRequest};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_passthru_create", "Creates a device that is another device.", create)
            .in_config("bdev")
            .answers("name of the device"),
        Method::new(
            "bdev_passthru_delete",
            "Removes a passthru device.",
            |context, request: Delete| delete(context, request, DRIVER),
        ),
    ]
}

struct Create {
    base: Name,
    name: Name,
    uuid: Option<Uuid>,
}

impl Request for Create {
    const PARAMS: Defs = &[&[
        required("base_bdev_name", Kind::Name, "The device below: its name, alias or UUID."),
        required("name", Kind::Name, "Name of the device."),
        optional("uuid", Kind::Uuid, "The device's UUID; made from the base's when left out."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            base: params.required("base_bdev_name")?,
            name: params.required("name")?,
            uuid: params.optional("uuid")?,
        })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<String> {
    let Create { base: Name(base), name: Name(name), uuid } = request;
    let request = LayerRequest { name: Some(name), base, uuid, kind: LayerKind::Passthru };
    let made = layers::create(context.engine()?, &request).await;
    made.map_err(|error| errors::bdev(&error))
}
