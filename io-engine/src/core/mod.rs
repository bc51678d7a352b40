//! The engine's view of block devices: three traits, their one implementation over
//! [`spdk_rs::bdev::Bdev`], and the engine that holds reactors and devices together.
//!
//! * [`BlockDevice`]: what a device is; opens it.
//! * [`BlockDeviceDescriptor`]: an open device, its claims; makes handles.
//! * [`BlockDeviceHandle`]: I/O from the present reactor.
//!
//! Virtual devices implement [`spdk_rs::bdev::BdevOps`], so that everything stacks and everything
//! can be exported.

mod block_device;
mod engine;
mod error;
pub mod events;
#[cfg(feature = "fault-injection")]
pub mod fault_injection;
mod host;
mod over_bdev;

pub use block_device::{
    BlockDevice, BlockDeviceDescriptor, BlockDeviceHandle, DeviceIoController, ListenerGuard,
};
pub use engine::{Engine, EngineOptions};
pub use error::CoreError;
pub use host::HostIdentity;
