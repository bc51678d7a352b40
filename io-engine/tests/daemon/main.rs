//! The daemon as its users meet it: the real binary, real sockets, real signals.

mod bad_input;
mod blocks;
mod config;
mod fabric;
mod files;
mod harness;
mod lifecycle;
mod methods;
mod nvme;
mod nvmf;
mod pool;
mod refusals;
mod rpc_py;
mod start;
mod stats;
