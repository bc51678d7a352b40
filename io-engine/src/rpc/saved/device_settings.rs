//! What is set on devices, whatever their driver is, as a configuration file sets it again: limits
//! of rates and times, histograms, sampling, thresholds of health.

use std::time::Duration;

use serde_json::{Map, Value, json};
use spdk_rs::bdev::{Bdev, IoType};

use super::Call;
use crate::core::Engine;
use crate::core::events::Thresholds;
use crate::rpc::qos;

/// What holds for every device without settings of its own.
pub(super) fn general(engine: &Engine) -> Vec<Call> {
    let thresholds = engine.monitor().thresholds();
    let usual = thresholds == Thresholds::default();
    if usual { Vec::new() } else { vec![set_thresholds(None, &thresholds)] }
}

/// The settings of one device.
pub(super) fn of_device(engine: &Engine, bdev: &Bdev) -> Vec<Call> {
    let name = bdev.name();
    let mut all: Vec<Call> = limits(bdev).into_iter().collect();
    if let Some(timeout) = bdev.io_timeout() {
        let params = json!({
            "name": name,
            "timeout_us": micros(timeout.after),
            "action": timeout.action.name(),
        });
        all.push(Call::new("bdev_set_io_timeout", params));
    }
    if let Some(sampled) = bdev.queue_depth() {
        let params = json!({ "name": name, "period": micros(sampled.period) });
        all.push(Call::new("bdev_set_qd_sampling_period", params));
    }
    all.extend(histogram(bdev));
    if let Some(thresholds) = engine.monitor().health(name).thresholds {
        all.push(set_thresholds(Some(name), &thresholds));
    }
    all
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The limits of the rate, if there are any.
fn limits(bdev: &Bdev) -> Option<Call> {
    let Value::Object(shown) = qos::of_device(bdev) else { return None };
    let mut params: Map<String, Value> =
        shown.into_iter().filter(|(_, limit)| *limit != 0).collect();
    if params.is_empty() {
        return None;
    }
    params.insert("name".to_owned(), bdev.name().into());
    Some(Call::new("bdev_set_qos_limit", params.into()))
}

fn histogram(bdev: &Bdev) -> Option<Call> {
    let (options, _) = bdev.histograms()?;
    let kinds: Vec<IoType> =
        IoType::ALL.iter().copied().filter(|&kind| options.kinds.contains(kind)).collect();
    // More than one is every kind that the device has.
    let only = match kinds.as_slice() {
        [only] => Some(only.name()),
        _ => None,
    };
    let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let params = json!({
        "name": bdev.name(),
        "enable": true,
        "opc": only,
        "granularity": options.granularity,
        "min_nsec": nanos(options.min),
        "max_nsec": nanos(options.max),
    });
    Some(Call::new("bdev_enable_histogram", params))
}

fn set_thresholds(name: Option<&str>, thresholds: &Thresholds) -> Call {
    let params = json!({
        "name": name,
        "degraded_media_errors": thresholds.degraded_media_errors,
        "faulted_media_errors": thresholds.faulted_media_errors,
        "degraded_io_timeouts": thresholds.degraded_io_timeouts,
        "faulted_io_timeouts": thresholds.faulted_io_timeouts,
    });
    Call::new("bdev_set_health_thresholds", params)
}
