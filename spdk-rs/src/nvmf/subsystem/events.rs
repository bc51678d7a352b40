//! What devices report of themselves, brought to the subsystems that export them.

use std::sync::Arc;

use super::Subsystem;
use crate::bdev::{DeviceEvent, EventListener};
use crate::nvmf::controller::Notice;
use crate::nvmf::target::Change;

/// Something that happened to the device of a namespace.
#[derive(Debug)]
pub(in crate::nvmf) struct BdevChange {
    pub(in crate::nvmf) subsystem: Arc<Subsystem>,
    nsid: u32,
    /// The device, to know whether the namespace still has it.
    bdev: u64,
    event: DeviceEvent,
}

/// A listener that hands a namespace's device events to the target's task: it must not block.
pub(super) fn listener_of(subsystem: &Arc<Subsystem>, nsid: u32) -> EventListener {
    let subsystem = Arc::downgrade(subsystem);
    Arc::new(move |bdev, event| {
        if !matches!(event, DeviceEvent::Removed | DeviceEvent::Resized { .. }) {
            return;
        }
        let Some(subsystem) = subsystem.upgrade() else { return };
        if let Some(target) = subsystem.target() {
            let (bdev, event) = (bdev.id(), event.clone());
            target.report(Change::Device(BdevChange { subsystem, nsid, bdev, event }));
        }
    })
}

impl BdevChange {
    /// Does what the event asks for. Runs as a part of the target's task.
    pub(in crate::nvmf) async fn apply(self) {
        let Self { subsystem, nsid, bdev, event } = self;
        let _control = subsystem.control.lock().await;
        let same = subsystem.namespace(nsid).is_some_and(|one| one.bdev().id() == bdev);
        if !same {
            return;
        }
        match event {
            DeviceEvent::Removed => {
                let removed = subsystem.take_namespace(nsid).await;
                debug_assert!(removed.is_ok(), "the control lock is held");
                tracing::info!(nqn = %subsystem.nqn(), nsid, "the namespace's device is gone");
            }
            DeviceEvent::Resized { before, now } => {
                tracing::info!(nqn = %subsystem.nqn(), nsid, before, now, "namespace resized");
                subsystem.notify(Notice::NamespaceChanged(nsid), |_| true).await;
            }
            // Nothing that hosts are told of.
            _ => {}
        }
    }
}
