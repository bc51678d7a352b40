//! What stands between the daemon and its parts: the configuration file, the NVMe-oF target, the
//! metrics, the hot plug of controllers, and the removal of devices whose I/O takes too long.

pub mod config;
mod hot_removal;
pub mod hotplug;
pub mod metrics;
pub mod nvmf;

pub use config::{Config, ConfigError};
pub use hot_removal::hot_removal;
pub use hotplug::Hotplug;
pub use nvmf::Nvmf;
