//! Pools, their volumes, and the stores of blocks.

use std::sync::Arc;

use super::text::{Exposition, Figure, Kind, Number};
use crate::pool::block_api::{BlockStore, BlockStores};
use crate::pool::{Latency, PoolManager, PoolStats, PoolSummary, VolumeInfo};

/// A family with a sample per pool.
type Column = (&'static str, Kind, &'static str, fn(&Row) -> Number);

const COLUMNS: &[Column] = &[
    ("io_engine_pool_size_bytes", Kind::Gauge, "Size of a pool.", |row| {
        row.summary.size_bytes.into()
    }),
    ("io_engine_pool_free_bytes", Kind::Gauge, "Bytes of a pool that nobody uses.", |row| {
        row.summary.free_bytes.into()
    }),
    (
        "io_engine_pool_available_bytes",
        Kind::Gauge,
        "Bytes that volumes of a pool can still take.",
        |row| row.summary.available_bytes.into(),
    ),
    (
        "io_engine_pool_read_only",
        Kind::Gauge,
        "Whether a pool takes no changes, for a failure or as asked; pool_get tells why.",
        |row| row.summary.read_only.is_some().into(),
    ),
    ("io_engine_pool_volumes", Kind::Gauge, "Volumes of a pool.", |row| row.summary.volumes.into()),
    ("io_engine_pool_snapshots", Kind::Gauge, "Snapshots of a pool.", |row| {
        row.summary.snapshots.into()
    }),
    (
        "io_engine_pool_written_bytes_total",
        Kind::Counter,
        "Bytes written to volumes of a pool.",
        |row| row.stats.written_bytes.into(),
    ),
    (
        "io_engine_pool_read_bytes_total",
        Kind::Counter,
        "Bytes read from volumes of a pool.",
        |row| row.stats.read_bytes.into(),
    ),
    (
        "io_engine_pool_recovery_seconds",
        Kind::Gauge,
        "How long the recovery took when a pool was imported; 0 for one that was created.",
        |row| ns(row.stats.recovery_ns).into(),
    ),
    (
        "io_engine_pool_recovery_records",
        Kind::Gauge,
        "Journal records that the recovery of a pool found.",
        |row| row.stats.recovery_records.into(),
    ),
    (
        "io_engine_pool_recovery_transactions",
        Kind::Gauge,
        "Transactions that the recovery of a pool replayed.",
        |row| row.stats.recovery_transactions.into(),
    ),
    (
        "io_engine_pool_invalid_blocks_total",
        Kind::Counter,
        "Blocks of a pool that did not match their digests.",
        |row| row.stats.invalid_blocks.into(),
    ),
    (
        "io_engine_pool_nodes_read_total",
        Kind::Counter,
        "Nodes of the map of a pool that were read while somebody waited.",
        |row| row.stats.nodes_read.into(),
    ),
    (
        "io_engine_pool_nodes_read_ahead_total",
        Kind::Counter,
        "Nodes of the map of a pool that were read before somebody wanted them.",
        |row| row.stats.nodes_read_ahead.into(),
    ),
    (
        "io_engine_pool_journal_records_total",
        Kind::Counter,
        "Journal records that a pool wrote.",
        |row| row.stats.journal_records.into(),
    ),
    (
        "io_engine_pool_journal_blocks_written_total",
        Kind::Counter,
        "Journal blocks that a pool wrote.",
        |row| row.stats.journal_blocks_written.into(),
    ),
    (
        "io_engine_pool_journal_used_blocks",
        Kind::Gauge,
        "Journal blocks of a pool in use.",
        |row| row.stats.journal_fill_blocks.into(),
    ),
    ("io_engine_pool_journal_blocks", Kind::Gauge, "Journal blocks of a pool in all.", |row| {
        row.stats.journal_blocks.into()
    }),
    ("io_engine_pool_cached_nodes", Kind::Gauge, "Clean nodes of a pool in memory.", |row| {
        row.stats.cached_nodes.into()
    }),
    (
        "io_engine_pool_cached_nodes_max",
        Kind::Gauge,
        "Clean nodes of a pool in memory at the most.",
        |row| row.stats.cached_nodes_max.into(),
    ),
    ("io_engine_pool_dirty_nodes", Kind::Gauge, "Changed nodes of a pool in memory.", |row| {
        row.stats.dirty_nodes.into()
    }),
];

/// Durations: the beginning of the name, what it is, and which.
const LATENCIES: &[Figure<PoolStats, Latency>] = &[
    ("io_engine_pool_write", "a write to a volume of a pool", |stats| stats.write),
    ("io_engine_pool_read", "a read from a volume of a pool", |stats| stats.read),
    ("io_engine_pool_flush", "a flush of the device below a pool", |stats| stats.flush),
    ("io_engine_pool_checkpoint", "a checkpoint of a pool", |stats| stats.checkpoint),
];

/// A pool as of one moment.
struct Row {
    summary: PoolSummary,
    stats: PoolStats,
    volumes: Vec<VolumeInfo>,
}

/// Nanoseconds in seconds.
fn ns(ns: u64) -> f64 {
    ns as f64 / 1e9
}

pub(super) async fn write(out: &mut Exposition, pools: &PoolManager) {
    let mut rows = Vec::new();
    for pool in pools.all() {
        let asked = pool.call(async |pool| Ok((pool.stats(), pool.volumes())));
        // One that is exported meanwhile is not there any more.
        if let (Ok((stats, volumes)), Ok(summary)) = (asked.await, pool.summary().await) {
            rows.push(Row { summary, stats, volumes });
        }
    }
    let mut family = out.family("io_engine_pool_info", Kind::Gauge, "A pool.");
    for Row { summary, .. } in &rows {
        let (uuid, core) = (summary.uuid.to_string(), summary.core.to_string());
        let labels = [
            ("pool", summary.name.as_str()),
            ("uuid", &uuid),
            ("base_bdev", &summary.base_bdev),
            ("digest", summary.digest),
            ("core", &core),
        ];
        family.sample(&labels, 1u64);
    }
    for (name, kind, help, value) in COLUMNS {
        let mut family = out.family(name, *kind, help);
        rows.iter().for_each(|row| family.sample(&[("pool", &row.summary.name)], value(row)));
    }
    for (name, what, which) in LATENCIES {
        let (sum, max) = (format!("{name}_seconds"), format!("{name}_max_seconds"));
        let help = format!("Duration of {what}.");
        let mut family = out.family(&sum, Kind::Summary, &help);
        for row in &rows {
            let latency = which(&row.stats);
            family.summary(&[("pool", &row.summary.name)], latency.count, ns(latency.total_ns));
        }
        let help = format!("The longest duration of {what}.");
        let mut family = out.family(&max, Kind::Gauge, &help);
        for row in &rows {
            family.sample(&[("pool", &row.summary.name)], ns(which(&row.stats).max_ns));
        }
    }
    write_volumes(out, &rows);
}

fn write_volumes(out: &mut Exposition, rows: &[Row]) {
    let columns: [Figure<VolumeInfo, Number>; 4] = [
        ("io_engine_volume_size_bytes", "Size of a volume or snapshot.", |one| {
            one.size_bytes.into()
        }),
        (
            "io_engine_volume_mapped_bytes",
            "Bytes of a volume or snapshot that are not holes, shared ones included.",
            |one| one.mapped_bytes.into(),
        ),
        ("io_engine_volume_snapshot", "Whether it is a snapshot.", |one| one.snapshot.into()),
        ("io_engine_volume_read_only", "Whether hosts may only read it.", |one| {
            one.read_only.into()
        }),
    ];
    for (name, help, value) in columns {
        let mut family = out.family(name, Kind::Gauge, help);
        for row in rows {
            for volume in &row.volumes {
                let labels =
                    [("pool", row.summary.name.as_str()), ("volume", volume.name.as_str())];
                family.sample(&labels, value(volume));
            }
        }
    }
}

/// The stores of `block_create`.
pub(super) async fn blocks(out: &mut Exposition, stores: &BlockStores) {
    let stores = stores.all().await;
    let columns: [Figure<BlockStore, Number>; 4] = [
        ("io_engine_block_store_capacity_bytes", "Bytes that a store allocates from.", |store| {
            store.capacity().into()
        }),
        ("io_engine_block_store_free_bytes", "Free bytes of a store.", |store| {
            store.fragmentation().free_bytes.into()
        }),
        (
            "io_engine_block_store_cached_bytes",
            "Free bytes of a store that wait in the magazines of cores.",
            |store| store.fragmentation().cached_bytes.into(),
        ),
        (
            "io_engine_block_store_split_share",
            "Share of the free bytes of a store that is not in free blocks of 1 MiB.",
            |store| store.fragmentation().split_share.into(),
        ),
    ];
    for (name, help, value) in columns {
        let mut family = out.family(name, Kind::Gauge, help);
        let sample =
            |store: &Arc<BlockStore>| family.sample(&[("bdev", store.name())], value(store));
        stores.iter().for_each(sample);
    }
    let help = "What the I/O of a store came to, as block_get_stats measures it.";
    let mut family = out.family("io_engine_block_store_measured", Kind::Gauge, help);
    for store in &stores {
        for (figure, value) in store.get_stats().measured.named() {
            family.sample(&[("bdev", store.name()), ("figure", figure)], value);
        }
    }
}
