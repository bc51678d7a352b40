//! The log and the monitor.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{Bdev, DeviceEvent, IoTimeoutAction, IoType, Registry};
use spdk_rs::drivers::null;
use tokio::sync::broadcast::error::TryRecvError;

use super::*;

#[test]
fn events_are_numbered_and_what_is_gone_is_announced() {
    let log = EventLog::default();
    assert!(log.since(0, 10).is_empty());
    let extra = 6;
    for number in 0..EVENTS_MAX + extra {
        log.add(EventType::Resized, &number.to_string(), json!({}));
    }
    let all = log.since(0, usize::MAX);
    assert_eq!((all.len(), all[0].kind, all[0].id), (EVENTS_MAX + 1, EventType::Lost, 5));
    assert_eq!((all[0].ctx.as_str(), &all[0].details["count"]), ("6", &json!(6)));
    let ids: Vec<u64> = all[1..].iter().map(|event| event.id).collect();
    assert_eq!(ids, (6..1030).collect::<Vec<_>>());
    assert!(all[1..].iter().all(|event| event.ctx == event.id.to_string()));
    // Going on behind what was read never skips anything unannounced.
    assert_eq!(log.since(4, 1)[0].details["count"], 2);
    assert_eq!((log.since(6, 1)[0].id, log.since(6, 1)[0].kind), (6, EventType::Resized));
    assert!(log.since(1030, 10).is_empty());
}

#[test]
fn a_subscriber_sees_every_event_or_how_many_it_missed() {
    let log = EventLog::default();
    log.add(EventType::Resized, "before", json!({}));
    let mut live = log.subscribe();
    log.add(EventType::Resized, "a", json!({}));
    assert_eq!(live.try_recv().unwrap().ctx, "a");
    assert_eq!(live.try_recv(), Err(TryRecvError::Empty));
    (0..EVENTS_MAX + 3).for_each(|_| log.add(EventType::Resized, "b", json!({})));
    assert_eq!(live.try_recv(), Err(TryRecvError::Lagged(3)));
    assert_eq!(live.try_recv().unwrap().id, 5);
}

#[test]
fn types_have_names_of_their_own() {
    let mut names = EventType::ALL.map(EventType::name).to_vec();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), EventType::ALL.len());
}

fn device(name: &str) -> Arc<Bdev> {
    null::create(null::NullOptions {
        name: name.to_owned(),
        uuid: None,
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 8,
    })
}

/// A registry with a monitor and one device.
struct Rig {
    log: Arc<EventLog>,
    monitor: Arc<DeviceMonitor>,
    removals: tokio::sync::mpsc::UnboundedReceiver<Removal>,
    bdev: Arc<Bdev>,
}

impl Rig {
    fn new() -> Self {
        let log = Arc::new(EventLog::default());
        let (monitor, removals) = DeviceMonitor::new(&log);
        let registry = Registry::new();
        assert!(registry.set_monitor(Arc::<DeviceMonitor>::clone(&monitor)));
        let bdev = device("n0");
        registry.register(&bdev).unwrap();
        Self { log, monitor, removals, bdev }
    }

    /// The types of the events since the last look, and the state.
    fn after(&self, event: DeviceEvent) -> (Vec<&'static str>, HealthState) {
        let next = self.log.since(0, usize::MAX).len() as u64;
        self.bdev.notify(&event);
        let kinds =
            self.log.since(next, usize::MAX).iter().map(|event| event.kind.name()).collect();
        let general = self.monitor.thresholds();
        (kinds, self.monitor.health("n0").judge(&general).0)
    }
}

fn media_errors(count: u64) -> DeviceEvent {
    let (kind, status) = (IoType::Read, NvmeStatus::UNRECOVERED_READ_ERROR);
    DeviceEvent::MediaError { kind, offset_blocks: 3, num_blocks: 1, status, count }
}

#[test]
fn errors_make_a_device_degraded_and_then_faulted() {
    use HealthState::{Degraded, Faulted, Online};
    let rig = Rig::new();
    assert_eq!(rig.log.since(0, 9)[0].kind, EventType::Registered);
    let health = EventType::Health.name();
    assert_eq!(rig.after(media_errors(1)), (vec!["bdev_media_error", health], Degraded));
    assert_eq!(rig.after(media_errors(2)), (vec!["bdev_media_error"], Degraded));
    assert_eq!(rig.after(media_errors(97)), (vec!["bdev_media_error", health], Faulted));
    let last = rig.log.since(0, usize::MAX).pop().unwrap();
    let details =
        json!({"state": "faulted", "before": "degraded", "reasons": ["100 media errors"]});
    assert_eq!((last.ctx.as_str(), &last.details), ("n0", &details));
    assert!(rig.monitor.reset("n0") && !rig.monitor.reset("other"));
    assert_eq!(rig.monitor.health("n0").judge(&rig.monitor.thresholds()).0, Online);
    let strict = Thresholds { faulted_media_errors: 1, ..Thresholds::default() };
    assert!(rig.monitor.set_thresholds(Some("n0"), strict));
    assert!(!rig.monitor.set_thresholds(Some("other"), strict));
    assert_eq!(rig.after(media_errors(1)).1, Faulted);
}

#[test]
fn paths_come_and_go() {
    use HealthState::{Degraded, Faulted, Online};
    let rig = Rig::new();
    let state = |event| rig.after(event).1;
    assert_eq!(state(DeviceEvent::PathFailed { connected: 1, paths: 2 }), Degraded);
    assert_eq!(state(DeviceEvent::Reconnecting), Degraded);
    assert_eq!(state(DeviceEvent::Unreachable), Faulted);
    assert_eq!(state(DeviceEvent::Reconnected), Degraded, "the other path is still gone");
    assert_eq!(state(DeviceEvent::PathRestored { connected: 2, paths: 2 }), Online);
    assert_eq!(rig.monitor.health("n0").reconnects, 1);
    let (user, reason) = ("p0".into(), "a flush failed".into());
    let (kinds, now) = rig.after(DeviceEvent::ReadOnly { user, reason });
    assert_eq!((kinds, now), (vec!["pool_read_only", "bdev_health"], Degraded));
    let events = rig.log.since(0, usize::MAX);
    let told = events.iter().find(|event| event.kind == EventType::PoolReadOnly).unwrap();
    let details = json!({"reason": "a flush failed", "bdev": "n0"});
    assert_eq!((told.ctx.as_str(), &told.details), ("p0", &details));
}

#[test]
fn a_time_limit_can_ask_for_removal_and_a_removed_device_is_forgotten() {
    let mut rig = Rig::new();
    let late = |action| DeviceEvent::IoTimeout {
        kind: IoType::Write,
        offset_blocks: 0,
        num_blocks: 1,
        waited: Duration::from_millis(7),
        count: 1,
        action,
    };
    rig.after(late(IoTimeoutAction::Ignore));
    assert!(rig.removals.try_recv().is_err());
    rig.after(late(IoTimeoutAction::Remove));
    let removal = rig.removals.try_recv().unwrap();
    assert_eq!((removal.name.as_str(), removal.id), ("n0", rig.bdev.id()));
    assert_eq!(rig.monitor.health("n0").io_timeouts, 2);
    assert_eq!(rig.after(DeviceEvent::Removed).0, ["bdev_unregister"]);
    assert_eq!(rig.monitor.health("n0"), DeviceHealth::default());
}
