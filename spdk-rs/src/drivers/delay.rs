//! A device whose reads and writes take longer than those of the device below it.
//!
//! One read or write of a hundred takes the time that is named after the 99th percentile, all
//! others the average. Which ones is drawn from the reactor's seeded sequence.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::Uuid;

use super::layer::{self, LayerError, LayerOptions, LayerPart};
use crate::NvmeStatus;
use crate::bdev::{
    Bdev, BdevIo, DelayQueue, Interceptor, InterceptorFactory, IoType, Notice, Registry, Then,
};
use crate::reactor::ReactorHandle;

/// The driver's name.
pub const DRIVER: &str = "delay";

/// The largest latency in microseconds: an hour.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Which latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// Of most reads.
    AvgRead,
    /// Of one read in a hundred.
    P99Read,
    /// Of most writes.
    AvgWrite,
    /// Of one write in a hundred.
    P99Write,
}

impl Latency {
    /// Every one, with SPDK's word.
    pub const ALL: [(&'static str, Self); 4] = [
        ("avg_read", Self::AvgRead),
        ("p99_read", Self::P99Read),
        ("avg_write", Self::AvgWrite),
        ("p99_write", Self::P99Write),
    ];
}

/// The latencies that are added, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// Of most reads.
    pub avg_read_us: u64,
    /// Of one read in a hundred.
    pub p99_read_us: u64,
    /// Of most writes.
    pub avg_write_us: u64,
    /// Of one write in a hundred.
    pub p99_write_us: u64,
}

/// The latencies as all cores read them.
#[derive(Debug, Default)]
struct Shared([AtomicU64; 4]);

impl Shared {
    fn set(&self, which: Latency, us: u64) {
        self.0[which as usize].store(us, Ordering::Relaxed);
    }

    fn get(&self, which: Latency) -> u64 {
        self.0[which as usize].load(Ordering::Relaxed)
    }
}

struct Part(Arc<Shared>);

impl LayerPart for Part {
    fn facts(&self) -> serde_json::Map<String, serde_json::Value> {
        let fact =
            |(word, which): (&str, Latency)| (format!("{word}_latency"), self.0.get(which).into());
        Latency::ALL.into_iter().map(fact).collect()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Makes a delay device over a device, and registers it.
///
/// # Errors
/// [`LayerError`].
pub async fn create(
    registry: &Arc<Registry>,
    reactor: &ReactorHandle,
    base: &str,
    name: &str,
    uuid: Option<Uuid>,
    latencies: Latencies,
) -> Result<Arc<Bdev>, LayerError> {
    let shared = Arc::new(Shared::default());
    shared.set(Latency::AvgRead, latencies.avg_read_us);
    shared.set(Latency::P99Read, latencies.p99_read_us);
    shared.set(Latency::AvgWrite, latencies.avg_write_us);
    shared.set(Latency::P99Write, latencies.p99_write_us);
    let options = LayerOptions {
        name: name.to_owned(),
        uuid,
        driver_name: DRIVER,
        product_name: "delay",
        part: Arc::new(Part(Arc::clone(&shared))),
    };
    let bdev = layer::create(registry, reactor, base, options)?;
    bdev.add_interceptor(Arc::new(Make(shared))).await;
    Ok(bdev)
}

/// Changes a latency of a delay device for the I/O that ends from now on; false when it is none.
#[must_use]
pub fn update(bdev: &Bdev, which: Latency, us: u64) -> bool {
    layer::part_of::<Part>(bdev).map(|part| part.0.set(which, us)).is_some()
}

struct Make(Arc<Shared>);

impl InterceptorFactory for Make {
    fn make(&self) -> Box<dyn Interceptor> {
        Box::new(Hook { shared: Arc::clone(&self.0), queue: DelayQueue::default() })
    }
}

struct Hook {
    shared: Arc<Shared>,
    queue: DelayQueue,
}

impl Interceptor for Hook {
    fn completion(&self, io: BdevIo, status: NvmeStatus) -> Option<(BdevIo, NvmeStatus)> {
        let (avg, p99) = match io.kind() {
            IoType::Read => (Latency::AvgRead, Latency::P99Read),
            IoType::Write => (Latency::AvgWrite, Latency::P99Write),
            _ => return Some((io, status)),
        };
        let mut io = io;
        let reactor = std::rc::Rc::clone(io.below().reactor());
        let which = if reactor.random().is_multiple_of(100) { p99 } else { avg };
        let us = self.shared.get(which);
        if us == 0 {
            return Some((io, status));
        }
        let ticks = reactor.clock().ticks_in(Duration::from_micros(us));
        let due = reactor.now().saturating_add(ticks);
        self.queue.push(&reactor, due, io, Then::Complete(status));
        None
    }

    fn told(&self, notice: Notice) {
        self.queue.told(notice);
    }
}
