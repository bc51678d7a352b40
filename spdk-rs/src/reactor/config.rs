//! How a reactor is made, and what it records of itself.

use std::time::Duration;

use spdk_rs_sys::cpu::CoreId;

use super::PollMode;
use crate::env::Clock;

/// How a reactor is made.
#[derive(Clone, Debug)]
pub struct ReactorConfig {
    /// The core it stands for.
    pub core: CoreId,
    /// Busy or adaptive.
    pub mode: PollMode,
    /// Real or virtual time.
    pub clock: Clock,
    /// Seed of the reactor's random numbers.
    pub seed: u64,
    /// Choose among ready tasks by the seed instead of first come, first served.
    pub shuffle: bool,
    /// Use io_uring when the kernel allows it.
    pub ring: bool,
    /// A turn that takes longer is reported with the name of what held the core.
    pub stall_limit: Duration,
}

impl ReactorConfig {
    /// A reactor on real time with the default settings.
    #[must_use]
    pub fn new(core: CoreId) -> Self {
        Self {
            core,
            mode: PollMode::default(),
            clock: Clock::Real,
            seed: 0x9e37_79b9_7f4a_7c15,
            shuffle: false,
            ring: true,
            stall_limit: Duration::from_millis(50),
        }
    }
}

/// One event of a deterministic run, for comparing two runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// Tick of the reactor's clock.
    pub at: u64,
    /// What happened.
    pub what: &'static str,
    /// Its numbers.
    pub values: [u64; 3],
}
