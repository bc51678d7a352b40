//! `bdev_set_qos_limit`.

use std::sync::Arc;

use nix::errno::Errno;
use serde_json::{Value, json};
use spdk_rs::bdev::{Bdev, QosLimits};

use super::bdev::{NAME, find};
use super::errors::{self, RpcResult};
use super::params::def::{int, optional};
use super::params::{Defs, Name, ParamError, Params, Request};
use super::{Context, Method};

/// Limits of I/Os per second are multiples of this; others are rounded up, as SPDK does.
const IOS_STEP: u64 = 1000;
/// Bytes in what SPDK calls a megabyte here.
const MIB: u64 = 1 << 20;
/// The largest limit of I/Os per second.
const IOS_MAX: i128 = 1 << 40;
/// The largest limit in MiB per second.
const MIB_MAX: i128 = 1 << 30;

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_set_qos_limit", "Limits the rate of a device's I/O.", set_limit)
            .in_config("bdev"),
    ]
}

struct SetLimit {
    name: Name,
    rw_ios: Option<u64>,
    rw_mib: Option<u64>,
    r_mib: Option<u64>,
    w_mib: Option<u64>,
}

impl Request for SetLimit {
    const PARAMS: Defs = &[&[
        NAME,
        optional(
            "rw_ios_per_sec",
            int(0, IOS_MAX),
            "I/Os per second, rounded up to a multiple of 1000; 0 is no limit, as below.",
        ),
        optional("rw_mbytes_per_sec", int(0, MIB_MAX), "MiB per second, read and written."),
        optional("r_mbytes_per_sec", int(0, MIB_MAX), "MiB per second read."),
        optional("w_mbytes_per_sec", int(0, MIB_MAX), "MiB per second written."),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            name: params.required("name")?,
            rw_ios: params.optional("rw_ios_per_sec")?,
            rw_mib: params.optional("rw_mbytes_per_sec")?,
            r_mib: params.optional("r_mbytes_per_sec")?,
            w_mib: params.optional("w_mbytes_per_sec")?,
        })
    }
}

impl SetLimit {
    /// The limits that were, with what is given.
    fn applied(&self, before: QosLimits) -> QosLimits {
        let bytes = |mib: Option<u64>, before: u64| mib.map_or(before, |mib| mib * MIB);
        let ios = self.rw_ios.map(|ios| ios.next_multiple_of(IOS_STEP));
        QosLimits {
            rw_ios_per_sec: ios.unwrap_or(before.rw_ios_per_sec),
            rw_bytes_per_sec: bytes(self.rw_mib, before.rw_bytes_per_sec),
            r_bytes_per_sec: bytes(self.r_mib, before.r_bytes_per_sec),
            w_bytes_per_sec: bytes(self.w_mib, before.w_bytes_per_sec),
        }
    }
}

async fn set_limit(context: Arc<Context>, request: SetLimit) -> RpcResult<bool> {
    let bdev = find(&context, &request.name)?;
    let given = [request.rw_ios, request.rw_mib, request.r_mib, request.w_mib];
    if given.iter().all(Option::is_none) {
        let words = "No rate limits specified: give one of rw_ios_per_sec, rw_mbytes_per_sec, \
                     r_mbytes_per_sec, w_mbytes_per_sec";
        return Err(errors::errno(Errno::EINVAL, words));
    }
    let limits = request.applied(bdev.qos_limits());
    tracing::info!(device = bdev.name(), ?limits, "the rate of I/O is limited");
    bdev.set_qos_limits(limits).await;
    Ok(true)
}

/// The limits as `bdev_get_bdevs` shows them.
pub(super) fn of_device(bdev: &Bdev) -> Value {
    let limits = bdev.qos_limits();
    json!({
        "rw_ios_per_sec": limits.rw_ios_per_sec,
        "rw_mbytes_per_sec": limits.rw_bytes_per_sec / MIB,
        "r_mbytes_per_sec": limits.r_bytes_per_sec / MIB,
        "w_mbytes_per_sec": limits.w_bytes_per_sec / MIB,
    })
}
