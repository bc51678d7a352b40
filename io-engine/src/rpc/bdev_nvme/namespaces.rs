//! `nvme_format`, `nvme_sanitize`, `nvme_namespace_*`: changes of a controller's namespaces (ours).

use std::sync::Arc;

use serde_json::{Value, json};
use spdk_rs::drivers::nvme::{Format, FormatChoice, NvmeError, Sanitize, SecureErase};
use spdk_rs::nvme::controller::NewNamespace;
use spdk_rs::nvme::spec::manage::sanitize_state;

use crate::core::Engine;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{choice, int, optional, required, words};
use crate::rpc::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// The largest number of a namespace.
const NSID_MAX: i128 = 0xffff_fffe;
/// The controller.
const CONTROLLER: Def =
    required("name", Kind::Name, "Name of the controller, or of a device of it.");
/// The namespace.
const NSID: Def = required("nsid", int(1, NSID_MAX), "Number of the namespace.");

/// How data are erased.
const ERASES: [(&str, SecureErase); 3] = [
    ("none", SecureErase::None),
    ("user_data", SecureErase::UserData),
    ("crypto", SecureErase::Crypto),
];

/// What a sanitize operation does; the words of an overwrite are filled in later.
const ACTIONS: [(&str, Sanitize); 4] = [
    ("block_erase", Sanitize::BlockErase),
    ("overwrite", Sanitize::Overwrite { passes: 1, pattern: 0, invert: false }),
    ("crypto_erase", Sanitize::CryptoErase),
    ("exit_failure", Sanitize::ExitFailure),
];

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "nvme_format",
            "Formats a namespace; all data in it are lost. Error -16 while its device is open \
             (ours).",
            format,
        ),
        Method::new(
            "nvme_sanitize",
            "Starts to sanitize all that a controller's subsystem stores; it goes on afterwards, \
             and I/O fails until its end. Error -16 while a device is open (ours).",
            sanitize,
        ),
        Method::new(
            "nvme_get_sanitize_status",
            "Tells how far a sanitize operation is (ours).",
            sanitize_status,
        )
        .answers(
            "object: `state` (`never`, `completed`, `in_progress`, `failed`), `progress_percent`, \
             `overwrite_passes`",
        ),
        Method::new("nvme_namespace_create", "Makes a namespace (ours).", create)
            .answers("number of the namespace"),
        Method::new(
            "nvme_namespace_delete",
            "Deletes a namespace; all data in it are lost. Error -16 while its device is open \
             (ours).",
            delete,
        ),
        Method::new(
            "nvme_namespace_attach",
            "Attaches a namespace to the controller; it becomes a device (ours).",
            |context, request| attach(context, request, true),
        ),
        Method::new(
            "nvme_namespace_detach",
            "Detaches a namespace from the controller; its device goes. Error -16 while that is \
             open (ours).",
            |context, request| attach(context, request, false),
        ),
    ]
}

/// The controller of a name, or that a device of the name belongs to.
pub(super) fn controller_of(engine: &Engine, name: &str) -> RpcResult<String> {
    let all = engine.nvme().controllers(None);
    if all.iter().any(|one| one.name == name) {
        return Ok(name.to_owned());
    }
    // Devices have aliases and UUIDs too.
    let device = engine.registry().find(name).map(|bdev| bdev.name().to_owned());
    let device = device.unwrap_or_else(|_| name.to_owned());
    let found = all.iter().find(|one| one.bdevs.contains(&device));
    found
        .map(|one| one.name.clone())
        .ok_or_else(|| errors::failed(&NvmeError::NotFound { name: name.to_owned() }))
}

/// The LBA format that is asked for, in one of two ways.
const LBA_FORMAT: &[Def] = &[
    optional("lbaf", int(0, 63), "Index of the LBA format."),
    optional(
        "block_size",
        Kind::OneOf(&[512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]),
        "Bytes per block instead: the fastest LBA format of that size without metadata.",
    ),
];

fn take_format(params: &Params<'_>) -> Result<FormatChoice, ParamError> {
    let index: Option<u8> = params.optional("lbaf")?;
    let block_len: Option<u32> = params.optional("block_size")?;
    match (index, block_len) {
        (Some(_), Some(_)) => {
            Err(params.refuse("block_size", "`lbaf` says it already; leave one of them out"))
        }
        (Some(index), None) => Ok(FormatChoice::Index(index)),
        (None, Some(bytes)) => Ok(FormatChoice::BlockLen(bytes)),
        (None, None) => Ok(FormatChoice::Present),
    }
}

struct FormatRequest {
    name: Name,
    nsid: Option<u32>,
    how: Format,
}

impl Request for FormatRequest {
    const PARAMS: Defs = &[
        &[
            CONTROLLER,
            optional("nsid", int(1, NSID_MAX), "Number of the namespace; all of them without it."),
        ],
        LBA_FORMAT,
        &[optional("secure_erase", choice(&words(&ERASES)), "How the data are erased.")
            .or_text("none")],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let erase = params.required_choice("secure_erase", &ERASES)?;
        Ok(Self {
            name: params.required("name")?,
            nsid: params.optional("nsid")?,
            how: Format { choice: take_format(params)?, erase },
        })
    }
}

async fn format(context: Arc<Context>, request: FormatRequest) -> RpcResult<bool> {
    let engine = context.engine()?;
    let name = controller_of(engine, &request.name.0)?;
    let done = engine.nvme().format(&name, request.nsid, request.how).await;
    done.map(|()| true).map_err(|error| errors::failed(&error))
}

struct SanitizeRequest {
    name: Name,
    how: Sanitize,
    no_deallocate: bool,
}

impl Request for SanitizeRequest {
    const PARAMS: Defs = &[&[
        CONTROLLER,
        required("action", choice(&words(&ACTIONS)), "What is done."),
        optional("passes", int(1, 16), "Passes of an overwrite.").or_int(1),
        optional("pattern", int(0, u32::MAX as i128), "What an overwrite writes.").or_int(0),
        optional("invert", Kind::Bool, "Whether each pass inverts the pattern.").or_bool(false),
        optional("no_deallocate", Kind::Bool, "Do not deallocate the blocks afterwards.")
            .or_bool(false),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let action = params.required_choice("action", &ACTIONS)?;
        let how = match action {
            Sanitize::Overwrite { .. } => Sanitize::Overwrite {
                passes: params.required("passes")?,
                pattern: params.required("pattern")?,
                invert: params.required("invert")?,
            },
            other => {
                let given = ["passes", "pattern", "invert"];
                if let Some(name) = given.into_iter().find(|name| params.has(name)) {
                    return Err(params.refuse(name, "only an overwrite has it; leave it out"));
                }
                other
            }
        };
        let no_deallocate = params.required("no_deallocate")?;
        Ok(Self { name: params.required("name")?, how, no_deallocate })
    }
}

async fn sanitize(context: Arc<Context>, request: SanitizeRequest) -> RpcResult<bool> {
    let engine = context.engine()?;
    let name = controller_of(engine, &request.name.0)?;
    let done = engine.nvme().sanitize(&name, request.how, request.no_deallocate).await;
    done.map(|()| true).map_err(|error| errors::failed(&error))
}

struct OfController(Name);

impl Request for OfController {
    const PARAMS: Defs = &[&[CONTROLLER]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}

async fn sanitize_status(context: Arc<Context>, request: OfController) -> RpcResult<Value> {
    let engine = context.engine()?;
    let name = controller_of(engine, &request.0.0)?;
    let read = engine.nvme().sanitize_status(&name).await;
    let status = read.map_err(|error| errors::failed(&error))?;
    let state = status.sstat.get();
    let words = match state & 7 {
        sanitize_state::NEVER => "never",
        sanitize_state::IN_PROGRESS => "in_progress",
        sanitize_state::FAILED => "failed",
        _ => "completed",
    };
    let progress = match state & 7 {
        sanitize_state::IN_PROGRESS => u32::from(status.sprog.get()) * 100 / 65536,
        sanitize_state::NEVER => 0,
        _ => 100,
    };
    Ok(json!({
        "state": words,
        "progress_percent": progress,
        "overwrite_passes": state >> 3 & 0x1f,
    }))
}

struct Create {
    name: Name,
    new: NewNamespace,
    choice: FormatChoice,
    attach: bool,
}

impl Request for Create {
    const PARAMS: Defs = &[
        &[
            CONTROLLER,
            required("num_blocks", int(1, 1 << 52), "Its size in blocks."),
            optional(
                "capacity_blocks",
                int(1, 1 << 52),
                "How many of them can be allocated; all of them when left out.",
            ),
        ],
        LBA_FORMAT,
        &[
            optional("shared", Kind::Bool, "Whether more than one controller may have it.")
                .or_bool(false),
            optional("attach", Kind::Bool, "Whether it is attached to the controller.")
                .or_bool(true),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let num_blocks = params.required("num_blocks")?;
        let capacity: Option<u64> = params.optional("capacity_blocks")?;
        if capacity.is_some_and(|capacity| capacity > num_blocks) {
            return Err(params.refuse("capacity_blocks", "it is at most `num_blocks`"));
        }
        let choice = take_format(params)?;
        let new = NewNamespace {
            num_blocks,
            capacity_blocks: capacity.unwrap_or(num_blocks),
            lbaf: 0,
            shared: params.required("shared")?,
        };
        Ok(Self { name: params.required("name")?, new, choice, attach: params.required("attach")? })
    }
}

async fn create(context: Arc<Context>, request: Create) -> RpcResult<u32> {
    let engine = context.engine()?;
    let name = controller_of(engine, &request.name.0)?;
    let Create { new, choice, attach, .. } = request;
    let made = engine.nvme().create_namespace(&name, new, choice, attach).await;
    made.map_err(|error| errors::failed(&error))
}

struct OfNamespace {
    name: Name,
    nsid: u32,
}

impl Request for OfNamespace {
    const PARAMS: Defs = &[&[CONTROLLER, NSID]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { name: params.required("name")?, nsid: params.required("nsid")? })
    }
}

async fn delete(context: Arc<Context>, request: OfNamespace) -> RpcResult<bool> {
    let engine = context.engine()?;
    let name = controller_of(engine, &request.name.0)?;
    let done = engine.nvme().delete_namespace(&name, request.nsid).await;
    done.map(|()| true).map_err(|error| errors::failed(&error))
}

async fn attach(context: Arc<Context>, request: OfNamespace, attach: bool) -> RpcResult<bool> {
    let engine = context.engine()?;
    let name = controller_of(engine, &request.name.0)?;
    let done = engine.nvme().attach_namespace(&name, request.nsid, attach).await;
    done.map(|()| true).map_err(|error| errors::failed(&error))
}
