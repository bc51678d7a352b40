//! `bdev_nvme_add_error_injection`, `bdev_nvme_remove_error_injection`.

use std::sync::Arc;
use std::time::Duration;

use spdk_rs::NvmeStatus;
use spdk_rs::nvme::controller::ErrorInjection;

use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{choice, int, optional, required, words};
use crate::rpc::params::{Def, Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// The longest time that a command is withheld, in microseconds: a day.
const TIMEOUT_US_MAX: u64 = 86_400_000_000;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_nvme_add_error_injection",
            "Has the next commands of an opcode end with a status.",
            add,
        )
        .in_config("bdev"),
        Method::new(
            "bdev_nvme_remove_error_injection",
            "Ends the injections into commands of an opcode; that there are none is no error.",
            remove,
        ),
    ]
}

/// Commands of a controller: its name, whether they are the admin queue's, and their opcode.
struct Commands {
    name: Name,
    admin: bool,
    opcode: u8,
}

/// SPDK's words for the queues of commands.
const QUEUES: [(&str, bool); 2] = [("admin", true), ("io", false)];

impl Commands {
    const PARAMS: &'static [Def] = &[
        required("name", Kind::Name, "Name of the controller."),
        required("cmd_type", choice(&words(&QUEUES)), "The queue of the commands."),
        required("opc", int(0, 255), "Opcode of the commands."),
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            name: params.required("name")?,
            admin: params.required_choice("cmd_type", &QUEUES)?,
            opcode: params.required("opc")?,
        })
    }
}

struct Add(Name, ErrorInjection);

impl Request for Add {
    const PARAMS: Defs = &[
        Commands::PARAMS,
        &[
            optional("do_not_submit", Kind::Bool, "Whether the controller gets no such command.")
                .or_bool(false),
            optional(
                "timeout_in_us",
                int(0, TIMEOUT_US_MAX as i128),
                "How long a command takes that the controller does not get, in microseconds.",
            )
            .or_int(0),
            optional("err_count", int(0, u32::MAX as i128), "How many, over all queues.").or_int(1),
            optional("sct", int(0, 7), "Status code type.").or_int(0),
            optional("sc", int(0, 255), "Status code.").or_int(0),
        ],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let Commands { name, admin, opcode } = Commands::take(params)?;
        let do_not_submit: bool = params.required("do_not_submit")?;
        let timeout_us: u64 = params.required("timeout_in_us")?;
        if timeout_us != 0 && !do_not_submit {
            let allowed = "it is the time of commands with do_not_submit; leave it out";
            return Err(params.refuse("timeout_in_us", allowed));
        }
        let error = ErrorInjection {
            admin,
            opcode,
            do_not_submit,
            timeout: Duration::from_micros(timeout_us),
            count: params.required("err_count")?,
            status: NvmeStatus::new(params.required("sct")?, params.required("sc")?),
        };
        Ok(Self(name, error))
    }
}

async fn add(context: Arc<Context>, request: Add) -> RpcResult<bool> {
    let Add(Name(name), error) = request;
    let added = context.engine()?.nvme().add_error_injection(&name, error).await;
    added.map(|()| true).map_err(|error| errors::failed(&error))
}

struct Remove(Commands);

impl Request for Remove {
    const PARAMS: Defs = &[Commands::PARAMS];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Commands::take(params).map(Self)
    }
}

async fn remove(context: Arc<Context>, request: Remove) -> RpcResult<bool> {
    let Remove(Commands { name: Name(name), admin, opcode }) = request;
    let removed = context.engine()?.nvme().remove_error_injection(&name, admin, opcode).await;
    removed.map(|()| true).map_err(|error| errors::failed(&error))
}
