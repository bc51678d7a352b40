//! What stands between the daemon and its parts: the configuration file, and the NVMe-oF target.

pub mod config;
pub mod nvmf;

pub use config::{Config, ConfigError};
pub use nvmf::Nvmf;
