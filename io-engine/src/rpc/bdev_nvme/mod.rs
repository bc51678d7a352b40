//! `bdev_nvme_*`: NVMe controllers and their namespaces as devices.

mod attach;
mod controllers;
mod detach;
mod discovery;
mod enable;
#[cfg(feature = "fault-injection")]
mod error_injection;
mod firmware;
mod health;
mod hotplug;
mod namespaces;
mod options;
mod paths;
mod send_cmd;
mod trid;

use super::Method;

pub(in crate::rpc) use options::Defaults;

pub(in crate::rpc) fn methods() -> Vec<Method> {
    let mut all = attach::methods();
    all.extend(controllers::methods());
    all.extend(detach::methods());
    all.extend(discovery::methods());
    all.extend(enable::methods());
    #[cfg(feature = "fault-injection")]
    all.extend(error_injection::methods());
    all.extend(firmware::methods());
    all.extend(health::methods());
    all.extend(hotplug::methods());
    all.extend(namespaces::methods());
    all.extend(options::methods());
    all.extend(paths::methods());
    all.extend(send_cmd::methods());
    all
}
