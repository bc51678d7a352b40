//! `bdev_nvme_set_hotplug`.

use std::sync::Arc;
use std::time::Duration;

use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{int, optional, required};
use crate::rpc::params::{Defs, Kind, ParamError, Params, Request};
use crate::rpc::{Context, Method};
use crate::subsys::hotplug::{PERIOD_DEFAULT, PERIOD_MAX};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_nvme_set_hotplug",
            "Switches hot plug of PCIe controllers on or off. While it is on, every controller \
             that `vfio-pci` has and that the daemon may use is attached, under its PCI address as \
             its name, now and when it is plugged in; one that is gone is detached.",
            set_hotplug,
        )
        .in_config("bdev"),
    ]
}

struct SetHotplug {
    enable: bool,
    period: Duration,
}

impl Request for SetHotplug {
    const PARAMS: Defs = &[&[
        required("enable", Kind::Bool, "Whether it is on."),
        optional(
            "period_us",
            int(0, PERIOD_MAX.as_micros() as i128),
            "Microseconds until a controller that could not be attached is tried again, and \
             between two looks where the kernel's announcements cannot be had; 0 is 100000.",
        )
        .or_int(0),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let period: u64 = params.required("period_us")?;
        let period = if period == 0 { PERIOD_DEFAULT } else { Duration::from_micros(period) };
        Ok(Self { enable: params.required("enable")?, period })
    }
}

async fn set_hotplug(context: Arc<Context>, request: SetHotplug) -> RpcResult<bool> {
    context.engine()?;
    if request.enable {
        let started = context.hotplug().start(&context, request.period).await;
        started.map_err(|error| errors::failed(&error))?;
    } else {
        context.hotplug().stop().await;
    }
    Ok(true)
}
