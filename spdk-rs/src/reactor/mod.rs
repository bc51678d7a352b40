//! One pinned thread per core that polls, runs tasks, and sleeps when there is nothing to do.
//!
//! A turn: drain the mailbox → run pollers → poll sources (block device channels) → one
//! `io_uring_enter` for all that is queued → run completion callbacks → run ready tasks → expire
//! timers. The clock is read once per turn.
//!
//! Invariants:
//! * what belongs to a reactor is touched on its thread only; other threads send it closures;
//! * a turn makes no system call unless something is queued or the kernel has something for us;
//! * with a virtual clock and a seed, a run repeats bit for bit.

mod config;
mod core;
mod handle;
mod idle;
mod live_list;
mod mailbox;
mod offload;
mod poller;
mod registry;
mod ring;
mod runtime;
mod sleep;
mod source;
mod stats;
mod task;
#[cfg(test)]
mod tests;
mod timer;
mod wait;

pub use self::core::Reactor;
pub use config::{ReactorConfig, TraceEvent};
pub use handle::{ReactorGone, ReactorHandle, Refused};
pub use idle::PollMode;
pub(crate) use live_list::LiveList;
pub use offload::{FileOp, Offload, OffloadFull};
pub use poller::{PollerHandle, PollerStats, Progress};
pub use ring::ReactorRing;
pub(crate) use ring::submission_group;
pub use runtime::{FixedBuffers, LocalReactor, Runtime, RuntimeError, RuntimeOptions};
pub(crate) use sleep::sleep_until;
pub use sleep::{Sleep, sleep, yield_now};
pub use source::{ClientId, CompletionClient, Rest, Source};
pub use stats::{Counter, ReactorCounters, ReactorStats};
