//! Faults that are injected, as a configuration file injects them again: what is left of them. I/O
//! that a fault holds is not a part of a configuration.

use serde_json::json;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{Bdev, IoType};
use spdk_rs::drivers::error::{self, ErrorKind, ErrorOptions};
use spdk_rs::nvme::controller::ErrorInjection;

use super::Call;
use crate::core::Engine;
use crate::core::fault_injection::InjectionSpec;

/// The injections, in the order in which I/O passes them.
pub(super) async fn injections(engine: &Engine) -> Vec<Call> {
    let create = |spec: &InjectionSpec| {
        Call::new("fault_injection_create", json!({ "uri": spec.to_string() }))
    };
    engine.faults().remaining().await.iter().map(create).collect()
}

/// The errors that are injected into commands of NVMe controllers.
pub(super) fn commands(engine: &Engine) -> Vec<Call> {
    let add = |(name, error): &(String, ErrorInjection)| {
        let params = json!({
            "name": name,
            "cmd_type": if error.admin { "admin" } else { "io" },
            "opc": error.opcode,
            "do_not_submit": error.do_not_submit,
            "timeout_in_us": u64::try_from(error.timeout.as_micros()).unwrap_or(u64::MAX),
            "err_count": error.count,
            "sct": error.status.sct(),
            "sc": error.status.sc(),
        });
        Call::new("bdev_nvme_add_error_injection", params)
    };
    engine.nvme().error_injections().iter().map(add).collect()
}

/// What an error device was told to do.
pub(super) fn orders(bdev: &Bdev) -> Vec<Call> {
    error::orders(bdev).iter().map(|(kind, order)| inject(bdev.name(), *kind, order)).collect()
}

fn inject(name: &str, kind: IoType, order: &ErrorOptions) -> Call {
    let mut params = json!({
        "name": name,
        "io_type": kind.name(),
        "num": order.num,
        "queue_depth": order.queue_depth,
    });
    let error_type = match order.kind {
        ErrorKind::Fail(NvmeStatus::INTERNAL_ERROR) => "failure",
        ErrorKind::Fail(NvmeStatus::NOT_READY) => "nomem",
        ErrorKind::Fail(status) => {
            params["nvme_sct"] = status.sct().into();
            params["nvme_sc"] = status.sc().into();
            "nvme_failure"
        }
        ErrorKind::Pending => "pending",
        ErrorKind::Corrupt { offset_bytes, value } => {
            params["corrupt_offset"] = offset_bytes.into();
            params["corrupt_value"] = value.into();
            "corrupt_data"
        }
    };
    params["error_type"] = error_type.into();
    Call::new("bdev_error_inject_error", params)
}
