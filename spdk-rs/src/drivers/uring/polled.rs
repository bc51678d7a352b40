//! A ring whose completions are polled for: reads and writes of one channel.
#![allow(unsafe_code, reason = "hands requests that name the I/O's memory to the kernel")]

use spdk_rs_sys::uring::{Cqe, Ring, RingOptions, Target, UringError};

use super::channel::queue_transfer;
use crate::drivers::common::Transfer;

/// Completions that are taken at a time.
const REAP_BATCH: usize = 64;

/// The ring. It takes nothing but transfers of files opened for direct I/O.
pub(super) struct PolledRing {
    ring: Ring,
}

impl PolledRing {
    pub(super) fn open() -> Result<Self, UringError> {
        let ring = Ring::new(RingOptions { iopoll: true, ..RingOptions::default() })?;
        Ok(Self { ring })
    }

    /// Queues a transfer; false when the ring is full.
    ///
    /// # Safety
    /// As [`queue_transfer`].
    pub(super) unsafe fn push(&mut self, fd: i32, transfer: &Transfer, token: u64) -> bool {
        // SAFETY: passed on to the caller.
        unsafe { queue_transfer(&mut self.ring, Target::Fd(fd), transfer, None, token) }
    }

    /// Whether requests are queued or in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.ring.queued() != 0 || self.ring.in_flight() != 0
    }

    /// Submits what is queued, polls the device once, and hands out what has completed.
    pub(super) fn turn(&mut self, mut complete: impl FnMut(u64, i32)) -> usize {
        if !self.is_busy() {
            return 0;
        }
        if let Err(error) = self.ring.submit() {
            // What is queued stays so and is submitted in a later turn.
            tracing::debug!(%error, "io_uring_enter");
        }
        let mut batch = [Cqe::default(); REAP_BATCH];
        let found = self.ring.reap(&mut batch);
        for cqe in &batch[..found] {
            complete(cqe.user_data, cqe.res);
        }
        found
    }
}
