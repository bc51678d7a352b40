//! What stands between the daemon and its parts: the configuration file.

pub mod config;

pub use config::{Config, ConfigError};
