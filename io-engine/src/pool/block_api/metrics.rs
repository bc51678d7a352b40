//! What a device is said to do, and what it was seen to do.

use serde::Serialize;
use spdk_rs::bdev::IoType;
use spdk_rs::env::Clock;
use spdk_rs::reactor::Counter;

/// Speeds and latencies of a device. 0 where nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PerfMetrics {
    /// Reads, in MB (10⁶ bytes) per second.
    pub read_bandwidth_mbps: f64,
    /// Writes, in MB (10⁶ bytes) per second.
    pub write_bandwidth_mbps: f64,
    /// The mean time from the submission of a read to its end, in microseconds.
    pub read_latency_us: f64,
    /// The mean time from the submission of a write to its end, in microseconds.
    pub write_latency_us: f64,
    /// Reads and writes per second.
    pub iops: f64,
}

impl PerfMetrics {
    /// The figures with their names.
    #[must_use]
    pub fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("read_bandwidth_mbps", self.read_bandwidth_mbps),
            ("write_bandwidth_mbps", self.write_bandwidth_mbps),
            ("read_latency_us", self.read_latency_us),
            ("write_latency_us", self.write_latency_us),
            ("iops", self.iops),
        ]
    }
}

/// How long something was under way. Written by one core, read by anyone.
#[derive(Debug, Default)]
struct Busy {
    in_flight: Counter,
    since: Counter,
    ticks: Counter,
}

impl Busy {
    fn begin(&self, now: u64) {
        if self.in_flight.get() == 0 {
            self.since.set(now);
        }
        self.in_flight.add(1);
    }

    fn end(&self, now: u64) {
        let left = self.in_flight.get().saturating_sub(1);
        self.in_flight.set(left);
        if left == 0 {
            self.ticks.add(now.saturating_sub(self.since.get()));
        }
    }

    fn seconds(&self, now: u64, hz: f64) -> f64 {
        let running = match self.in_flight.get() {
            0 => 0,
            _ => now.saturating_sub(self.since.get()),
        };
        (self.ticks.get() + running) as f64 / hz
    }
}

#[derive(Debug, Default)]
struct OpCounters {
    ops: Counter,
    bytes: Counter,
    /// From submission to completion, of those that succeeded.
    ticks: Counter,
    busy: Busy,
}

/// The I/O of one core.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct CoreCounters {
    read: OpCounters,
    write: OpCounters,
    any: Busy,
}

impl CoreCounters {
    fn of(&self, kind: IoType) -> &OpCounters {
        if kind == IoType::Read { &self.read } else { &self.write }
    }

    /// Counts an I/O from now on until the guard is dropped.
    pub(super) fn begin(&self, kind: IoType) -> Running<'_> {
        let started = Clock::Real.ticks();
        self.of(kind).busy.begin(started);
        self.any.begin(started);
        Running { counters: self, kind, started, moved: None }
    }
}

/// An I/O under way.
pub(super) struct Running<'a> {
    counters: &'a CoreCounters,
    kind: IoType,
    started: u64,
    moved: Option<u64>,
}

impl Running<'_> {
    /// It has moved so many bytes.
    pub(super) fn succeeded(mut self, bytes: u64) {
        self.moved = Some(bytes);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let (now, op) = (Clock::Real.ticks(), self.counters.of(self.kind));
        if let Some(bytes) = self.moved {
            op.ops.add(1);
            op.bytes.add(bytes);
            op.ticks.add(now.saturating_sub(self.started));
        }
        op.busy.end(now);
        self.counters.any.end(now);
    }
}

/// What the cores did: bytes and I/Os per second of the time in which a core had such I/O under
/// way, added up over the cores, so that a store that rests does not get slower by it.
pub(super) fn measured<'a>(cores: impl Iterator<Item = &'a CoreCounters>) -> PerfMetrics {
    let (now, hz) = (Clock::Real.ticks(), Clock::Real.hz() as f64);
    let mut sum = PerfMetrics::default();
    let (mut reads, mut read_ticks, mut writes, mut write_ticks) = (0, 0, 0, 0);
    for core in cores {
        let (read, write) = (&core.read, &core.write);
        sum.read_bandwidth_mbps += rate(read.bytes.get() as f64 / 1e6, read.busy.seconds(now, hz));
        sum.write_bandwidth_mbps +=
            rate(write.bytes.get() as f64 / 1e6, write.busy.seconds(now, hz));
        sum.iops += rate((read.ops.get() + write.ops.get()) as f64, core.any.seconds(now, hz));
        reads += read.ops.get();
        writes += write.ops.get();
        read_ticks += read.ticks.get();
        write_ticks += write.ticks.get();
    }
    sum.read_latency_us = rate(read_ticks as f64 / hz * 1e6, reads as f64);
    sum.write_latency_us = rate(write_ticks as f64 / hz * 1e6, writes as f64);
    sum
}

fn rate(amount: f64, per: f64) -> f64 {
    if per > 0.0 { amount / per } else { 0.0 }
}
