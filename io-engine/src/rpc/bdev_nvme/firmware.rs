//! `bdev_nvme_apply_firmware`.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use spdk_rs::drivers::nvme::Firmware;
use spdk_rs::nvme::controller::Activation;

use super::namespaces::controller_of;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{int, optional, required};
use crate::rpc::params::{Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// Bytes of a firmware image at the most.
const IMAGE_BYTES_MAX: u64 = 256 << 20;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_nvme_apply_firmware",
            "Gives a controller a firmware image and has it activated by a reset; error -16 while \
             a device of the controller is open.",
            apply,
        )
        .answers("what has happened, in words"),
    ]
}

struct Apply {
    file: PathBuf,
    bdev: Name,
    slot: u8,
    activate: bool,
}

impl Request for Apply {
    const PARAMS: Defs = &[&[
        required("filename", Kind::Text, "The file with the image."),
        required(
            "bdev_name",
            Kind::Name,
            "A device of the controller, or the controller itself (ours).",
        ),
        optional("slot", int(0, 7), "The slot; 0 is the controller's choice (ours).").or_int(0),
        optional("activate", Kind::Bool, "Whether the image is activated now (ours).")
            .or_bool(true),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            file: PathBuf::from(params.required::<String>("filename")?),
            bdev: params.required("bdev_name")?,
            slot: params.required("slot")?,
            activate: params.required("activate")?,
        })
    }
}

/// Reads an image. Blocks.
fn read_image(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut image = Vec::new();
    File::open(path)?.take(IMAGE_BYTES_MAX + 1).read_to_end(&mut image)?;
    if image.len() as u64 > IMAGE_BYTES_MAX {
        return Err(std::io::Error::from_raw_os_error(Errno::EFBIG as i32));
    }
    Ok(image)
}

async fn apply(context: Arc<Context>, request: Apply) -> RpcResult<String> {
    let Apply { file, bdev: Name(bdev), slot, activate } = request;
    let engine = context.engine()?;
    let name = controller_of(engine, &bdev)?;
    context.roots().check(&file)?;
    let path = file.clone();
    let reading = engine.runtime().offload().call(move || read_image(&path)).await;
    let read = reading.map_err(|_| errors::errno(Errno::EIO, "the engine is ending"))?;
    let image = read.map_err(|error| {
        let code = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        errors::errno(code, format!("cannot read {}: {error}", file.display()))
    })?;
    let updated = engine.nvme().update_firmware(&name, Firmware { image, slot, activate }).await;
    Ok(match updated.map_err(|error| errors::failed(&error))? {
        Activation::AsAsked if activate => {
            "firmware commit succeeded; the controller was reset".to_owned()
        }
        Activation::AsAsked => "firmware commit succeeded; it is not active yet".to_owned(),
        Activation::NeedsReset(status) => {
            format!("firmware commit succeeded; it is not active yet: {status}")
        }
    })
}
