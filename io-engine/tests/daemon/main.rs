//! The daemon as its users meet it: the real binary, real sockets, real signals.

mod blocks;
mod cli;
mod fabric;
mod files;
mod harness;
mod http;
mod lifecycle;
mod methods;
mod nvme;
mod nvmf;
mod pool;
mod refusals;
mod start;
