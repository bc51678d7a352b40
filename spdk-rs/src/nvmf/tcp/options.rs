//! The options of the TCP transport, with SPDK's names and defaults.

use std::time::Duration;

use thiserror::Error;

/// What a TCP transport is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Entries of a queue at the most, 2 to 16,384 (max_queue_depth).
    pub queue_depth_max: u32,
    /// Bytes of data that may come inside a capsule of an I/O queue, 0 to 131,072, a multiple of
    /// 16 (in_capsule_data_size). Admin and fabrics commands may always have 8192.
    pub in_capsule_bytes: u32,
    /// Bytes of data of one command at the most: 4096 to 1 MiB, a power of two (max_io_size).
    pub io_bytes_max: u32,
    /// Bytes of one H2CData PDU at the most (MAXH2CDATA), 4096 to `io_bytes_max`, a multiple of
    /// 4096; and the unit in which `shared_buffers` counts (io_unit_size).
    pub io_unit_bytes: u32,
    /// How many times `io_unit_bytes` of memory may wait for data of hosts, over all connections,
    /// at least 1 (num_shared_buffers). Never more than half the engine's memory.
    pub shared_buffers: u32,
    /// A read that succeeds ends with its data, without a response (c2h_success).
    pub c2h_success: bool,
    /// Data are sent out of the memory of devices that can lend it (zcopy). Not with data digests.
    pub zcopy: bool,
    /// `SO_PRIORITY` of the connections, 0 to 6; 0 leaves it alone (sock_priority).
    pub sock_priority: u8,
    /// How long sent bytes may stay unacknowledged (ack_timeout); the kernel's limit when `None`.
    pub ack_timeout: Option<Duration>,
    /// How long a connection may take from its acceptance to a successful Connect.
    pub connect_timeout: Duration,
    /// How long a peer may leave a PDU, or data that it was asked for, unfinished without sending
    /// anything, or leave responses unread.
    pub data_timeout: Duration,
    /// How long a connection that is ended waits for its peer to end it too.
    pub close_timeout: Duration,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            queue_depth_max: 128,
            in_capsule_bytes: 4096,
            io_bytes_max: 131_072,
            io_unit_bytes: 131_072,
            shared_buffers: 511,
            c2h_success: true,
            zcopy: true,
            sock_priority: 0,
            ack_timeout: None,
            connect_timeout: Duration::from_secs(10),
            data_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(3),
        }
    }
}

/// An option that is out of range.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{name} is {value}; allowed is {allowed}")]
pub struct TcpOptionsError {
    /// The option, by its name in `nvmf_create_transport`.
    pub name: &'static str,
    /// Its value.
    pub value: u64,
    /// What is allowed, in words.
    pub allowed: &'static str,
}

impl TcpOptions {
    /// Checks every option.
    ///
    /// # Errors
    /// The first that is out of range.
    pub fn check(&self) -> Result<(), TcpOptionsError> {
        let io = self.io_bytes_max;
        let unit = self.io_unit_bytes;
        let capsule = self.in_capsule_bytes;
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let some_time = |time: Duration| time >= Duration::from_millis(1);
        let checks: [(&str, u64, bool, &str); 10] = [
            (
                "max_queue_depth",
                self.queue_depth_max.into(),
                (2..=16_384).contains(&self.queue_depth_max),
                "2 to 16384",
            ),
            (
                "in_capsule_data_size",
                capsule.into(),
                capsule <= 131_072 && capsule.is_multiple_of(16),
                "a multiple of 16 up to 131072",
            ),
            (
                "max_io_size",
                io.into(),
                (4096..=1 << 20).contains(&io) && io.is_power_of_two(),
                "a power of two from 4096 to 1048576",
            ),
            (
                "io_unit_size",
                unit.into(),
                (4096..=io).contains(&unit) && unit.is_multiple_of(4096),
                "a multiple of 4096, at least 4096 and at most max_io_size",
            ),
            (
                "num_shared_buffers",
                self.shared_buffers.into(),
                self.shared_buffers != 0,
                "at least 1",
            ),
            ("sock_priority", self.sock_priority.into(), self.sock_priority <= 6, "0 to 6"),
            (
                "ack_timeout",
                self.ack_timeout.map_or(0, ms),
                self.ack_timeout.is_none_or(some_time),
                "at least 1 ms",
            ),
            (
                "connect_timeout",
                ms(self.connect_timeout),
                some_time(self.connect_timeout),
                "at least 1 ms",
            ),
            ("data_timeout", ms(self.data_timeout), some_time(self.data_timeout), "at least 1 ms"),
            (
                "close_timeout",
                ms(self.close_timeout),
                some_time(self.close_timeout),
                "at least 1 ms",
            ),
        ];
        match checks.into_iter().find(|(_, _, right, _)| !right) {
            Some((name, value, _, allowed)) => Err(TcpOptionsError { name, value, allowed }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_each_limit_is_checked() {
        let good = TcpOptions::default();
        assert_eq!(good.check(), Ok(()));
        let zero = Duration::ZERO;
        let bad = [
            TcpOptions { queue_depth_max: 1, ..good },
            TcpOptions { queue_depth_max: 16_385, ..good },
            TcpOptions { in_capsule_bytes: 8, ..good },
            TcpOptions { in_capsule_bytes: 131_088, ..good },
            TcpOptions { io_bytes_max: 12_288, ..good },
            TcpOptions { io_bytes_max: 2 << 20, ..good },
            TcpOptions { io_unit_bytes: 262_144, ..good },
            TcpOptions { io_unit_bytes: 6000, ..good },
            TcpOptions { shared_buffers: 0, ..good },
            TcpOptions { sock_priority: 7, ..good },
            TcpOptions { ack_timeout: Some(zero), ..good },
            TcpOptions { connect_timeout: zero, ..good },
            TcpOptions { data_timeout: zero, ..good },
            TcpOptions { close_timeout: zero, ..good },
        ];
        let names: Vec<_> =
            bad.iter().map(|options| options.check().expect_err("accepted").name).collect();
        assert_eq!(
            names,
            [
                "max_queue_depth",
                "max_queue_depth",
                "in_capsule_data_size",
                "in_capsule_data_size",
                "max_io_size",
                "max_io_size",
                "io_unit_size",
                "io_unit_size",
                "num_shared_buffers",
                "sock_priority",
                "ack_timeout",
                "connect_timeout",
                "data_timeout",
                "close_timeout"
            ]
        );
    }
}
