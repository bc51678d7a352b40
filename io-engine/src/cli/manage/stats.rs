//! `io-engine stats …`.

use clap::Subcommand;

use super::view::{Column, Form};
use super::{Call, Manage, Show};

const DEVICES: &[Column] = &[
    ("name", "/name", Form::Text),
    ("reads", "/num_read_ops", Form::Count),
    ("read", "/bytes_read", Form::Size),
    ("writes", "/num_write_ops", Form::Count),
    ("written", "/bytes_written", Form::Size),
    ("unmaps", "/num_unmap_ops", Form::Count),
    ("flushes", "/num_flush_ops", Form::Count),
    ("errors", "/io_error", Form::Text),
];

const CHANNELS: &[Column] = &[
    ("thread", "/thread_id", Form::Count),
    ("reads", "/num_read_ops", Form::Count),
    ("read", "/bytes_read", Form::Size),
    ("writes", "/num_write_ops", Form::Count),
    ("written", "/bytes_written", Form::Size),
    ("errors", "/io_error", Form::Text),
];

const REACTORS: &[Column] = &[
    ("name", "/name", Form::Text),
    ("busy ticks", "/busy", Form::Count),
    ("idle ticks", "/idle", Form::Count),
    ("turns", "/turns", Form::Count),
    ("sleeps", "/sleeps", Form::Count),
    ("stalls", "/stalls", Form::Count),
    ("kernel entries", "/kernel_entries", Form::Count),
    ("pollers", "/active_pollers_count", Form::Count),
    ("timed", "/timed_pollers_count", Form::Count),
];

const POLL_GROUPS: &[Column] = &[
    ("name", "/name", Form::Text),
    ("queues", "/current_io_qpairs", Form::Count),
    ("in flight", "/pending_bdev_io", Form::Count),
    ("completed", "/completed_nvme_io", Form::Count),
    ("reads", "/num_read_ops", Form::Count),
    ("read", "/bytes_read", Form::Size),
    ("writes", "/num_write_ops", Form::Count),
    ("written", "/bytes_written", Form::Size),
    ("errors", "/errors", Form::Count),
];

/// What a running daemon has counted.
#[derive(Debug, Clone, Subcommand)]
pub enum StatsCommand {
    /// I/O of block devices
    Bdev {
        /// Only this device
        name: Option<String>,
        /// A line for each core that has it open
        #[arg(long, requires = "name")]
        per_core: bool,
    },
    /// Time and turns of the reactors
    Reactor,
    /// Latencies, journal and recovery of a pool
    Pool {
        /// The pool's name or UUID
        name: String,
    },
    /// Commands of NVMe-oF hosts, by reactor
    Nvmf,
    /// I/O of the block interface on a device
    Block {
        /// The device
        name: String,
    },
}

impl Manage for StatsCommand {
    fn call(&self) -> Call {
        match self {
            Self::Bdev { name: Some(name), per_core: true } => {
                Call::new("bdev_get_iostat", Show::Member("channels", CHANNELS))
                    .with("name", name.as_str())
                    .with("per_channel", true)
            }
            Self::Bdev { name, .. } => Call::new("bdev_get_iostat", Show::Member("bdevs", DEVICES))
                .with_some("name", name.as_deref()),
            Self::Reactor => Call::new("thread_get_stats", Show::Member("threads", REACTORS)),
            Self::Pool { name } => {
                Call::new("pool_get_stats", Show::Facts).with("name", name.as_str())
            }
            Self::Nvmf => Call::new("nvmf_get_stats", Show::Member("poll_groups", POLL_GROUPS)),
            Self::Block { name } => {
                Call::new("block_get_stats", Show::Facts).with("name", name.as_str())
            }
        }
    }
}
