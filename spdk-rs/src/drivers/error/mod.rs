//! A device that fails, holds or corrupts I/O of the device below it as it is told to, in the way
//! of SPDK's error device: a number of I/Os of a type, once so many are in flight.

mod hook;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};

use uuid::Uuid;

use super::layer::{self, LayerError, LayerOptions, LayerPart};
use crate::NvmeStatus;
use crate::bdev::{Bdev, IoType, Notice, Registry};
use crate::reactor::ReactorHandle;

/// The driver's name.
pub const DRIVER: &str = "error";

/// What the name of an error device begins with; the base's follows.
pub const PREFIX: &str = "EE_";

/// The types of I/O that errors are injected into.
pub const IO_TYPES: [IoType; 4] = [IoType::Read, IoType::Write, IoType::Flush, IoType::Unmap];

/// What happens to an I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// It fails with a status and does not reach the device below.
    Fail(NvmeStatus),
    /// It is kept until [`resume_pending`], a reset or the device's end.
    Pending,
    /// One byte of its data is changed: of a write before it reaches the device below, of a read
    /// on its way back. Other I/O passes.
    Corrupt {
        /// The byte, counted from the start of the I/O's data; data that are shorter stay whole.
        offset_bytes: u64,
        /// What the byte is combined with by exclusive or.
        value: u8,
    },
}

/// An order to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorOptions {
    /// What happens.
    pub kind: ErrorKind,
    /// To so many I/Os, over all cores.
    pub num: u64,
    /// Only when so many I/Os of the core are in flight.
    pub queue_depth: u64,
}

/// The order for one type of I/O, as all cores read it. Fields are written before `num`.
#[derive(Debug, Default)]
struct Order {
    num: AtomicU64,
    queue_depth: AtomicU64,
    /// 0: fail, 1: pending, 2: corrupt.
    kind: AtomicU8,
    status: AtomicU16,
    offset_bytes: AtomicU64,
    value: AtomicU8,
}

impl Order {
    fn set(&self, options: &ErrorOptions) {
        self.num.store(0, Ordering::Release);
        self.queue_depth.store(options.queue_depth, Ordering::Relaxed);
        let (kind, status, offset, value) = match options.kind {
            ErrorKind::Fail(status) => (0, status.bits(), 0, 0),
            ErrorKind::Pending => (1, 0, 0, 0),
            ErrorKind::Corrupt { offset_bytes, value } => (2, 0, offset_bytes, value),
        };
        self.kind.store(kind, Ordering::Relaxed);
        self.status.store(status, Ordering::Relaxed);
        self.offset_bytes.store(offset, Ordering::Relaxed);
        self.value.store(value, Ordering::Relaxed);
        self.num.store(options.num, Ordering::Release);
    }

    /// What is ordered; none when nothing is left of it.
    fn peek(&self) -> Option<ErrorKind> {
        if self.num.load(Ordering::Acquire) == 0 {
            return None;
        }
        Some(match self.kind.load(Ordering::Relaxed) {
            0 => ErrorKind::Fail(NvmeStatus::from_bits(self.status.load(Ordering::Relaxed))),
            1 => ErrorKind::Pending,
            _ => ErrorKind::Corrupt {
                offset_bytes: self.offset_bytes.load(Ordering::Relaxed),
                value: self.value.load(Ordering::Relaxed),
            },
        })
    }

    /// What happens to an I/O at a depth. Takes one of the order's number if something does.
    fn draw(&self, depth: u64) -> Option<ErrorKind> {
        let kind = self.peek()?;
        if depth < self.queue_depth.load(Ordering::Relaxed) {
            return None;
        }
        let one_less = |num: u64| num.checked_sub(1);
        self.num.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_less).ok().map(|_| kind)
    }
}

/// What all cores share.
#[derive(Debug, Default)]
struct Shared {
    orders: [Order; IO_TYPES.len()],
    /// I/Os that are kept.
    pending: AtomicU64,
    id: AtomicU64,
}

impl Shared {
    fn order(&self, kind: IoType) -> Option<&Order> {
        let at = IO_TYPES.iter().position(|&other| other == kind)?;
        self.orders.get(at)
    }
}

struct Part(Arc<Shared>);

impl LayerPart for Part {
    fn facts(&self) -> serde_json::Map<String, serde_json::Value> {
        let pending = self.0.pending.load(Ordering::Relaxed);
        let mut facts = serde_json::Map::new();
        facts.insert("pending".to_owned(), pending.into());
        for (kind, order) in IO_TYPES.iter().zip(&self.0.orders) {
            let left = order.num.load(Ordering::Relaxed);
            facts.insert(format!("{kind}_errors_left"), left.into());
        }
        facts
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// Makes an error device over a device, `EE_` with the base's name unless it is given another,
/// and registers it.
///
/// # Errors
/// [`LayerError`].
pub async fn create(
    registry: &Arc<Registry>,
    reactor: &ReactorHandle,
    base: &str,
    name: Option<&str>,
    uuid: Option<Uuid>,
) -> Result<Arc<Bdev>, LayerError> {
    let shared = Arc::new(Shared::default());
    let default = || registry.find(base).map(|base| format!("{PREFIX}{}", base.name()));
    let options = LayerOptions {
        name: name.map_or_else(default, |name| Ok(name.to_owned()))?,
        uuid,
        driver_name: DRIVER,
        product_name: "Error Injection Disk",
        part: Arc::new(Part(Arc::clone(&shared))),
    };
    let bdev = layer::create(registry, reactor, base, options)?;
    let id = bdev.add_interceptor(Arc::new(hook::Make(Arc::clone(&shared)))).await;
    shared.id.store(id, Ordering::Release);
    Ok(bdev)
}

/// Orders errors for types of I/O out of [`IO_TYPES`]; an earlier order for a type ends. False
/// when the device is no error device.
#[must_use]
pub fn inject(bdev: &Bdev, kinds: &[IoType], options: &ErrorOptions) -> bool {
    let Some(Part(shared)) = layer::part_of::<Part>(bdev) else { return false };
    for order in kinds.iter().filter_map(|&kind| shared.order(kind)) {
        order.set(options);
    }
    true
}

/// The orders of which something is left, with that number; none when the device is no error device.
#[must_use]
pub fn orders(bdev: &Bdev) -> Vec<(IoType, ErrorOptions)> {
    let Some(Part(shared)) = layer::part_of::<Part>(bdev) else { return Vec::new() };
    let left = |(&kind, order): (&IoType, &Order)| {
        let options = ErrorOptions {
            kind: order.peek()?,
            num: order.num.load(Ordering::Acquire),
            queue_depth: order.queue_depth.load(Ordering::Relaxed),
        };
        Some((kind, options))
    };
    IO_TYPES.iter().zip(&shared.orders).filter_map(left).collect()
}

/// Ends every order; what is kept stays so. False when the device is no error device.
#[must_use]
pub fn clear(bdev: &Bdev) -> bool {
    let Some(Part(shared)) = layer::part_of::<Part>(bdev) else { return false };
    shared.orders.iter().for_each(|order| order.num.store(0, Ordering::Release));
    true
}

/// Lets go what is kept, and ends orders to keep more; none when the device is no error device.
pub async fn resume_pending(bdev: &Arc<Bdev>) -> Option<()> {
    let Part(shared) = layer::part_of::<Part>(bdev)?;
    for order in &shared.orders {
        if order.kind.load(Ordering::Relaxed) == 1 {
            order.num.store(0, Ordering::Release);
        }
    }
    let id = shared.id.load(Ordering::Acquire);
    bdev.tell_interceptors(id, Notice::Release).await;
    Some(())
}
