//! `bdev_nvme_get_controller_health_info`.

use std::sync::Arc;

use serde_json::{Value, json};
use spdk_rs::nvme::spec::log::{SmartHealth, critical_warning};
use zerocopy::byteorder::little_endian::U128;

use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::required;
use crate::rpc::params::{Defs, Kind, Name, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// Zero degrees Celsius in kelvins, as controllers count.
const ZERO_CELSIUS: i32 = 273;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_nvme_get_controller_health_info",
            "Tells what a controller says of its health (SMART).",
            health,
        )
        .answers(
            "object: `model_number`, `serial_number`, `firmware_revision`, `traddr`, \
             `temperature_celsius`, `available_spare_percentage`, \
             `available_spare_threshold_percentage`, `percentage_used`, `data_units_read`, \
             `data_units_written` (1000 × 512 bytes), `host_read_commands`, \
             `host_write_commands`, `controller_busy_time` (minutes), `power_cycles`, \
             `power_on_hours`, `unsafe_shutdowns`, `media_errors`, `num_err_log_entries`, \
             `warning_temperature_time_minutes`, `critical_composite_temperature_time_minutes`; \
             ours: `critical_warnings` (in words), `sensors_celsius`",
        ),
    ]
}

struct Health(Name);

impl Request for Health {
    const PARAMS: Defs = &[&[required("name", Kind::Name, "Name of the controller.")]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        params.required("name").map(Self)
    }
}

async fn health(context: Arc<Context>, request: Health) -> RpcResult<Value> {
    let Health(Name(name)) = request;
    let nvme = context.engine()?.nvme();
    let told = nvme.health(&name).await.map_err(|error| errors::failed(&error))?;
    let found = nvme.controllers(Some(&name));
    let path = found.first().and_then(|one| one.paths.first());
    let (health, [model, serial, firmware]) = told;
    let mut shown = show(&health);
    shown["model_number"] = model.into();
    shown["serial_number"] = serial.into();
    shown["firmware_revision"] = firmware.into();
    shown["traddr"] = path.map(|path| path.trid.traddr()).into();
    Ok(shown)
}

/// A counter of 128 bits as JSON, which has 64: the largest number stands for all beyond.
fn count(value: U128) -> u64 {
    u64::try_from(value.get()).unwrap_or(u64::MAX)
}

fn celsius(kelvins: u16) -> i32 {
    i32::from(kelvins) - ZERO_CELSIUS
}

fn show(health: &SmartHealth) -> Value {
    let sensors = health.sensors.iter().map(|one| one.get()).filter(|&one| one != 0);
    json!({
        "temperature_celsius": celsius(health.temperature.get()),
        "available_spare_percentage": health.available_spare,
        "available_spare_threshold_percentage": health.spare_threshold,
        "percentage_used": health.percentage_used,
        "data_units_read": count(health.data_units_read),
        "data_units_written": count(health.data_units_written),
        "host_read_commands": count(health.host_reads),
        "host_write_commands": count(health.host_writes),
        "controller_busy_time": count(health.busy_time),
        "power_cycles": count(health.power_cycles),
        "power_on_hours": count(health.power_on_hours),
        "unsafe_shutdowns": count(health.unsafe_shutdowns),
        "media_errors": count(health.media_errors),
        "num_err_log_entries": count(health.error_entries),
        "warning_temperature_time_minutes": health.warning_temperature_time.get(),
        "critical_composite_temperature_time_minutes": health.critical_temperature_time.get(),
        "critical_warnings": warnings(health.critical_warning),
        "sensors_celsius": sensors.map(celsius).collect::<Vec<_>>(),
    })
}

fn warnings(bits: u8) -> Vec<&'static str> {
    let all = [
        (critical_warning::SPARE, "available spare"),
        (critical_warning::TEMPERATURE, "temperature"),
        (critical_warning::RELIABILITY, "reliability"),
        (critical_warning::READ_ONLY, "read-only media"),
        (critical_warning::BACKUP, "volatile memory backup"),
        (critical_warning::PERSISTENT_MEMORY, "persistent memory region"),
    ];
    all.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, words)| words).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_shown_in_degrees_and_words() {
        let mut health = SmartHealth { critical_warning: 0b1010, ..Default::default() };
        health.temperature.set(300);
        health.sensors[1].set(263);
        health.power_cycles.set(u128::MAX);
        let shown = show(&health);
        assert_eq!(shown["temperature_celsius"], 27);
        assert_eq!(shown["sensors_celsius"], json!([-10]));
        assert_eq!(shown["critical_warnings"], json!(["temperature", "read-only media"]));
        assert_eq!(shown["power_cycles"], u64::MAX);
    }
}
