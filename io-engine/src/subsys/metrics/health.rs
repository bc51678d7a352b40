//! How devices are, and how many events there were.

use super::text::{Exposition, Kind, KindFigure};
use crate::core::Engine;
use crate::core::events::{DeviceHealth, HealthState};

const COUNTS: [KindFigure<DeviceHealth, u64>; 4] = [
    (
        "io_engine_bdev_media_errors_total",
        Kind::Counter,
        "I/Os that failed because of the medium or the device, since bdev_reset_health.",
        |health| health.media_errors,
    ),
    (
        "io_engine_bdev_io_timeouts_total",
        Kind::Counter,
        "I/Os of a device that took longer than its time limit, since bdev_reset_health.",
        |health| health.io_timeouts,
    ),
    (
        "io_engine_bdev_admin_failures_total",
        Kind::Counter,
        "Times that the admin queue of a device's controller failed, since bdev_reset_health.",
        |health| health.admin_failures,
    ),
    (
        "io_engine_bdev_reconnects_total",
        Kind::Counter,
        "Times that no path to a device was left, since bdev_reset_health.",
        |health| health.reconnects,
    ),
];

pub(super) fn write(out: &mut Exposition, engine: &Engine) {
    let (monitor, general) = (engine.monitor(), engine.monitor().thresholds());
    let devices = engine.registry().all();
    let all: Vec<(&str, DeviceHealth)> =
        devices.iter().map(|bdev| (bdev.name(), monitor.health(bdev.name()))).collect();
    let help = "How a device is: the state that it is in is 1, the others are 0.";
    let mut family = out.family("io_engine_bdev_health", Kind::Gauge, help);
    for (bdev, health) in &all {
        let (now, _) = health.judge(&general);
        for state in HealthState::ALL {
            family.sample(&[("bdev", bdev), ("state", state.name())], state == now);
        }
    }
    for (name, kind, help, value) in COUNTS {
        let mut family = out.family(name, kind, help);
        for (bdev, health) in &all {
            family.sample(&[("bdev", bdev)], value(health));
        }
    }
    let help = "Events of devices and pools.";
    out.single("io_engine_events_total", Kind::Counter, help, engine.events().count());
}
