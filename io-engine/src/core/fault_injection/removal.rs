//! A device that is pulled out.

use std::rc::Rc;
use std::sync::Arc;

use spdk_rs::reactor::Reactor;

use super::injection::Injection;

/// Removes the device, as if its cable were pulled: its listeners are told, and all I/O fails.
pub(super) fn start(reactor: &Rc<Reactor>, injection: &Arc<Injection>) {
    let injection = Arc::clone(injection);
    reactor.spawn("removal of a device", async move {
        let (id, device) = (injection.id, injection.bdev.name());
        tracing::warn!(id, device, "a fault injection removes a device");
        let registered = injection.registry.find(device);
        // Another device may have taken the name.
        if registered.is_ok_and(|found| found.id() == injection.bdev.id())
            && let Err(error) = injection.registry.unregister(device).await
        {
            tracing::debug!(%error, "the device is gone already");
        }
    });
}
