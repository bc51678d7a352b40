//! What the program `pool-simulator` does, one file per mode.
//!
//! * [`random`]: long random runs with many cuts each; with faults too.

pub mod random;
