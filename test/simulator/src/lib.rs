//! The crash simulator of the storage pool.
//!
//! One reactor on virtual time runs a random plan of operations over a simulated disk. The disk
//! records what reaches it; from the recording, power cuts are made at any event, with any subset
//! of what was not flushed. Each is recovered, and what is found is compared with what a model
//! allows.
//!
//! * [`device`]: the disk, its cache, its faults, its recording.
//! * [`store`]: what is tested, behind a trait, and the doubles that show the model's sharpness.
//! * [`oracle`]: the model: what may be found after a cut, and what must.
//! * [`plan`]: operations by a seed, and how a failing plan is made small.
//! * [`run`]: a plan on a store; a recovery after a cut.
//! * [`modes`]: what the program `pool-simulator` does.
//!
//! A run with the same seed is the same run, bit for bit.

#![forbid(unsafe_code)]

pub mod device;
pub mod modes;
pub mod oracle;
pub mod plan;
pub use io_engine_test::rng;
pub mod run;
pub mod store;
