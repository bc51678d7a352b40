//! What other reactors and the control plane ask of a controller's home. A home that has ended
//! hears nothing, and whoever waits is told so.

use std::rc::Rc;
use std::sync::Arc;

use futures::channel::oneshot;

use super::super::api::ControllerState;
use super::super::controller::Controller;
use super::super::core::NvmeCore;
use crate::bdev::DeviceEvent;
use crate::nvme::controller::signal::Events;
use crate::reactor::Reactor;

/// Raises events of a controller's present association, from any reactor.
pub(in super::super) fn tell(reactor: &Rc<Reactor>, controller: &Arc<Controller>, events: Events) {
    let (id, home, association) =
        (controller.id, controller.home.clone(), controller.association());
    reactor.spawn("nvme message", async move {
        // A reactor that has ended has no controllers.
        let _ = home
            .send(move |reactor| {
                if let Some(home) = NvmeCore::of(reactor).home(id)
                    && home.controller.association() == association
                {
                    home.signal.raise(events);
                }
            })
            .await;
    });
}

/// Tells the listeners of a controller's namespaces, from any reactor.
pub(in super::super) fn report(
    reactor: &Rc<Reactor>,
    controller: &Arc<Controller>,
    event: DeviceEvent,
) {
    let (id, home) = (controller.id, controller.home.clone());
    reactor.spawn("nvme report", async move {
        let told = home.send(move |reactor| {
            if let Some(home) = NvmeCore::of(reactor).home(id) {
                home.shared.tell(&home.controller, |_, _| event.clone());
            }
        });
        // A reactor that has ended has no controllers.
        let _ = told.await;
    });
}

/// Asks for the abort of a command, from any reactor.
pub(in super::super) fn abort(
    reactor: &Rc<Reactor>,
    controller: &Arc<Controller>,
    qid: u16,
    cid: u16,
) {
    let (id, home) = (controller.id, controller.home.clone());
    reactor.spawn("nvme abort", async move {
        let asked = home.spawn(move |reactor| async move {
            let Some(home) = NvmeCore::of(&reactor).home(id) else { return };
            let Some(link) = home.link() else { return };
            let done = link.abort(qid, cid).await;
            tracing::info!(qid, cid, ?done, "abort of an NVMe command");
            let outcome = match done {
                Ok(true) => "aborted",
                Ok(false) => "not aborted",
                Err(_) => "failed",
            };
            let event = DeviceEvent::CommandAbort { qid, cid, outcome };
            home.shared.tell(&home.controller, |_, _| event.clone());
        });
        let _ = asked.await;
    });
}

/// Resets a controller and waits until it is connected again.
pub(in super::super) async fn reset(controller: &Controller) -> Result<(), String> {
    let id = controller.id;
    let (tell, told) = oneshot::channel();
    let sent = controller.home.send(move |reactor| {
        if let Some(home) = NvmeCore::of(reactor).home(id) {
            home.resets.borrow_mut().push(tell);
            home.signal.raise(Events::RESET);
        }
    });
    sent.await.map_err(|gone| gone.to_string())?;
    told.await.unwrap_or_else(|_| Err("the controller was detached".to_owned()))
}

/// Ends a controller's connections until it is enabled, and waits for that.
pub(in super::super) async fn disable(controller: &Controller) -> Result<(), String> {
    let id = controller.id;
    controller.set_disabled(true);
    let (tell, told) = oneshot::channel();
    let sent = controller.home.send(move |reactor| {
        if let Some(home) = NvmeCore::of(reactor).home(id) {
            home.disables.borrow_mut().push(tell);
            home.signal.raise(Events::RESET);
        }
    });
    sent.await.map_err(|gone| gone.to_string())?;
    told.await.map_err(|_| "the controller was detached".to_owned())
}

/// Has a controller's namespaces looked at anew, and waits until their devices are in line.
pub(in super::super) async fn rescan(controller: &Controller) -> Result<(), String> {
    let id = controller.id;
    let (tell, told) = oneshot::channel();
    let sent = controller.home.send(move |reactor| {
        if let Some(home) = NvmeCore::of(reactor).home(id) {
            home.rescans.borrow_mut().push(tell);
            home.signal.raise(Events::NAMESPACES);
        }
    });
    sent.await.map_err(|gone| gone.to_string())?;
    told.await.unwrap_or_else(|_| Err("the controller was reset or detached".to_owned()))
}

/// Ends a controller's task and waits for its end.
pub(in super::super) async fn stop(controller: &Controller) {
    let id = controller.id;
    controller.set_state(ControllerState::Deleting);
    let (tell, told) = oneshot::channel();
    let sent = controller.home.send(move |reactor| {
        if let Some(home) = NvmeCore::of(reactor).home(id) {
            home.stops.borrow_mut().push(tell);
            home.signal.raise(Events::STOP);
        }
    });
    if sent.await.is_ok() {
        let _ = told.await;
    }
}
