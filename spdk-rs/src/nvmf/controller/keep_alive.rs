//! How long a controller lives without a sign of its host (section 3.9).
//!
//! One task per controller sleeps until the earliest moment at which something can expire, and
//! then looks whether it has. A sign of life only moves that moment: nothing is woken for it.

use std::rc::{Rc, Weak};
use std::time::Duration;

use futures::future::abortable;

use super::AdminQueue;
use crate::nvmf::subsystem::SubsystemKind;
use crate::nvmf::transport::DisconnectReason;
use crate::reactor::sleep;

/// Granularity of the keep-alive timer in milliseconds (KAS is this in units of 100 ms).
pub(in crate::nvmf) const KEEP_ALIVE_GRANULARITY_MS: u32 = 1000;

/// What a discovery controller without a keep-alive timer may be idle, in milliseconds: nobody
/// would notice that its host is gone.
const DISCOVERY_IDLE_MS: u32 = 120_000;

/// When a controller was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Liveness {
    kind: SubsystemKind,
    /// The keep-alive timer in milliseconds; 0 when there is none.
    kato_ms: u32,
    /// Ticks of the last keep-alive.
    kept: u64,
    /// Ticks of the last admin command.
    heard: u64,
    /// Ticks when the host disabled or shut down the controller, or has not enabled it since.
    idle_since: Option<u64>,
}

/// Rounds a time-out up to the granularity.
fn rounded(kato_ms: u32) -> u32 {
    kato_ms.checked_next_multiple_of(KEEP_ALIVE_GRANULARITY_MS).unwrap_or(u32::MAX)
}

impl Liveness {
    pub(super) fn new(kind: SubsystemKind, kato_ms: u32, now: u64) -> Self {
        let kato_ms = rounded(kato_ms);
        Self { kind, kato_ms, kept: now, heard: now, idle_since: Some(now) }
    }

    /// The tick at which it expires, if it can.
    fn deadline(&self, hz: u64, association_ms: u64) -> Option<u64> {
        let after = |since: u64, ms: u64| {
            let ticks = u128::from(ms) * u128::from(hz) / 1000;
            since.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
        };
        let keep_alive = (self.kato_ms > 0).then(|| after(self.kept, self.kato_ms.into()));
        let discovery = (self.kind == SubsystemKind::Discovery && self.kato_ms == 0)
            .then(|| after(self.heard, DISCOVERY_IDLE_MS.into()));
        let association = self
            .idle_since
            .filter(|_| association_ms > 0)
            .map(|since| after(since, association_ms));
        [keep_alive, discovery, association].into_iter().flatten().min()
    }
}

impl AdminQueue {
    /// The keep-alive timer in milliseconds; 0 when there is none.
    pub(in crate::nvmf) fn kato_ms(&self) -> u32 {
        self.liveness.get().kato_ms
    }

    /// Sets the keep-alive timer, rounded up to the granularity, and starts it afresh.
    pub(in crate::nvmf) fn set_kato(self: &Rc<Self>, kato_ms: u32) {
        let kept = self.reactor.clock().ticks();
        self.liveness.set(Liveness { kato_ms: rounded(kato_ms), kept, ..self.liveness.get() });
        self.start_watch();
    }

    /// A keep-alive came.
    pub(in crate::nvmf) fn keep_alive(&self) {
        let kept = self.reactor.clock().ticks();
        self.liveness.set(Liveness { kept, ..self.liveness.get() });
    }

    /// An admin command came.
    pub(super) fn heard(&self) {
        let heard = self.reactor.now();
        self.liveness.set(Liveness { heard, ..self.liveness.get() });
    }

    /// Notes whether the host has disabled or shut down the controller.
    pub(super) fn set_idle(self: &Rc<Self>, idle: bool) {
        let old = self.liveness.get();
        if old.idle_since.is_some() != idle {
            let idle_since = idle.then(|| self.reactor.clock().ticks());
            self.liveness.set(Liveness { idle_since, ..old });
            self.start_watch();
        }
    }

    fn deadline(&self) -> Option<u64> {
        let association = self.target.options().association_timeout_ms;
        self.liveness.get().deadline(self.reactor.clock().hz(), association)
    }

    /// Begins to watch the deadlines, afresh when it was begun before.
    pub(super) fn start_watch(self: &Rc<Self>) {
        self.stop_watch();
        if self.deadline().is_none() {
            return;
        }
        let (watch, handle) = abortable(watch(Rc::downgrade(self)));
        *self.watch.borrow_mut() = Some(handle);
        self.spawn(async move {
            // Ended by `stop_watch` as a rule.
            let _ = watch.await;
        });
    }

    pub(super) fn stop_watch(&self) {
        if let Some(handle) = self.watch.borrow_mut().take() {
            handle.abort();
        }
    }
}

/// Disconnects the controller when a deadline has passed.
async fn watch(admin: Weak<AdminQueue>) {
    loop {
        let left = {
            let Some(admin) = admin.upgrade() else { return };
            let Some(deadline) = admin.deadline() else { return };
            let clock = admin.reactor.clock();
            let left = deadline.saturating_sub(clock.ticks());
            if left == 0 {
                let controller = std::sync::Arc::clone(&admin.controller);
                tracing::warn!(?controller, "no sign of the host in time: disconnecting it");
                drop(admin);
                return controller.disconnect(DisconnectReason::KeepAlive).await;
            }
            clock.duration_of(left).max(Duration::from_micros(1))
        };
        sleep(left).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 1_000_000;

    #[test]
    fn the_earliest_deadline_counts() {
        let mut live = Liveness::new(SubsystemKind::Nvm, 1_500, 10);
        assert_eq!(live.kato_ms, 2_000);
        assert_eq!(live.deadline(HZ, 1_000), Some(1_000_010));
        live.idle_since = None;
        assert_eq!(live.deadline(HZ, 1_000), Some(2_000_010));
        live.kato_ms = 0;
        assert_eq!(live.deadline(HZ, 1_000), None);
        live.idle_since = Some(5);
        assert_eq!(live.deadline(HZ, 0), None);
    }

    #[test]
    fn discovery_without_keep_alive_is_not_for_ever() {
        let mut live = Liveness::new(SubsystemKind::Discovery, 0, 0);
        live.idle_since = None;
        live.heard = 7;
        assert_eq!(live.deadline(HZ, 0), Some(120_000_007));
        live.kato_ms = 1000;
        assert_eq!(live.deadline(HZ, 0), Some(1_000_000));
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        let live = Liveness::new(SubsystemKind::Nvm, u32::MAX, u64::MAX);
        assert_eq!(live.kato_ms, u32::MAX);
        assert_eq!(live.deadline(u64::MAX, u64::MAX), Some(u64::MAX));
    }
}
