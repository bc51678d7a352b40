//! What the integration tests share: devices under test, the cases that every device must pass,
//! the random model, and a device that misbehaves on demand.
//!
//! * [`fixture`]: an engine with one device, and the check that nothing leaks.
//! * [`devices`]: the table of devices; a new driver is one line there and one in each test file.
//! * [`bdevio`]: the cases, as functions over a [`fixture::Dut`].
//! * [`model`]: random I/O against a shadow copy.
//! * [`nvmf`]: a target and an initiator over loopback.
//! * [`power_cut`]: a load on a pool, and what a loss of power could have left of it.
//! * [`faulty`]: a driver that holds, reorders, fails and loses I/O as it is told to.
//! * [`protocol_fuzz`]: an NVMe/TCP host that breaks one thing at a time.

#![forbid(unsafe_code)]

pub mod bdevio;
pub mod devices;
pub mod faulty;
pub mod fixture;
pub mod ledger;
pub mod model;
pub mod nvmf;
pub mod power_cut;
pub mod protocol_fuzz;
pub mod rng;
