//! `io-engine vol …`.

use clap::Subcommand;

use super::view::{Column, Form};
use super::{Call, Manage, Show};
use crate::size::parse_size;

const VOLUMES: &[Column] = &[
    ("name", "/device", Form::Text),
    ("size", "/size_bytes", Form::Size),
    ("mapped", "/mapped_bytes", Form::Size),
    ("block", "/block_len", Form::Count),
    ("thin", "/thin", Form::Text),
    ("snapshot", "/snapshot", Form::Text),
    ("read-only", "/read_only", Form::Text),
    ("made from", "/parent", Form::Text),
    ("uuid", "/uuid", Form::Text),
];

/// What to do with volumes of a running daemon. Volumes are named POOL/VOLUME, or by UUID.
#[derive(Debug, Clone, Subcommand)]
pub enum VolCommand {
    /// List volumes and snapshots
    List {
        /// Only this volume
        name: Option<String>,
        /// Only those of this pool
        #[arg(long, conflicts_with = "name")]
        pool: Option<String>,
    },
    /// Make a volume
    Create {
        /// Where and under which name
        #[arg(value_name = "POOL/VOLUME", value_parser = parse_name)]
        name: (String, String),
        /// Size, as 4096, 512M or 1T
        #[arg(value_parser = parse_size)]
        size: u64,
        /// Keep all of its space for it
        #[arg(long)]
        thick: bool,
        /// Bytes of a block: 512 or 4096
        #[arg(long, value_name = "BYTES")]
        blk_size: Option<u64>,
        /// UUID of the volume
        #[arg(long)]
        uuid: Option<String>,
    },
    /// Delete a volume or snapshot
    Delete {
        /// The volume
        name: String,
    },
    /// Make a volume larger, or smaller while it is closed
    Resize {
        /// The volume
        name: String,
        /// The new size, as 4096, 512M or 1T
        #[arg(value_parser = parse_size)]
        size: u64,
    },
    /// Give a volume another name
    Rename {
        /// The volume
        name: String,
        /// The new name, without the pool
        new_name: String,
    },
    /// Keep what a volume holds now
    Snapshot {
        /// The volume
        name: String,
        /// Name of the snapshot, without the pool
        snapshot_name: String,
    },
    /// Make a volume that begins as a snapshot
    Clone {
        /// The snapshot
        name: String,
        /// Name of the new volume, without the pool
        clone_name: String,
    },
    /// Give a clone blocks of its own, until it shares none
    Decouple {
        /// The volume
        name: String,
        /// Keep all of its space for it
        #[arg(long)]
        thick: bool,
    },
    /// Let hosts only read a volume
    SetReadOnly {
        /// The volume
        name: String,
        /// Let them write again
        #[arg(long)]
        off: bool,
    },
}

fn parse_name(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((pool, name)) if !pool.is_empty() && !name.is_empty() => {
            Ok((pool.to_owned(), name.to_owned()))
        }
        _ => Err("it has to be POOL/VOLUME".to_owned()),
    }
}

impl Manage for VolCommand {
    fn call(&self) -> Call {
        match self {
            Self::List { name, pool } => Call::new("vol_get", Show::List(VOLUMES))
                .with_some("name", name.as_deref())
                .with_some("pool", pool.as_deref()),
            Self::Create { name: (pool, name), size, thick, blk_size, uuid } => {
                Call::new("vol_create", Show::Facts)
                    .with("pool", pool.as_str())
                    .with("name", name.as_str())
                    .with("size", *size)
                    .with("thin", !*thick)
                    .with_some("blk_size", *blk_size)
                    .with_some("uuid", uuid.as_deref())
            }
            Self::Delete { name } => {
                Call::new("vol_delete", Show::Nothing).with("name", name.as_str())
            }
            Self::Resize { name, size } => Call::new("vol_resize", Show::Nothing)
                .with("name", name.as_str())
                .with("size", *size),
            Self::Rename { name, new_name } => Call::new("vol_rename", Show::Nothing)
                .with("name", name.as_str())
                .with("new_name", new_name.as_str()),
            Self::Snapshot { name, snapshot_name } => Call::new("vol_snapshot", Show::Facts)
                .with("name", name.as_str())
                .with("snapshot_name", snapshot_name.as_str()),
            Self::Clone { name, clone_name } => Call::new("vol_clone", Show::Facts)
                .with("name", name.as_str())
                .with("clone_name", clone_name.as_str()),
            Self::Decouple { name, thick } => Call::new("vol_decouple", Show::Nothing)
                .with("name", name.as_str())
                .with_flag("thick", *thick),
            Self::SetReadOnly { name, off } => Call::new("vol_set_read_only", Show::Nothing)
                .with("name", name.as_str())
                .with("read_only", !*off),
        }
    }
}
