//! How a device does.

/// How a device does, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthState {
    /// Nothing is known against it.
    #[default]
    Online,
    /// It works, but not as it should.
    Degraded,
    /// It is not to be relied on, or cannot be reached.
    Faulted,
}

impl HealthState {
    /// Every state, from the best on.
    pub const ALL: [Self; 3] = [Self::Online, Self::Degraded, Self::Faulted];

    /// The name in events and RPC.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Faulted => "faulted",
        }
    }
}

/// How many errors make a device degraded or faulted. 0 is never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// I/Os that failed because of the medium or the device, until it is degraded.
    pub degraded_media_errors: u64,
    /// The same, until it is faulted.
    pub faulted_media_errors: u64,
    /// I/Os beyond their time limit, until it is degraded.
    pub degraded_io_timeouts: u64,
    /// The same, until it is faulted.
    pub faulted_io_timeouts: u64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            degraded_media_errors: 1,
            faulted_media_errors: 100,
            degraded_io_timeouts: 1,
            faulted_io_timeouts: 100,
        }
    }
}

/// What is known of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceHealth {
    /// I/Os that failed because of the medium or the device.
    pub media_errors: u64,
    /// I/Os beyond their time limit.
    pub io_timeouts: u64,
    /// Times that the admin queue failed.
    pub admin_failures: u64,
    /// Times that no path was left.
    pub reconnects: u64,
    /// Some of several paths is not connected.
    pub path_failed: bool,
    /// No path is connected, and another attempt will be made.
    pub reconnecting: bool,
    /// No path is connected, and no attempt will be made.
    pub unreachable: bool,
    /// What is kept on the device takes no more changes: why.
    pub read_only: Option<String>,
    /// What holds for this device; none for what holds for all.
    pub thresholds: Option<Thresholds>,
}

impl DeviceHealth {
    /// The state and the reasons for it, in words.
    #[must_use]
    pub fn judge(&self, general: &Thresholds) -> (HealthState, Vec<String>) {
        let limits = self.thresholds.as_ref().unwrap_or(general);
        let (mut state, mut reasons) = (HealthState::Online, Vec::new());
        let mut add = |worse: HealthState, reason: String| {
            state = state.max(worse);
            reasons.push(reason);
        };
        for (count, degraded, faulted, words) in [
            (
                self.media_errors,
                limits.degraded_media_errors,
                limits.faulted_media_errors,
                "media errors",
            ),
            (
                self.io_timeouts,
                limits.degraded_io_timeouts,
                limits.faulted_io_timeouts,
                "I/Os beyond their time limit",
            ),
        ] {
            let beyond = |limit: u64| limit != 0 && count >= limit;
            if beyond(faulted) {
                add(HealthState::Faulted, format!("{count} {words}"));
            } else if beyond(degraded) {
                add(HealthState::Degraded, format!("{count} {words}"));
            }
        }
        if self.unreachable {
            add(HealthState::Faulted, "it cannot be reached".to_owned());
        } else if self.reconnecting {
            add(HealthState::Degraded, "it is being connected anew".to_owned());
        } else if self.path_failed {
            add(HealthState::Degraded, "a path failed".to_owned());
        }
        if let Some(reason) = &self.read_only {
            add(HealthState::Degraded, format!("what is kept on it is read-only: {reason}"));
        }
        (state, reasons)
    }

    /// Forgets the counts; what is the case now stays.
    pub(super) fn clear(&mut self) {
        (self.media_errors, self.io_timeouts) = (0, 0);
        (self.admin_failures, self.reconnects) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_judged_by_its_worst() {
        let general = Thresholds::default();
        let mut health = DeviceHealth::default();
        let state = |health: &DeviceHealth| health.judge(&general).0;
        assert_eq!(health.judge(&general), (HealthState::Online, Vec::new()));
        health.media_errors = 99;
        assert_eq!(state(&health), HealthState::Degraded);
        health.media_errors = 100;
        assert_eq!(state(&health), HealthState::Faulted);
        let never = Thresholds { degraded_media_errors: 0, faulted_media_errors: 0, ..general };
        health.thresholds = Some(never);
        assert_eq!(state(&health), HealthState::Online);
        health.path_failed = true;
        assert_eq!(state(&health), HealthState::Degraded);
        (health.unreachable, health.io_timeouts) = (true, 1);
        let (worst, reasons) = health.judge(&general);
        assert_eq!(worst, HealthState::Faulted);
        assert_eq!(reasons, ["1 I/Os beyond their time limit", "it cannot be reached"]);
    }
}
