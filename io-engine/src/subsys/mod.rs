//! What stands between the daemon and its parts: the configuration file, the NVMe-oF target, and the
//! metrics.

pub mod config;
pub mod metrics;
pub mod nvmf;

pub use config::{Config, ConfigError};
pub use nvmf::Nvmf;
