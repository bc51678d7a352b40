//! The daemon as its users meet it: the real binary, real sockets, real signals.

mod blocks;
mod fabric;
#[cfg(feature = "fault-injection")]
mod faults;
mod files;
mod harness;
mod lifecycle;
mod methods;
mod nvme;
mod nvmf;
mod pool;
mod refusals;
mod start;
