//! Block devices.

use std::sync::Arc;

use spdk_rs::bdev::{Bdev, IoStats, IoType, OpStats, Registry};

use super::seconds;
use super::text::{Exposition, Figure, Kind, Number};

/// A family with a sample per device and kind of I/O.
type Column = (&'static str, Kind, &'static str, fn(&OpStats) -> Number);

const COLUMNS: &[Column] = &[
    (
        "io_engine_bdev_ops_total",
        Kind::Counter,
        "Completed I/Os of a device, failed ones included.",
        |op| op.ops.into(),
    ),
    ("io_engine_bdev_errors_total", Kind::Counter, "I/Os of a device that failed.", |op| {
        op.errors.into()
    }),
    ("io_engine_bdev_bytes_total", Kind::Counter, "Bytes of successful I/Os of a device.", |op| {
        op.bytes.into()
    }),
    (
        "io_engine_bdev_latency_min_seconds",
        Kind::Gauge,
        "The shortest time from submission to completion of an I/O of a device.",
        |op| seconds(op.ticks_min).into(),
    ),
    (
        "io_engine_bdev_latency_max_seconds",
        Kind::Gauge,
        "The longest time from submission to completion of an I/O of a device.",
        |op| seconds(op.ticks_max).into(),
    ),
];

/// A family with a sample per device.
type Fact = (&'static str, &'static str, fn(&Bdev) -> Number);

const FACTS: &[Fact] = &[
    ("io_engine_bdev_size_bytes", "Size of a device.", |bdev| bdev.size_bytes().into()),
    ("io_engine_bdev_block_size_bytes", "Size of a block of a device.", |bdev| {
        bdev.info().block_len.into()
    }),
    ("io_engine_bdev_claimed", "Whether a device is claimed.", |bdev| {
        (!bdev.claims().is_empty()).into()
    }),
    ("io_engine_bdev_openers", "How often a device is open.", |bdev| bdev.openers().len().into()),
    ("io_engine_bdev_read_only", "Whether a device can only be read.", |bdev| {
        bdev.info().read_only.into()
    }),
    (
        "io_engine_bdev_write_cache",
        "Whether a power cut may take completed writes of a device until they are flushed.",
        |bdev| bdev.info().write_cache.into(),
    ),
];

/// A device, its name and its figures as of one moment.
struct Row {
    bdev: Arc<Bdev>,
    stats: IoStats,
    channels: Vec<(String, IoStats)>,
}

impl Row {
    /// The kinds that it does, or has counted.
    fn kinds<'a>(&self, stats: &'a IoStats) -> impl Iterator<Item = (&'static str, &'a OpStats)> {
        let supported = self.bdev.io_types();
        let all = IoType::ALL.into_iter().map(move |kind| (kind, stats.of(kind)));
        all.filter(move |(kind, op)| supported.contains(*kind) || op.ops != 0)
            .map(|(kind, op)| (kind.name(), op))
    }
}

/// Whether a family says something of a kind of I/O: a flush or a reset covers a device, and its
/// blocks are no amount of data.
fn counts(family: &str, op: &str) -> bool {
    !(family.ends_with("_bytes_total") && ["flush", "reset", "abort"].contains(&op))
}

pub(super) fn write(out: &mut Exposition, registry: &Registry) {
    let row = |bdev: Arc<Bdev>| {
        let channels = bdev.channel_stats();
        let channels = channels.into_iter().map(|(at, stats)| (at.core().to_string(), stats));
        Row { stats: bdev.stats(), channels: channels.collect(), bdev }
    };
    let rows: Vec<Row> = registry.all().into_iter().map(row).collect();
    let mut family = out.family("io_engine_bdev_info", Kind::Gauge, "A device.");
    for Row { bdev, .. } in &rows {
        let info = bdev.info();
        let uuid = info.uuid.to_string();
        let labels = [
            ("bdev", bdev.name()),
            ("driver", info.driver_name),
            ("product", info.product_name.as_ref()),
            ("uuid", uuid.as_str()),
        ];
        family.sample(&labels, 1u64);
    }
    for (name, help, value) in FACTS {
        let mut family = out.family(name, Kind::Gauge, help);
        rows.iter().for_each(|row| family.sample(&[("bdev", row.bdev.name())], value(&row.bdev)));
    }
    for (name, kind, help, value) in COLUMNS {
        let mut family = out.family(name, *kind, help);
        for row in &rows {
            for (op, stats) in row.kinds(&row.stats).filter(|(op, _)| counts(name, op)) {
                family.sample(&[("bdev", row.bdev.name()), ("op", op)], value(stats));
            }
        }
    }
    let help = "Time from submission to completion of I/Os of a device.";
    let mut family = out.family("io_engine_bdev_latency_seconds", Kind::Summary, help);
    for row in &rows {
        for (op, stats) in row.kinds(&row.stats) {
            let labels = [("bdev", row.bdev.name()), ("op", op)];
            family.summary(&labels, stats.ops, seconds(stats.ticks));
        }
    }
    write_channels(out, &rows);
}

/// The same per core: how the load of a device is spread.
fn write_channels(out: &mut Exposition, rows: &[Row]) {
    let columns: [Figure<OpStats, u64>; 3] = [
        ("io_engine_bdev_channel_ops_total", "Completed I/Os of an open channel, by core.", |op| {
            op.ops
        }),
        ("io_engine_bdev_channel_errors_total", "Failed I/Os of an open channel, by core.", |op| {
            op.errors
        }),
        ("io_engine_bdev_channel_bytes_total", "Bytes of an open channel, by core.", |op| op.bytes),
    ];
    for (name, help, value) in columns {
        let mut family = out.family(name, Kind::Counter, help);
        for row in rows {
            for (core, stats) in &row.channels {
                for (op, stats) in
                    row.kinds(stats).filter(|(op, of)| of.ops != 0 && counts(name, op))
                {
                    let labels = [("bdev", row.bdev.name()), ("core", core.as_str()), ("op", op)];
                    family.sample(&labels, value(stats));
                }
            }
        }
    }
}
