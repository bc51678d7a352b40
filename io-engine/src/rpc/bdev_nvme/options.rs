//! `bdev_nvme_set_options`: what holds for controllers that are attached afterwards.

use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "management plane only")]
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use serde_json::json;
use spdk_rs::nvme::controller::{ControllerOptions, TimeoutAction};

use crate::core::HostIdentity;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::{ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// The longest time-out in microseconds: what a reactor's clock can count to.
const TIMEOUT_US_MAX: u64 = 1 << 52;
/// The largest signed time in seconds.
const SECONDS_MAX: u32 = i32::MAX.unsigned_abs();
/// Why there is no period of polling.
const EVENTS: &str = "queues are not polled by time: a reactor sleeps until something comes";
/// Why there is no weight.
const FABRICS: &str = "arbitration between queues of one controller is not used over fabrics";
/// Why there is no option of RDMA.
const NO_RDMA: &str = "there is no RDMA transport";

pub(super) fn methods() -> Vec<Method> {
    vec![Method::new("bdev_nvme_set_options", set_options).in_config("bdev")]
}

/// The options that controllers are attached with.
#[derive(Debug, Default)]
#[expect(clippy::disallowed_types, reason = "see the import")]
pub(in crate::rpc) struct Defaults(Mutex<Changes>);

impl Defaults {
    /// The driver's defaults for a host, with what was set.
    pub(in crate::rpc) fn options(&self, host: &HostIdentity) -> ControllerOptions {
        let mut options = ControllerOptions::new(&host.nqn, host.id);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).apply(&mut options);
        options
    }
}

/// What a call sets; the rest stays.
#[derive(Clone, Debug, Default)]
struct Changes {
    action_on_timeout: Option<TimeoutAction>,
    timeout_us: Option<u64>,
    timeout_admin_us: Option<u64>,
    keep_alive_timeout_ms: Option<u32>,
    transport_retry_count: Option<u8>,
    reconnect: Reconnect,
}

/// The times of reconnecting, which `bdev_nvme_attach_controller` has too.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reconnect {
    loss: Option<i32>,
    delay: Option<u32>,
    fast: Option<u32>,
}

impl Reconnect {
    pub(super) fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let loss = params.optional_i64("ctrlr_loss_timeout_sec", -1..=SECONDS_MAX.into())?;
        Ok(Self {
            loss: loss.and_then(|seconds| i32::try_from(seconds).ok()),
            delay: params.optional_u32("reconnect_delay_sec", 0..=SECONDS_MAX)?,
            fast: params.optional_u32("fast_io_fail_timeout_sec", 0..=SECONDS_MAX)?,
        })
    }

    pub(super) fn apply(self, options: &mut ControllerOptions) {
        set(&mut options.ctrlr_loss_timeout_sec, self.loss);
        set(&mut options.reconnect_delay_sec, self.delay);
        set(&mut options.fast_io_fail_timeout_sec, self.fast);
    }
}

impl Changes {
    fn apply(&self, options: &mut ControllerOptions) {
        set(&mut options.action_on_timeout, self.action_on_timeout);
        set(&mut options.timeout_us, self.timeout_us);
        set(&mut options.timeout_admin_us, self.timeout_admin_us);
        set(&mut options.keep_alive_timeout_ms, self.keep_alive_timeout_ms);
        set(&mut options.transport_retry_count, self.transport_retry_count);
        self.reconnect.apply(options);
    }

    /// This with what `later` sets.
    fn then(&self, later: &Self) -> Self {
        let Reconnect { loss, delay, fast } = self.reconnect;
        Self {
            action_on_timeout: later.action_on_timeout.or(self.action_on_timeout),
            timeout_us: later.timeout_us.or(self.timeout_us),
            timeout_admin_us: later.timeout_admin_us.or(self.timeout_admin_us),
            keep_alive_timeout_ms: later.keep_alive_timeout_ms.or(self.keep_alive_timeout_ms),
            transport_retry_count: later.transport_retry_count.or(self.transport_retry_count),
            reconnect: Reconnect {
                loss: later.reconnect.loss.or(loss),
                delay: later.reconnect.delay.or(delay),
                fast: later.reconnect.fast.or(fast),
            },
        }
    }
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// SPDK's parameters that ask for what the engine does not do: the value that asks for nothing,
/// and why there is no other.
fn refuse_the_rest(params: &Params<'_>) -> Result<(), ParamError> {
    for name in ["arbitration_burst", "low_priority_weight", "medium_priority_weight"] {
        params.only(name, &json!(0), FABRICS)?;
    }
    params.only("high_priority_weight", &json!(0), FABRICS)?;
    params.only("nvme_adminq_poll_period_us", &json!(10_000), EVENTS)?;
    params.only("nvme_ioq_poll_period_us", &json!(0), EVENTS)?;
    params.only("io_queue_requests", &json!(0), "a queue has a request per entry")?;
    params.only("delay_cmd_submit", &json!(true), "commands of a turn always leave together")?;
    params.only("bdev_retry_count", &json!(3), "retries are counted by transport_retry_count")?;
    for name in ["transport_ack_timeout", "transport_tos", "tcp_connect_timeout_ms"] {
        params.only(name, &json!(0), "the kernel's own is used")?;
    }
    let no = json!(false);
    params.only("disable_auto_failback", &no, "the best path is always gone back to")?;
    params.only("generate_uuids", &no, "a namespace without a UUID gets one from its NGUID")?;
    params.only("nvme_error_stat", &no, "errors are counted by kind in bdev_get_iostat")?;
    params.only("io_path_stat", &no, "paths are not counted one by one")?;
    params.only("allow_accel_sequence", &no, "there is no acceleration framework")?;
    params.only("enable_flush", &json!(true), "flushes are always sent")?;
    for name in ["rdma_srq_size", "rdma_max_cq_size", "rdma_cm_event_timeout_ms"] {
        params.only(name, &json!(0), NO_RDMA)?;
    }
    params.only("rdma_umr_per_io", &no, NO_RDMA)?;
    params.not_done("dhchap_digests", "there is no in-band authentication yet")?;
    params.not_done("dhchap_dhgroups", "there is no in-band authentication yet")
}

impl Request for Changes {
    const NAMES: &'static [&'static str] = &[
        "action_on_timeout",
        "timeout_us",
        "timeout_admin_us",
        "keep_alive_timeout_ms",
        "transport_retry_count",
        "ctrlr_loss_timeout_sec",
        "reconnect_delay_sec",
        "fast_io_fail_timeout_sec",
        "arbitration_burst",
        "low_priority_weight",
        "medium_priority_weight",
        "high_priority_weight",
        "nvme_adminq_poll_period_us",
        "nvme_ioq_poll_period_us",
        "io_queue_requests",
        "delay_cmd_submit",
        "bdev_retry_count",
        "transport_ack_timeout",
        "transport_tos",
        "tcp_connect_timeout_ms",
        "disable_auto_failback",
        "generate_uuids",
        "nvme_error_stat",
        "io_path_stat",
        "allow_accel_sequence",
        "enable_flush",
        "rdma_srq_size",
        "rdma_max_cq_size",
        "rdma_cm_event_timeout_ms",
        "rdma_umr_per_io",
        "dhchap_digests",
        "dhchap_dhgroups",
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        refuse_the_rest(params)?;
        let actions = [TimeoutAction::None, TimeoutAction::Reset, TimeoutAction::Abort]
            .map(|action| (action.name(), action));
        let retries = params.optional_u16("transport_retry_count", 0..=u8::MAX.into())?;
        Ok(Self {
            action_on_timeout: params.optional_choice("action_on_timeout", &actions, false)?,
            timeout_us: params.optional_u64("timeout_us", 0..=TIMEOUT_US_MAX)?,
            timeout_admin_us: params.optional_u64("timeout_admin_us", 0..=TIMEOUT_US_MAX)?,
            keep_alive_timeout_ms: params.optional_u32("keep_alive_timeout_ms", 0..=u32::MAX)?,
            transport_retry_count: retries.and_then(|count| u8::try_from(count).ok()),
            reconnect: Reconnect::take(params)?,
        })
    }
}

async fn set_options(context: Arc<Context>, request: Changes) -> RpcResult<bool> {
    let engine = context.engine()?;
    if !engine.nvme().controllers(None).is_empty() {
        let words = "bdev_nvme_set_options may be called before a controller is attached only";
        return Err(errors::errno(Errno::EPERM, words));
    }
    let mut now = context.nvme_defaults.0.lock().unwrap_or_else(PoisonError::into_inner);
    let changed = now.then(&request);
    let mut options = ControllerOptions::new(&engine.host().nqn, engine.host().id);
    changed.apply(&mut options);
    options.check().map_err(|error| errors::errno(Errno::EINVAL, error.to_string()))?;
    *now = changed;
    Ok(true)
}
