//! The load generator behind `io-engine perf`.
//!
//! - [`options`]: the command line and its checks
//! - [`workload`]: which operation at which block comes next
//! - [`verify`]: blocks that say what they are, and the check that reads them back
//! - [`histogram`]: latencies in constant memory
//! - [`report`]: results as a table and as JSON, and the progress line
//! - [`runner`]: from the command line to a report
//!
//! What runs for every I/O ([`workload::Workload::next_io`], [`histogram::Histogram::record`])
//! takes a handful of instructions, allocates nothing and has no branch that can panic, so that
//! the tool measures the device and not itself.

pub mod histogram;
pub mod options;
pub mod report;
pub mod runner;
pub mod verify;
pub mod workload;
