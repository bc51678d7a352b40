//! The block device layer: what stands between a consumer and a driver.
//!
//! `IoHandle → checks → interceptors → emulation, splitting → BdevChannel::submit → device`, and
//! back through the core's list of completions.
//!
//! Invariants:
//! * an accepted I/O completes exactly once: its [`BdevIo`] token cannot be cloned, and dropping
//!   it completes it;
//! * callbacks run after the driver has been left, so a driver is never entered twice;
//! * buffers belong to the I/O from submission to completion, whoever has lost interest meanwhile;
//! * an I/O costs no allocation, no lock and no atomic read-modify-write on the straight path.

mod below;
mod buf;
mod channel;
mod claim;
mod consumer;
mod core;
mod deadline;
mod delayed;
mod desc;
mod device;
mod device_stats;
mod emulate;
mod errors;
mod events;
mod forward;
mod future;
mod handle;
mod histogram;
mod interceptor;
mod io;
mod io_type;
mod lent;
mod nvme_command;
mod ops;
mod qos;
mod registry;
mod sampling;
mod slot;
mod split;
mod stats;
#[cfg(test)]
mod tests;
mod zone;

pub use self::core::BdevCore;
pub use below::{Below, Performing};
pub use buf::{IoBuf, SgList};
pub use channel::Channel;
pub use claim::{ClaimError, ClaimKind};
pub use consumer::{IoCompletion, IoConsumer, Refused};
pub use deadline::{IoTimeout, IoTimeoutAction};
pub use delayed::{DelayQueue, KeptList, Then};
pub use desc::{BdevDesc, OpenMode};
pub use device::{Bdev, BdevInfo, IoLimits};
pub use device_stats::HistogramOptions;
pub use events::{DeviceEvent, EventListener};
pub use future::IoFuture;
pub use handle::{IoHandle, IoRequest};
pub use histogram::LatencyHistogram;
pub use interceptor::{Interceptor, InterceptorFactory, Notice};
pub use io::{BdevIo, IoFlags, IoList};
pub use io_type::{IoType, IoTypes};
pub use lent::{LendPool, Lent};
pub use nvme_command::NvmeCommand;
pub use ops::{BdevChannel, BdevOps};
pub use qos::QosLimits;
pub use registry::{DeviceMonitor, Registry, RegistryError};
pub use sampling::QueueDepth;
pub use slot::DRIVER_CONTEXT_BYTES;
pub use stats::{ChannelCounters, IoStats, OpStats, ResetMode};
#[cfg(test)]
pub(crate) use zone::zoned_double;
pub use zone::{Zone, ZoneAction, ZoneGeometry, ZoneState};
