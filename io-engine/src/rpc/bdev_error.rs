//! `bdev_error_create`, `bdev_error_inject_error`, `bdev_error_resume_pending`,
//! `bdev_error_delete`.

use std::sync::Arc;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoType;
use spdk_rs::drivers::error::{self, DRIVER, ErrorKind, ErrorOptions, IO_TYPES};
use uuid::Uuid;

use super::bdev::{Delete, delete, find_of};
use super::errors::{self, RpcResult};
use super::params::{Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::bdev::layers::{self, LayerKind, LayerRequest};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_error_create", create).in_config("bdev"),
        Method::new("bdev_error_inject_error", inject),
        Method::new("bdev_error_resume_pending", resume_pending),
        Method::new("bdev_error_delete", |context, request: Delete| {
            delete(context, request, DRIVER)
        }),
    ]
}

struct Create {
    base: Name,
    uuid: Option<Uuid>,
}

impl Request for Create {
    const NAMES: &'static [&'static str] = &["base_name", "uuid"];

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
    const NAMES: &'static [&'static str] = &[
        "name",
        "io_type",
        "error_type",
        "nvme_sct",
        "nvme_sc",
        "num",
        "queue_depth",
        "corrupt_offset",
        "corrupt_value",
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        let one = |kind| Some(Some(kind));
        let io_types = [
            ("read", one(IoType::Read)),
            ("write", one(IoType::Write)),
            ("flush", one(IoType::Flush)),
            ("unmap", one(IoType::Unmap)),
            ("all", Some(None)),
            ("clear", None),
        ];
        let io_type = params.required_choice("io_type", &io_types)?;
        let kind = take_kind(params)?;
        let options = ErrorOptions {
            kind,
            num: params.optional_u32("num", 0..=u32::MAX)?.unwrap_or(1).into(),
            queue_depth: params.optional_u64("queue_depth", 0..=u64::MAX)?.unwrap_or(0),
        };
        let order = match io_type {
            Some(Some(kind)) => Some((vec![kind], options)),
            Some(None) => Some((IO_TYPES.to_vec(), options)),
            None => None,
        };
        Ok(Self { name, order })
    }
}

fn take_kind(params: &Params<'_>) -> Result<ErrorKind, ParamError> {
    let types = [
        ("failure", ErrorType::Failure),
        ("pending", ErrorType::Pending),
        ("corrupt_data", ErrorType::CorruptData),
        ("nomem", ErrorType::NoMemory),
        ("nvme_failure", ErrorType::NvmeFailure),
    ];
    let error_type = params.required_choice("error_type", &types)?;
    let sct = params.optional_u64("nvme_sct", 0..=7)?.and_then(|sct| u8::try_from(sct).ok());
    let sc = params.optional_u64("nvme_sc", 0..=255)?.and_then(|sc| u8::try_from(sc).ok());
    let status = NvmeStatus::new(sct.unwrap_or(0), sc.unwrap_or(0));
    if (error_type == ErrorType::NvmeFailure) == status.is_success() {
        let allowed = "nvme_sct or nvme_sc belong to error_type nvme_failure, and are not both 0";
        return Err(params.refuse("nvme_sc", allowed));
    }
    let offset_bytes = params.optional_u64("corrupt_offset", 0..=u64::MAX)?.unwrap_or(0);
    let value = params.optional_u16("corrupt_value", 0..=255)?.unwrap_or(0);
    let value = u8::try_from(value).unwrap_or(u8::MAX);
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
    const NAMES: &'static [&'static str] = &["name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}
