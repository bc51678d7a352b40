//! `bdev_nvme_set_options`: what holds for controllers that are attached afterwards.

use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "management plane only")]
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use serde_json::{Map, Value, json};
use spdk_rs::drivers::nvme::MultipathPolicy;
use spdk_rs::nvme::controller::{ControllerOptions, TimeoutAction};

use super::attach::MultipathOptions;
use crate::core::HostIdentity;
use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{choice, int, not_done, only, optional, words};
use crate::rpc::params::{Def, Defs, Kind, ParamError, Params, Request};
use crate::rpc::{Context, Method, When};

/// The longest time-out in microseconds: what a reactor's clock can count to.
const TIMEOUT_US: Kind = int(0, 1 << 52);
/// The largest signed time in seconds.
const SECONDS_MAX: i128 = i32::MAX as i128;
/// Why there is no period of polling.
const EVENTS: &str = "queues are not polled by time: a reactor sleeps until something comes";
/// Why there is no weight.
const FABRICS: &str = "arbitration between queues of one controller is not used over fabrics";
/// Why a socket has no options.
const KERNEL: &str = "the kernel's own is used";
/// Why there is no option of RDMA.
const NO_RDMA: &str = "there is no RDMA transport";

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "bdev_nvme_set_options",
            "Sets what controllers that are attached afterwards have; error -1 when one is \
             attached.",
            set_options,
        )
        .at(When::Always)
        .in_config("bdev"),
    ]
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

    /// Which of several paths are used when nothing else is said.
    pub(in crate::rpc) fn policy(&self) -> MultipathPolicy {
        let changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        changes.policy.unwrap_or_default()
    }

    /// What was set, as parameters of `bdev_nvme_set_options`.
    pub(in crate::rpc) fn set(&self) -> Map<String, Value> {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Reconnect { loss, delay, fast } = now.reconnect;
        let all: [(&str, Option<Value>); 10] = [
            ("action_on_timeout", now.action_on_timeout.map(|action| action.name().into())),
            ("timeout_us", now.timeout_us.map(Value::from)),
            ("timeout_admin_us", now.timeout_admin_us.map(Value::from)),
            ("keep_alive_timeout_ms", now.keep_alive_timeout_ms.map(Value::from)),
            ("transport_retry_count", now.transport_retry_count.map(Value::from)),
            ("ctrlr_loss_timeout_sec", loss.map(Value::from)),
            ("reconnect_delay_sec", delay.map(Value::from)),
            ("fast_io_fail_timeout_sec", fast.map(Value::from)),
            ("io_path_stat", now.io_path_stat.map(Value::from)),
            ("multipath_opts", now.policy.map(multipath_opts)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
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
    io_path_stat: Option<bool>,
    policy: Option<MultipathPolicy>,
}

/// A policy as its parameters.
fn multipath_opts(policy: MultipathPolicy) -> Value {
    match (policy, policy.names()) {
        // A selector goes with several paths at a time only.
        (MultipathPolicy::ActivePassive, (policy, _)) => json!({ "policy": policy }),
        (_, (policy, selector)) => json!({ "policy": policy, "selector": selector }),
    }
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
        Ok(Self {
            loss: params.optional("ctrlr_loss_timeout_sec")?,
            delay: params.optional("reconnect_delay_sec")?,
            fast: params.optional("fast_io_fail_timeout_sec")?,
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
        set(&mut options.io_path_stat, self.io_path_stat);
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
            io_path_stat: later.io_path_stat.or(self.io_path_stat),
            policy: later.policy.or(self.policy),
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
const NOTHING: &[Def] = &[
    only("arbitration_burst", "0", FABRICS),
    only("low_priority_weight", "0", FABRICS),
    only("medium_priority_weight", "0", FABRICS),
    only("high_priority_weight", "0", FABRICS),
    only("nvme_adminq_poll_period_us", "10000", EVENTS),
    only("nvme_ioq_poll_period_us", "0", EVENTS),
    only("io_queue_requests", "0", "a queue has a request per entry"),
    only("delay_cmd_submit", "true", "commands of a turn always leave together"),
    only("bdev_retry_count", "3", "retries are counted by transport_retry_count"),
    only("transport_ack_timeout", "0", KERNEL),
    only("transport_tos", "0", KERNEL),
    only("tcp_connect_timeout_ms", "0", KERNEL),
    only("disable_auto_failback", "false", "the best path is always gone back to"),
    only("generate_uuids", "false", "a namespace without a UUID gets one from its NGUID"),
    only("nvme_error_stat", "false", "errors are counted by kind in bdev_get_iostat"),
    only("allow_accel_sequence", "false", "there is no acceleration framework"),
    optional("enable_flush", Kind::Bool, "Flushes are always sent, whatever it says.")
        .or_bool(true),
    only("rdma_srq_size", "0", NO_RDMA),
    only("rdma_max_cq_size", "0", NO_RDMA),
    only("rdma_cm_event_timeout_ms", "0", NO_RDMA),
    only("rdma_umr_per_io", "false", NO_RDMA),
    not_done("dhchap_digests", "there is no in-band authentication yet"),
    not_done("dhchap_dhgroups", "there is no in-band authentication yet"),
];

/// What is done with a command that takes too long.
const ACTIONS: [(&str, TimeoutAction); 3] = [
    (TimeoutAction::None.name(), TimeoutAction::None),
    (TimeoutAction::Reset.name(), TimeoutAction::Reset),
    (TimeoutAction::Abort.name(), TimeoutAction::Abort),
];

/// The times of reconnecting. Without them a controller has those of `bdev_nvme_set_options`.
pub(super) const RECONNECT: &[Def] = &[
    optional(
        "ctrlr_loss_timeout_sec",
        int(-1, SECONDS_MAX),
        "How long to try to reconnect, in seconds; -1 is for ever, 0 is not at all.",
    ),
    optional("reconnect_delay_sec", int(0, SECONDS_MAX), "Seconds between two tries."),
    optional(
        "fast_io_fail_timeout_sec",
        int(0, SECONDS_MAX),
        "When I/O begins to fail, in seconds; 0 is with the controller.",
    ),
];

impl Request for Changes {
    const PARAMS: Defs = &[
        &[
            optional(
                "action_on_timeout",
                choice(&words(&ACTIONS)),
                "What is done with a command that takes too long (none).",
            ),
            optional("timeout_us", TIMEOUT_US, "Time of an I/O command in µs; 0 is any (0)."),
            optional(
                "timeout_admin_us",
                TIMEOUT_US,
                "Time of an admin command in µs; 0 is that of an I/O command (0).",
            ),
            optional(
                "keep_alive_timeout_ms",
                int(0, u32::MAX as i128),
                "Keep-alive time-out in milliseconds; 0 is none (10000).",
            ),
            optional(
                "transport_retry_count",
                int(0, u8::MAX as i128),
                "How often a command is tried again (4).",
            ),
            optional(
                "io_path_stat",
                Kind::Bool,
                "Whether `bdev_nvme_get_path_iostat` counts what goes over each path (false).",
            ),
            optional(
                "multipath_opts",
                Kind::Object(MultipathOptions::PARAMS),
                "Which of several paths are used when attaching says nothing of it.",
            ),
        ],
        RECONNECT,
        NOTHING,
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        // SPDK's tools always say something; a flush that is not sent would be a lie.
        let _: bool = params.required("enable_flush")?;
        let policy: Option<MultipathOptions> = params.optional_object("multipath_opts")?;
        Ok(Self {
            action_on_timeout: params.optional_choice("action_on_timeout", &ACTIONS)?,
            timeout_us: params.optional("timeout_us")?,
            timeout_admin_us: params.optional("timeout_admin_us")?,
            keep_alive_timeout_ms: params.optional("keep_alive_timeout_ms")?,
            transport_retry_count: params.optional("transport_retry_count")?,
            reconnect: Reconnect::take(params)?,
            io_path_stat: params.optional("io_path_stat")?,
            policy: policy.map(|MultipathOptions(policy)| policy),
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
