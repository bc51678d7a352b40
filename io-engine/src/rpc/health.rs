//! `bdev_get_health`, `bdev_set_health_thresholds`, `bdev_reset_health`, `bdev_set_io_timeout`.

use std::sync::Arc;
use std::time::Duration;

use jsonrpsee::types::ErrorObjectOwned;
use nix::errno::Errno;
use serde_json::{Value, json};
use spdk_rs::bdev::{Bdev, IoTimeout, IoTimeoutAction};

use super::bdev::{NAME, find};
use super::errors::{self, RpcResult};
use super::params::def::{choice, int, optional, required, words};
use super::params::{Defs, Kind, Name, ParamError, Params, Request};
use super::{Context, Method};
use crate::core::events::{DeviceMonitor, Thresholds};

/// The longest time limit in microseconds: a day.
const TIMEOUT_US_MAX: i128 = 86_400_000_000;
/// The shortest time limit in microseconds: it is looked at every millisecond at the most.
const TIMEOUT_US_MIN: u64 = 1000;

/// A number of errors.
const COUNT: Kind = int(0, u64::MAX as i128);
/// What can be asked for when an I/O is late. None is what no device can do by itself.
const ACTIONS: [(&str, Option<IoTimeoutAction>); 4] = [
    (IoTimeoutAction::Ignore.name(), Some(IoTimeoutAction::Ignore)),
    (IoTimeoutAction::Reset.name(), Some(IoTimeoutAction::Reset)),
    (IoTimeoutAction::Remove.name(), Some(IoTimeoutAction::Remove)),
    ("abort", None),
];

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_get_health", "Tells how devices are.", get_health).answers(
            "list: `name`, `state` (`online`, `degraded` or `faulted`), `reasons`, counts, \
             `thresholds`, `timeout_us`, `action`",
        ),
        Method::new(
            "bdev_set_health_thresholds",
            "Says how many errors make a device degraded or faulted.",
            set_thresholds,
        )
        .in_config("bdev"),
        Method::new("bdev_reset_health", "Forgets the errors of a device.", reset_health),
        Method::new("bdev_set_io_timeout", "Limits the time of each I/O.", set_io_timeout)
            .in_config("bdev"),
    ]
}

struct GetHealth(Option<Name>);

impl Request for GetHealth {
    const PARAMS: Defs =
        &[&[optional("name", Kind::Name, "Only the device with this name, alias or UUID.")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self(params.optional("name")?))
    }
}

async fn get_health(context: Arc<Context>, request: GetHealth) -> RpcResult<Vec<Value>> {
    let engine = context.engine()?;
    let devices = match request.0 {
        Some(name) => vec![find(&context, &name)?],
        None => engine.registry().all(),
    };
    Ok(devices.iter().map(|bdev| of_device(engine.monitor(), bdev)).collect())
}

fn of_device(monitor: &DeviceMonitor, bdev: &Bdev) -> Value {
    let (health, general) = (monitor.health(bdev.name()), monitor.thresholds());
    let (state, reasons) = health.judge(&general);
    let limits = health.thresholds.unwrap_or(general);
    let timeout = bdev.io_timeout();
    let timeout_us = timeout.map_or(0, |timeout| timeout.after.as_micros());
    json!({
        "name": bdev.name(),
        "state": state.name(),
        "reasons": reasons,
        "media_errors": health.media_errors,
        "io_timeouts": health.io_timeouts,
        "admin_failures": health.admin_failures,
        "reconnects": health.reconnects,
        "path_failed": health.path_failed,
        "reconnecting": health.reconnecting,
        "unreachable": health.unreachable,
        "read_only": health.read_only,
        "thresholds": {
            "degraded_media_errors": limits.degraded_media_errors,
            "faulted_media_errors": limits.faulted_media_errors,
            "degraded_io_timeouts": limits.degraded_io_timeouts,
            "faulted_io_timeouts": limits.faulted_io_timeouts,
        },
        "timeout_us": u64::try_from(timeout_us).unwrap_or(u64::MAX),
        "action": timeout.map(|timeout| timeout.action.name()),
    })
}

struct SetThresholds {
    name: Option<Name>,
    degraded_media: Option<u64>,
    faulted_media: Option<u64>,
    degraded_timeouts: Option<u64>,
    faulted_timeouts: Option<u64>,
}

impl Request for SetThresholds {
    const PARAMS: Defs = &[&[
        optional("name", Kind::Name, "The device; else every device without limits of its own."),
        optional("degraded_media_errors", COUNT, "Media errors that make it degraded; 0: none."),
        optional("faulted_media_errors", COUNT, "Media errors that make it faulted; 0: none."),
        optional("degraded_io_timeouts", COUNT, "Late I/Os that make it degraded; 0: none."),
        optional("faulted_io_timeouts", COUNT, "Late I/Os that make it faulted; 0: none."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let count = |name| params.optional(name);
        Ok(Self {
            name: params.optional("name")?,
            degraded_media: count("degraded_media_errors")?,
            faulted_media: count("faulted_media_errors")?,
            degraded_timeouts: count("degraded_io_timeouts")?,
            faulted_timeouts: count("faulted_io_timeouts")?,
        })
    }
}

async fn set_thresholds(context: Arc<Context>, request: SetThresholds) -> RpcResult<bool> {
    let monitor = context.engine()?.monitor();
    let bdev = request.name.as_ref().map(|name| find(&context, name)).transpose()?;
    let name = bdev.as_ref().map(|bdev| bdev.name());
    let own = name.and_then(|name| monitor.health(name).thresholds);
    let before = own.unwrap_or_else(|| monitor.thresholds());
    let thresholds = Thresholds {
        degraded_media_errors: request.degraded_media.unwrap_or(before.degraded_media_errors),
        faulted_media_errors: request.faulted_media.unwrap_or(before.faulted_media_errors),
        degraded_io_timeouts: request.degraded_timeouts.unwrap_or(before.degraded_io_timeouts),
        faulted_io_timeouts: request.faulted_timeouts.unwrap_or(before.faulted_io_timeouts),
    };
    known(name.unwrap_or_default(), monitor.set_thresholds(name, thresholds))
}

struct ByName(Name);

impl Request for ByName {
    const PARAMS: Defs = &[&[NAME]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self(params.required("name")?))
    }
}

async fn reset_health(context: Arc<Context>, request: ByName) -> RpcResult<bool> {
    let bdev = find(&context, &request.0)?;
    known(bdev.name(), context.engine()?.monitor().reset(bdev.name()))
}

/// Whether the monitor knew a device: it may have gone between the look-up and this.
fn known(name: &str, known: bool) -> RpcResult<bool> {
    let gone = || errors::errno(Errno::ENODEV, format!("there is no device '{name}'"));
    known.then_some(true).ok_or_else(gone)
}

struct SetIoTimeout {
    name: Name,
    after: Duration,
    action: Option<IoTimeoutAction>,
}

impl Request for SetIoTimeout {
    const PARAMS: Defs = &[&[
        NAME,
        required(
            "timeout_us",
            int(0, TIMEOUT_US_MAX),
            "Microseconds after which an I/O is late, at least 1000; 0 is no limit.",
        ),
        optional(
            "action",
            choice(&words(&ACTIONS)),
            "What is done when an I/O is late; `abort` is refused with -95.",
        )
        .or_text("ignore"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let name = params.required("name")?;
        let us = params.required("timeout_us")?;
        if us != 0 && us < TIMEOUT_US_MIN {
            let allowed = format!("it has to be 0 for no limit, or at least {TIMEOUT_US_MIN}");
            return Err(params.refuse("timeout_us", allowed));
        }
        let action = params.required_choice("action", &ACTIONS)?;
        Ok(Self { name, after: Duration::from_micros(us), action })
    }
}

async fn set_io_timeout(context: Arc<Context>, request: SetIoTimeout) -> RpcResult<bool> {
    let SetIoTimeout { name, after, action } = request;
    let bdev = find(&context, &name)?;
    let action = action.ok_or_else(|| no_abort(&bdev))?;
    bdev.set_io_timeout((!after.is_zero()).then_some(IoTimeout { after, action })).await;
    Ok(true)
}

/// The refusal of the action `abort`: an I/O that was answered while its device still has it would be
/// done later, over whatever was written to its place meanwhile.
fn no_abort(bdev: &Bdev) -> ErrorObjectOwned {
    let (name, driver) = (bdev.name(), bdev.info().driver_name);
    let instead = match driver {
        "nvme" => {
            "commands of NVMe controllers are aborted by action_on_timeout of bdev_nvme_set_options"
        }
        _ => "there are ignore, reset and remove",
    };
    let words = format!(
        "parameter `action` cannot be \"abort\": single I/Os of device '{name}' ({driver}) cannot \
         be taken back, and would be done after their answer; {instead}"
    );
    errors::errno(Errno::EOPNOTSUPP, words)
}
