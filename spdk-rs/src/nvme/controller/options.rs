//! What can be set per controller, with SPDK's names and defaults.

use std::time::Duration;

use thiserror::Error;
use uuid::Uuid;

use crate::nvme::transport_id::{TransportIdError, check_nqn};

/// What happens with a command that took too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeoutAction {
    /// It is named in the log.
    #[default]
    None,
    /// The controller is reset.
    Reset,
    /// The command is aborted; when that does not end it in the same time, the controller is reset.
    Abort,
}

impl TimeoutAction {
    /// The name in RPC parameters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Reset => "reset",
            Self::Abort => "abort",
        }
    }
}

/// How a host connects to controllers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControllerOptions {
    /// The host's NVMe qualified name.
    pub hostnqn: String,
    /// The host's identifier. Controllers of one host share it.
    pub hostid: Uuid,
    /// Ask for header digests.
    pub hdgst: bool,
    /// Ask for data digests.
    pub ddgst: bool,
    /// I/O queues that are asked for at the most, 1 to 65,535.
    pub num_io_queues: u16,
    /// Entries of an I/O queue, 2 to 65,535; cut to what the controller allows.
    pub io_queue_size: u16,
    /// Entries of the admin queue, 32 (the least that Fabrics allows) to 4096.
    pub admin_queue_size: u16,
    /// How long connecting a socket and the Connect command may take in microseconds.
    pub fabrics_connect_timeout_us: u64,
    /// Keep-alive time-out in milliseconds; 0 for none.
    pub keep_alive_timeout_ms: u32,
    /// How long an I/O command may take in microseconds; 0 for any time.
    pub timeout_us: u64,
    /// How long an admin command may take in microseconds; 0 for any time.
    pub timeout_admin_us: u64,
    /// What happens after that.
    pub action_on_timeout: TimeoutAction,
    /// Retries of a command that failed and may be retried; a failed path does not count.
    pub transport_retry_count: u8,
    /// Seconds after which a controller that cannot be reached is given up; -1 for never, 0 for
    /// at once.
    pub ctrlr_loss_timeout_sec: i32,
    /// Seconds between the first attempts to reconnect. The time doubles with each attempt.
    pub reconnect_delay_sec: u32,
    /// Seconds after which I/O fails while the controller cannot be reached; 0 for not before it is
    /// given up.
    pub fast_io_fail_timeout_sec: u32,
    /// Use a PCIe controller without an IOMMU: it can then overwrite all memory of the machine.
    pub allow_noiommu: bool,
    /// Use shadow doorbells where a PCIe controller has them: fewer writes to registers, which are
    /// dear in a virtual machine.
    pub shadow_doorbells: bool,
    /// Put submission queues into the memory of a PCIe controller; one that has none is refused.
    pub cmb_sqs: bool,
    /// Describe data by SGLs where a PCIe controller takes them and PRP entries cannot; else such
    /// data are copied.
    pub sgl: bool,
    /// Count what goes over each path, beside what is counted for the device.
    pub io_path_stat: bool,
}

impl ControllerOptions {
    /// SPDK's defaults, for a host of a name.
    #[must_use]
    pub fn new(hostnqn: &str, hostid: Uuid) -> Self {
        Self {
            hostnqn: hostnqn.to_owned(),
            hostid,
            hdgst: false,
            ddgst: false,
            num_io_queues: 1024,
            io_queue_size: 128,
            admin_queue_size: 32,
            fabrics_connect_timeout_us: 15_000_000,
            keep_alive_timeout_ms: 10_000,
            timeout_us: 0,
            timeout_admin_us: 0,
            action_on_timeout: TimeoutAction::None,
            transport_retry_count: 4,
            ctrlr_loss_timeout_sec: 0,
            reconnect_delay_sec: 0,
            fast_io_fail_timeout_sec: 0,
            allow_noiommu: false,
            shadow_doorbells: true,
            cmb_sqs: false,
            sgl: true,
            io_path_stat: false,
        }
    }

    /// Checks the ranges, and that the times of reconnecting go together.
    ///
    /// # Errors
    /// [`OptionsError`] for the first that is not allowed.
    pub fn check(&self) -> Result<(), OptionsError> {
        check_nqn(&self.hostnqn).map_err(OptionsError::HostNqn)?;
        if self.hostid.is_nil() {
            return Err(OptionsError::HostId);
        }
        range("num_io_queues", self.num_io_queues.into(), 1, 65_535)?;
        range("io_queue_size", self.io_queue_size.into(), 2, 65_535)?;
        range("admin_queue_size", self.admin_queue_size.into(), 32, 4096)?;
        range("fabrics_connect_timeout_us", clamped(self.fabrics_connect_timeout_us), 1000, MAX)?;
        range("ctrlr_loss_timeout_sec", self.ctrlr_loss_timeout_sec.into(), -1, MAX)?;
        self.check_reconnect()
    }

    fn check_reconnect(&self) -> Result<(), OptionsError> {
        let (loss, delay) = (self.ctrlr_loss_timeout_sec, self.reconnect_delay_sec);
        let fast = self.fast_io_fail_timeout_sec;
        let refuse = |rule| Err(OptionsError::Reconnect { loss, delay, fast, rule });
        if loss == 0 {
            if delay != 0 || fast != 0 {
                return refuse("without a loss time-out the other two must be 0");
            }
            return Ok(());
        }
        if delay == 0 {
            return refuse("a loss time-out needs a reconnect delay of at least 1");
        }
        if let Ok(loss) = u32::try_from(loss) {
            if delay > loss {
                return refuse("the reconnect delay is at most the loss time-out");
            }
            if fast > loss {
                return refuse("the fast I/O fail time-out is at most the loss time-out");
            }
        }
        if fast != 0 && fast < delay {
            return refuse("the fast I/O fail time-out is at least the reconnect delay");
        }
        Ok(())
    }

    /// How long connecting may take.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        Duration::from_micros(self.fabrics_connect_timeout_us)
    }

    /// How long a controller may be lost before it is given up; none for any time.
    #[must_use]
    pub fn loss_timeout(&self) -> Option<Duration> {
        u64::try_from(self.ctrlr_loss_timeout_sec).ok().map(Duration::from_secs)
    }
}

const MAX: i64 = i64::MAX;

fn clamped(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(MAX)
}

fn range(name: &'static str, value: i64, min: i64, max: i64) -> Result<(), OptionsError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(OptionsError::Range { name, value, min, max })
    }
}

/// Why options are not allowed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OptionsError {
    /// The host's name.
    #[error("hostnqn: {0}")]
    HostNqn(#[source] TransportIdError),
    /// The host's identifier.
    #[error("hostid: the nil UUID is not allowed (NVMe Base Specification 2.0, section 5.27.1.25)")]
    HostId,
    /// A value out of range.
    #[error("{name}: {value} is not allowed; allowed are {min} to {max}")]
    Range {
        /// The option.
        name: &'static str,
        /// Its value.
        value: i64,
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// The times of reconnecting contradict each other.
    #[error(
        "ctrlr_loss_timeout_sec {loss}, reconnect_delay_sec {delay} and fast_io_fail_timeout_sec \
         {fast} do not go together: {rule}"
    )]
    Reconnect {
        /// ctrlr_loss_timeout_sec.
        loss: i32,
        /// reconnect_delay_sec.
        delay: u32,
        /// fast_io_fail_timeout_sec.
        fast: u32,
        /// The rule that is broken.
        rule: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> ControllerOptions {
        ControllerOptions::new("nqn.2014-08.org.nvmexpress:uuid:1", Uuid::from_u128(1))
    }

    #[test]
    fn ranges_are_checked() {
        assert_eq!(options().check(), Ok(()));
        let bad = [
            ControllerOptions { hostnqn: "host".to_owned(), ..options() },
            ControllerOptions { hostid: Uuid::nil(), ..options() },
            ControllerOptions { num_io_queues: 0, ..options() },
            ControllerOptions { io_queue_size: 1, ..options() },
            ControllerOptions { admin_queue_size: 31, ..options() },
            ControllerOptions { fabrics_connect_timeout_us: 0, ..options() },
            ControllerOptions { ctrlr_loss_timeout_sec: -2, ..options() },
        ];
        for options in bad {
            assert!(options.check().is_err(), "{options:?}");
        }
    }

    #[test]
    fn the_times_of_reconnecting_go_together() {
        let check = |loss, delay, fast| {
            let options = ControllerOptions {
                ctrlr_loss_timeout_sec: loss,
                reconnect_delay_sec: delay,
                fast_io_fail_timeout_sec: fast,
                ..options()
            };
            options.check().is_ok()
        };
        assert!(check(0, 0, 0) && check(-1, 1, 0) && check(10, 2, 5) && check(-1, 5, 100));
        assert!(!check(0, 1, 0) && !check(0, 0, 1) && !check(-1, 0, 0) && !check(5, 6, 0));
        assert!(!check(10, 2, 11) && !check(10, 5, 4));
    }
}
