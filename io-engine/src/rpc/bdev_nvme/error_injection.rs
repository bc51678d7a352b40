//! `bdev_nvme_add_error_injection`, `bdev_nvme_remove_error_injection`.

use std::sync::Arc;
use std::time::Duration;

use spdk_rs::NvmeStatus;
use spdk_rs::nvme::controller::ErrorInjection;

use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::{Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// The longest time that a command is withheld, in microseconds: a day.
const TIMEOUT_US_MAX: u64 = 86_400_000_000;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_nvme_add_error_injection", add),
        Method::new("bdev_nvme_remove_error_injection", remove),
    ]
}

/// Commands of a controller: its name, whether they are the admin queue's, and their opcode.
struct Commands {
    name: Name,
    admin: bool,
    opcode: u8,
}

fn take_byte(params: &Params<'_>, name: &'static str, most: u8) -> Result<Option<u8>, ParamError> {
    let value = params.optional_u64(name, 0..=most.into())?;
    Ok(value.and_then(|value| u8::try_from(value).ok()))
}

impl Commands {
    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let types = [("admin", true), ("io", false)];
        let opcode = params.required_u64("opc", 0..=255)?;
        Ok(Self {
            name: params.required("name")?,
            admin: params.required_choice("cmd_type", &types)?,
            opcode: u8::try_from(opcode).unwrap_or(u8::MAX),
        })
    }
}

struct Add(Name, ErrorInjection);

impl Request for Add {
    const NAMES: &'static [&'static str] =
        &["name", "opc", "cmd_type", "do_not_submit", "timeout_in_us", "err_count", "sct", "sc"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let Commands { name, admin, opcode } = Commands::take(params)?;
        let do_not_submit = params.optional("do_not_submit")?.unwrap_or(false);
        let timeout_us = params.optional_u64("timeout_in_us", 0..=TIMEOUT_US_MAX)?.unwrap_or(0);
        if timeout_us != 0 && !do_not_submit {
            let allowed = "it is the time of commands with do_not_submit; leave it out";
            return Err(params.refuse("timeout_in_us", allowed));
        }
        let sct = take_byte(params, "sct", 7)?.unwrap_or(0);
        let sc = take_byte(params, "sc", 255)?.unwrap_or(0);
        let error = ErrorInjection {
            admin,
            opcode,
            do_not_submit,
            timeout: Duration::from_micros(timeout_us),
            count: params.optional_u32("err_count", 0..=u32::MAX)?.unwrap_or(1).into(),
            status: NvmeStatus::new(sct, sc),
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
    const NAMES: &'static [&'static str] = &["name", "opc", "cmd_type"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Commands::take(params).map(Self)
    }
}

async fn remove(context: Arc<Context>, request: Remove) -> RpcResult<bool> {
    let Remove(Commands { name: Name(name), admin, opcode }) = request;
    let removed = context.engine()?.nvme().remove_error_injection(&name, admin, opcode).await;
    removed.map(|()| true).map_err(|error| errors::failed(&error))
}
