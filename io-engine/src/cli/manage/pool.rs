//! `io-engine pool …`.

use clap::{Subcommand, ValueEnum};

use super::view::{Column, Form};
use super::{Call, Manage, Show};
use crate::size::parse_size;

const POOLS: &[Column] = &[
    ("name", "/name", Form::Text),
    ("device", "/base_bdev", Form::Text),
    ("size", "/size_bytes", Form::Size),
    ("free", "/free_bytes", Form::Size),
    ("available", "/available_bytes", Form::Size),
    ("digest", "/digest", Form::Text),
    ("volumes", "/volumes", Form::Count),
    ("snapshots", "/snapshots", Form::Count),
    ("read-only because", "/read_only", Form::Text),
    ("uuid", "/uuid", Form::Text),
];

/// What to do with pools of a running daemon.
#[derive(Debug, Clone, Subcommand)]
pub enum PoolCommand {
    /// List the pools
    List {
        /// Only the pool with this name or UUID
        name: Option<String>,
    },
    /// Make a pool on a device; what is on the device is lost
    Create {
        /// The pool's name
        name: String,
        /// The device: its name, or a URI that makes it
        disk: String,
        /// How blocks are digested
        #[arg(long, value_enum)]
        digest: Option<Digest>,
        /// Size of the journal in MiB
        #[arg(long, value_name = "MIB")]
        journal_mb: Option<u64>,
        /// Memory for clean nodes in MiB
        #[arg(long, value_name = "MIB")]
        cache_mb: Option<u64>,
        /// UUID of the pool
        #[arg(long)]
        uuid: Option<String>,
    },
    /// Use the pool that a device holds
    Import {
        /// The device: its name, or a URI that makes it
        disk: String,
        /// Refuse a pool with another name
        #[arg(long)]
        name: Option<String>,
        /// Memory for clean nodes in MiB
        #[arg(long, value_name = "MIB")]
        cache_mb: Option<u64>,
        /// Write nothing
        #[arg(long)]
        readonly: bool,
    },
    /// Give the device of a pool back; all data stay
    Export {
        /// The pool's name or UUID
        name: String,
        /// Although volumes are open
        #[arg(long)]
        force: bool,
    },
    /// Destroy a pool with all of its volumes
    Destroy {
        /// The pool's name or UUID
        name: String,
    },
    /// Take what the device of a pool has grown by
    Grow {
        /// The pool's name or UUID
        name: String,
    },
    /// Read all blocks of a pool in the background and compare their digests
    Scrub {
        /// The pool's name or UUID
        name: String,
        /// What to do
        #[arg(value_enum, default_value_t)]
        action: Scrub,
        /// Bytes per second at the most, as 100M; without it, as fast as it goes
        #[arg(long, value_parser = parse_size)]
        rate: Option<u64>,
    },
    /// Check a pool; writes wait until it has ended
    Check {
        /// The pool's name or UUID
        name: String,
        /// Check the map only, and read no data
        #[arg(long)]
        map_only: bool,
    },
}

/// How blocks of a pool are digested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Digest {
    /// SHA-256
    Sha256,
    /// BLAKE3
    Blake3,
    /// CRC-32C
    Crc32c,
}

/// What to do with a scrub.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Scrub {
    /// Begin
    Start,
    /// End
    Stop,
    /// Tell how far it is
    #[default]
    Status,
}

/// The name that a value has on the command line, which is the method's.
fn name_of(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Manage for PoolCommand {
    fn call(&self) -> Call {
        match self {
            Self::List { name } => {
                Call::new("pool_get", Show::List(POOLS)).with_some("name", name.as_deref())
            }
            Self::Create { name, disk, digest, journal_mb, cache_mb, uuid } => {
                Call::new("pool_create", Show::Facts)
                    .with("name", name.as_str())
                    .with("disk", disk.as_str())
                    .with_some("digest", digest.as_ref().map(name_of))
                    .with_some("journal_mb", *journal_mb)
                    .with_some("cache_mb", *cache_mb)
                    .with_some("uuid", uuid.as_deref())
            }
            Self::Import { disk, name, cache_mb, readonly } => {
                Call::new("pool_import", Show::Facts)
                    .with("disk", disk.as_str())
                    .with_some("name", name.as_deref())
                    .with_some("cache_mb", *cache_mb)
                    .with_flag("readonly", *readonly)
            }
            Self::Export { name, force } => Call::new("pool_export", Show::Nothing)
                .with("name", name.as_str())
                .with_flag("force", *force),
            Self::Destroy { name } => {
                Call::new("pool_destroy", Show::Nothing).with("name", name.as_str())
            }
            Self::Grow { name } => Call::new("pool_grow", Show::Facts).with("name", name.as_str()),
            Self::Scrub { name, action, rate } => Call::new("pool_scrub", Show::Facts)
                .with("name", name.as_str())
                .with("action", name_of(action))
                .with_some("bytes_per_sec", *rate),
            Self::Check { name, map_only } => Call::new("pool_check", Show::Facts)
                .with("name", name.as_str())
                .with("data", !*map_only),
        }
    }
}
