//! The daemon as its users meet it: the real binary, real sockets, real signals.

mod bad_input;
mod blocks;
mod cli;
mod config;
mod events;
mod fabric;
#[cfg(feature = "fault-injection")]
mod faults;
mod files;
mod harness;
mod http;
mod lifecycle;
mod methods;
mod nvme;
mod nvmf;
mod pool;
mod refusals;
mod rpc_py;
mod start;
mod stats;
