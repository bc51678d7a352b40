//! The memory for I/O buffers, and the caches that reactors keep of it.

use spdk_rs::env::{BufferCache, BufferStats, Memory};
use spdk_rs::reactor::ReactorHandle;

use super::text::{Exposition, Figure, Kind};

/// What is asked of the memory itself.
const FACTS: &[Figure<spdk_rs::env::MemoryReport, usize>] = &[
    ("io_engine_memory_size_bytes", "Memory for I/O buffers.", |report| report.size_bytes),
    (
        "io_engine_memory_free_bytes",
        "Memory for I/O buffers that no buffer and no cache of a core holds.",
        |report| report.free_bytes,
    ),
    (
        "io_engine_memory_largest_free_bytes",
        "The longest run of free memory for I/O buffers.",
        |report| report.largest_free_bytes,
    ),
];

/// Where a reactor's buffers came from: the label, and the count.
type Source = (&'static str, fn(&BufferStats) -> u64);

const SOURCES: [Source; 2] =
    [("cache", |stats| stats.all().cached), ("arena", |stats| stats.all().arena)];

pub(super) async fn write(out: &mut Exposition, memory: &Memory, reactors: &[ReactorHandle]) {
    let report = memory.report();
    for (name, help, value) in FACTS {
        out.single(name, Kind::Gauge, help, value(&report));
    }
    out.single(
        "io_engine_memory_locked",
        Kind::Gauge,
        "Whether the memory for I/O buffers is locked.",
        report.locked,
    );
    let mut all = Vec::with_capacity(reactors.len());
    for reactor in reactors {
        // One that has ended has no cache.
        if let Ok(stats) = reactor.call(|_| BufferCache::stats()).await {
            all.push((reactor.core().to_string(), stats));
        }
    }
    let help = "Free memory for I/O buffers in the cache of a reactor.";
    let mut family = out.family("io_engine_memory_cached_bytes", Kind::Gauge, help);
    for (core, stats) in &all {
        family.sample(&[("core", core)], stats.cached_bytes);
    }
    let help = "Buffers that a reactor was given: by its cache, or by the memory that all share.";
    let mut family = out.family("io_engine_memory_buffers_total", Kind::Counter, help);
    for (core, stats) in &all {
        for (source, count) in SOURCES {
            family.sample(&[("core", core), ("source", source)], count(stats));
        }
    }
    let help = "Buffers that a reactor was refused because there was no room.";
    let mut family = out.family("io_engine_memory_refused_total", Kind::Counter, help);
    for (core, stats) in &all {
        family.sample(&[("core", core)], stats.all().refused);
    }
}
