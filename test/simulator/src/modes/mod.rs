//! What the program `pool-simulator` does, one file per mode.
//!
//! * [`random`]: random scenarios with many cuts each, on devices that are good or bad.
//! * [`exhaustive`]: every workload of three operations with every cut.
//! * [`mutants`]: whether defects that were built in on purpose are found.

pub mod exhaustive;
pub mod mutants;
pub mod random;
