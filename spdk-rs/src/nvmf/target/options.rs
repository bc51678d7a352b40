//! The options of a target, with SPDK's defaults.

use super::NvmfError;

/// Limits that hold for every controller of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetOptions {
    /// I/O queue pairs of a controller at the most, 1 to 65,534 (max_io_qpairs_per_ctrlr).
    pub io_qpairs_max: u16,
    /// Subsystems of the target at the most (max_subsystems).
    pub subsystems_max: u32,
    /// How long a controller that is disabled or shut down may stay connected, in milliseconds;
    /// 0 for ever (association_timeout).
    pub association_timeout_ms: u64,
}

impl Default for TargetOptions {
    fn default() -> Self {
        Self { io_qpairs_max: 127, subsystems_max: 1024, association_timeout_ms: 120_000 }
    }
}

impl TargetOptions {
    pub(super) fn check(&self) -> Result<(), NvmfError> {
        if !(1..=65_534).contains(&self.io_qpairs_max) {
            let value = self.io_qpairs_max;
            return Err(NvmfError::invalid("max_io_qpairs_per_ctrlr", value, "1 to 65534"));
        }
        Ok(())
    }
}
