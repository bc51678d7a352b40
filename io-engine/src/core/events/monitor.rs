//! Listens to every device: makes events, and keeps each device's health.

use std::collections::BTreeMap;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "events are errors and changes, not I/O")]
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use spdk_rs::bdev::{Bdev, DeviceEvent, DeviceMonitor as Listener, IoTimeoutAction};
use tokio::sync::mpsc;

use super::{DeviceHealth, EventLog, EventType, HealthState, Thresholds};

/// A device that is to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Its name.
    pub name: String,
    /// Its number: another device may have taken the name meanwhile.
    pub id: u64,
}

/// What an engine knows of its devices' health.
pub struct DeviceMonitor {
    log: Arc<EventLog>,
    known: Known,
    removals: mpsc::UnboundedSender<Removal>,
}

#[expect(clippy::disallowed_types, reason = "events are errors and changes, not I/O")]
type Known = Mutex<State>;

#[derive(Default)]
struct State {
    general: Thresholds,
    devices: BTreeMap<String, (DeviceHealth, HealthState)>,
}

impl DeviceMonitor {
    /// A monitor that writes to `log`, and the devices that it wants removed.
    #[must_use]
    pub fn new(log: &Arc<EventLog>) -> (Arc<Self>, mpsc::UnboundedReceiver<Removal>) {
        let (removals, wanted) = mpsc::unbounded_channel();
        let monitor = Self { log: Arc::clone(log), known: Known::default(), removals };
        (Arc::new(monitor), wanted)
    }

    /// What is known of a device.
    #[must_use]
    pub fn health(&self, name: &str) -> DeviceHealth {
        self.lock().devices.get(name).map(|(health, _)| health.clone()).unwrap_or_default()
    }

    /// What holds for devices without thresholds of their own.
    #[must_use]
    pub fn thresholds(&self) -> Thresholds {
        self.lock().general
    }

    /// Sets the thresholds of a device, or of all without their own. False when there is no such
    /// device.
    pub fn set_thresholds(&self, name: Option<&str>, thresholds: Thresholds) -> bool {
        let names: Vec<String> = {
            let mut state = self.lock();
            match name {
                Some(name) => {
                    let Some((health, _)) = state.devices.get_mut(name) else { return false };
                    health.thresholds = Some(thresholds);
                    vec![name.to_owned()]
                }
                None => {
                    state.general = thresholds;
                    state.devices.keys().cloned().collect()
                }
            }
        };
        names.iter().for_each(|name| self.change(name, |_| ()));
        true
    }

    /// Forgets the counts of a device. False when there is none.
    pub fn reset(&self, name: &str) -> bool {
        let known = self.lock().devices.contains_key(name);
        if known {
            self.change(name, DeviceHealth::clear);
        }
        known
    }

    /// Changes what is known of a device, and tells when its state is another one for it.
    fn change(&self, name: &str, change: impl FnOnce(&mut DeviceHealth)) {
        let mut state = self.lock();
        let general = state.general;
        let Some((health, before)) = state.devices.get_mut(name) else { return };
        change(health);
        let (now, reasons) = health.judge(&general);
        let was = std::mem::replace(before, now);
        drop(state);
        if was != now {
            let details = json!({ "state": now.name(), "before": was.name(), "reasons": reasons });
            self.log.add(EventType::Health, name, details);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn weigh(&self, name: &str, event: &DeviceEvent) {
        self.change(name, |health| match event {
            DeviceEvent::MediaError { count, .. } => health.media_errors += count,
            DeviceEvent::IoTimeout { count, .. } => health.io_timeouts += count,
            DeviceEvent::AdminQueueFailed => health.admin_failures += 1,
            DeviceEvent::Reconnecting => {
                health.reconnecting = true;
                health.reconnects += 1;
            }
            DeviceEvent::Reconnected => (health.reconnecting, health.unreachable) = (false, false),
            DeviceEvent::PathFailed { .. } => health.path_failed = true,
            DeviceEvent::PathRestored { connected, paths } => {
                (health.reconnecting, health.unreachable) = (false, false);
                health.path_failed = connected < paths;
            }
            DeviceEvent::Unreachable => (health.reconnecting, health.unreachable) = (false, true),
            DeviceEvent::ReadOnly { reason, .. } => health.read_only = Some(reason.to_string()),
            _ => {}
        });
    }
}

impl Listener for DeviceMonitor {
    fn added(&self, bdev: &Arc<Bdev>) {
        self.lock().devices.insert(bdev.name().to_owned(), Default::default());
        let info = bdev.info();
        let details = json!({
            "driver": info.driver_name,
            "uuid": info.uuid,
            "num_blocks": bdev.num_blocks(),
            "block_size": info.block_len,
        });
        self.log.add(EventType::Registered, bdev.name(), details);
    }

    fn event(&self, bdev: &Bdev, event: &DeviceEvent) {
        let name = bdev.name();
        let Some((kind, details)) = describe(event) else { return };
        let ctx = match event {
            DeviceEvent::ReadOnly { user, .. } => &**user,
            _ => name,
        };
        let mut details = details;
        if ctx != name {
            details["bdev"] = name.into();
        }
        if *event == DeviceEvent::Removed {
            let _ = self.lock().devices.remove(name);
        }
        self.log.add(kind, ctx, details);
        self.weigh(name, event);
        if let DeviceEvent::IoTimeout { action: IoTimeoutAction::Remove, .. } = event {
            let removal = Removal { name: name.to_owned(), id: bdev.id() };
            if self.removals.send(removal).is_err() {
                tracing::error!(device = name, "nobody is there to remove the device");
            }
        }
    }
}

/// The type of an event, and what there is to say of it.
fn describe(event: &DeviceEvent) -> Option<(EventType, Value)> {
    let paths =
        |connected: &usize, paths: &usize| json!({ "connected": connected, "paths": paths });
    Some(match event {
        DeviceEvent::Removed => (EventType::Unregistered, json!({})),
        DeviceEvent::Resized { before, now } => {
            (EventType::Resized, json!({ "before_blocks": before, "num_blocks": now }))
        }
        DeviceEvent::MediaError { kind, offset_blocks, num_blocks, status, count } => {
            let details = json!({
                "io_type": kind.name(),
                "offset_blocks": offset_blocks,
                "num_blocks": num_blocks,
                "sct": status.sct(),
                "sc": status.sc(),
                "status": status.to_string(),
                "count": count,
            });
            (EventType::MediaError, details)
        }
        DeviceEvent::IoTimeout { kind, offset_blocks, num_blocks, waited, count, action } => {
            let details = json!({
                "io_type": kind.name(),
                "offset_blocks": offset_blocks,
                "num_blocks": num_blocks,
                "waited_us": u64::try_from(waited.as_micros()).unwrap_or(u64::MAX),
                "count": count,
                "action": action.name(),
            });
            (EventType::IoTimeout, details)
        }
        DeviceEvent::AdminQueueFailed => (EventType::AdminQueueFailed, json!({})),
        DeviceEvent::Reconnecting => (EventType::Reconnecting, json!({})),
        DeviceEvent::Reconnected => (EventType::Reconnected, json!({})),
        DeviceEvent::PathFailed { connected, paths: all } => {
            (EventType::PathFailed, paths(connected, all))
        }
        DeviceEvent::PathRestored { connected, paths: all } => {
            (EventType::PathRestored, paths(connected, all))
        }
        DeviceEvent::Unreachable => (EventType::Unreachable, json!({})),
        DeviceEvent::CommandTimeout { qid, cid, limit, action } => {
            let limit_us = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
            let details = json!({ "qid": qid, "cid": cid, "limit_us": limit_us, "action": action });
            (EventType::CommandTimeout, details)
        }
        DeviceEvent::CommandAbort { qid, cid, outcome } => {
            (EventType::CommandAbort, json!({ "qid": qid, "cid": cid, "outcome": outcome }))
        }
        DeviceEvent::ControllerReset { reason } => {
            (EventType::ControllerReset, json!({ "reason": **reason }))
        }
        DeviceEvent::Unplugged { reason } => (EventType::Unplugged, json!({ "reason": **reason })),
        DeviceEvent::ReadOnly { reason, .. } => {
            (EventType::PoolReadOnly, json!({ "reason": **reason }))
        }
        _ => return None,
    })
}
