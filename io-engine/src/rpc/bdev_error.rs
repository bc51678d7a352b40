//! `bdev_error_create`, `bdev_error_inject_error`, `bdev_error_resume_pending`,
//! `bdev_error_delete`.

use std::sync::Arc;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoType;
use spdk_rs::drivers::error::{self, DRIVER, ErrorKind, ErrorOptions, IO_TYPES};
use uuid::Uuid;

use super::bdev::{Delete, NAME, delete, find_of};
use super::errors::{self, RpcResult};
use super::params::def::{choice, int, optional, required, words};
use super::params::{Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev::layers::{self, LayerKind, LayerRequest};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_error_create",
            "Creates a device that fails when it is told to, `EE_` with the name of the one below.",
            create,
        )
        .in_config("bdev"),
        Method::new(
            "bdev_error_inject_error",
            "Has the next I/Os of an error device fail, wait, or carry wrong data.",
            inject,
        )
        .in_config("bdev"),
        Method::new(
            "bdev_error_resume_pending",
            "Lets I/O go on that an error device keeps, and has it keep no more.",
            resume_pending,
        ),
        Method::new("bdev_error_delete", "Removes an error device.", |context, request: Delete| {
            delete(context, request, DRIVER)
        }),
    ]
}

struct Create {
    base: Name,
    uuid: Option<Uuid>,
}

impl Request for Create {
    const PARAMS: Defs = &[&[
        required("base_name", Kind::Name, "The device below: its name, alias or UUID."),
        optional("uuid", Kind::Uuid, "The device's UUID; made from the base's when left out."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { base: params.required("base_name")?, uuid: params.optional("uuid")? })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<bool> {
    let Create { base: Name(base), uuid } = request;
    let request = LayerRequest { name: None, base, uuid, kind: LayerKind::Error };
    let made = layers::create(context.engine()?, &request).await;
    made.map(|_| true).map_err(|error| errors::bdev(&error))
}

/// Which I/O an order is for.
#[derive(Clone, Copy)]
enum Injected {
    One(IoType),
    All,
    None,
}

/// SPDK's words for types of I/O.
const TYPES: [(&str, Injected); 6] = [
    ("read", Injected::One(IoType::Read)),
    ("write", Injected::One(IoType::Write)),
    ("flush", Injected::One(IoType::Flush)),
    ("unmap", Injected::One(IoType::Unmap)),
    ("all", Injected::All),
    ("clear", Injected::None),
];

/// SPDK's words for types of errors.
const ERRORS: [(&str, ErrorType); 5] = [
    ("failure", ErrorType::Failure),
    ("pending", ErrorType::Pending),
    ("corrupt_data", ErrorType::CorruptData),
    ("nomem", ErrorType::NoMemory),
    ("nvme_failure", ErrorType::NvmeFailure),
];

/// What SPDK calls a type of error.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ErrorType {
    Failure,
    Pending,
    CorruptData,
    NoMemory,
    NvmeFailure,
}

struct Inject {
    name: Name,
    /// None: every injection ends.
    order: Option<(Vec<IoType>, ErrorOptions)>,
}

impl Request for Inject {
    const PARAMS: Defs = &[&[
        NAME,
        required("io_type", choice(&words(&TYPES)), "The I/O; with `clear` every injection ends."),
        required("error_type", choice(&words(&ERRORS)), "What happens to it."),
        optional("nvme_sct", int(0, 7), "Status code type, for `nvme_failure`.").or_int(0),
        optional("nvme_sc", int(0, 255), "Status code, for `nvme_failure`.").or_int(0),
        optional("num", int(0, u32::MAX as i128), "How many I/Os, over all cores.").or_int(1),
        optional(
            "queue_depth",
            int(0, u64::MAX as i128),
            "How many I/Os of the core have to be in flight.",
        )
        .or_int(0),
        optional(
            "corrupt_offset",
            int(0, u64::MAX as i128),
            "The byte that `corrupt_data` changes, counted from the start of the data.",
        )
        .or_int(0),
        optional(
            "corrupt_value",
            int(0, 255),
            "What the byte is combined with by exclusive or; 1 to 255 for `corrupt_data`.",
        )
        .or_int(0),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        let io_type = params.required_choice("io_type", &TYPES)?;
        let kind = take_kind(params)?;
        let options = ErrorOptions {
            kind,
            num: params.required("num")?,
            queue_depth: params.required("queue_depth")?,
        };
        let order = match io_type {
            Injected::One(kind) => Some((vec![kind], options)),
            Injected::All => Some((IO_TYPES.to_vec(), options)),
            Injected::None => None,
        };
        Ok(Self { name, order })
    }
}

fn take_kind(params: &Params<'_>) -> Result<ErrorKind, ParamError> {
    let error_type = params.required_choice("error_type", &ERRORS)?;
    let (sct, sc): (u8, u8) = (params.required("nvme_sct")?, params.required("nvme_sc")?);
    let status = NvmeStatus::new(sct, sc);
    if (error_type == ErrorType::NvmeFailure) == status.is_success() {
        let allowed = "nvme_sct or nvme_sc belong to error_type nvme_failure, and are not both 0";
        return Err(params.refuse("nvme_sc", allowed));
    }
    let offset_bytes = params.required("corrupt_offset")?;
    let value: u8 = params.required("corrupt_value")?;
    if error_type == ErrorType::CorruptData && value == 0 {
        let allowed = "for corrupt_data it has to be 1 to 255: the byte is combined with it by \
                       exclusive or";
        return Err(params.refuse("corrupt_value", allowed));
    }
    Ok(match error_type {
        ErrorType::Failure => ErrorKind::Fail(NvmeStatus::INTERNAL_ERROR),
        ErrorType::Pending => ErrorKind::Pending,
        ErrorType::CorruptData => ErrorKind::Corrupt { offset_bytes, value },
        ErrorType::NoMemory => ErrorKind::Fail(NvmeStatus::NOT_READY),
        ErrorType::NvmeFailure => ErrorKind::Fail(status),
    })
}

async fn inject(context: Arc<Context>, request: Inject) -> RpcResult<bool> {
    let bdev = find_of(&context, &request.name, DRIVER)?;
    Ok(match &request.order {
        Some((kinds, options)) => error::inject(&bdev, kinds, options),
        None => error::clear(&bdev),
    })
}

async fn resume_pending(context: Arc<Context>, request: Pending) -> RpcResult<bool> {
    let bdev = find_of(&context, &request.0, DRIVER)?;
    Ok(error::resume_pending(&bdev).await.is_some())
}

struct Pending(Name);

impl Request for Pending {
    const PARAMS: Defs = &[&[NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}
