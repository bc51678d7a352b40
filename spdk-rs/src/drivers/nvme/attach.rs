//! Attaching and detaching, as the control plane asks for it.

use std::sync::Arc;

use futures::channel::oneshot;

use super::api::{AttachOptions, MultipathMode, NvmeError};
use super::controller::Controller;
use super::driver::Shared;
use super::{NvmeDriver, home};
use crate::nvme::TransportId;

/// The longest base name in bytes.
const NAME_BYTES_MAX: usize = 223;

/// Starts a controller's task at its home and waits for the outcome of the first connection.
pub(super) async fn start(
    shared: &Arc<Shared>,
    controller: &Arc<Controller>,
) -> Result<Vec<String>, NvmeError> {
    let (tell, told) = oneshot::channel();
    let (task_shared, task_controller) = (Arc::clone(shared), Arc::clone(controller));
    let sent = controller
        .home
        .send(move |reactor| home::start(reactor, &task_shared, &task_controller, tell));
    sent.await.map_err(|_| NvmeError::NoReactor)?;
    let outcome = told.await;
    controller.set_attached();
    let outcome = outcome.map_err(|_| NvmeError::NoReactor)?;
    outcome.map_err(|why| NvmeError::Connect { trid: Box::new(controller.trid.clone()), why })
}

/// Detaches a controller whose attachment is given up before it has an outcome.
struct Unfinished {
    shared: Arc<Shared>,
    controller: Option<Arc<Controller>>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(controller) = self.controller.take() else { return };
        let (shared, home) = (Arc::clone(&self.shared), controller.home.clone());
        let sent = home.try_send(move |reactor| {
            reactor.spawn("nvme attachment given up", async move {
                shared.detach(&controller).await;
            });
        });
        if sent.is_err() {
            tracing::debug!(
                "an NVMe controller that was being attached is left to its reactor's end"
            );
        }
    }
}

impl NvmeDriver {
    /// See [`NvmeDriver::attach`].
    pub(super) async fn attach_path(
        &self,
        name: &str,
        trid: &TransportId,
        options: &AttachOptions,
    ) -> Result<Vec<String>, NvmeError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(NvmeError::BadName { name: name.to_owned() });
        }
        options.controller.check()?;
        if let (Some(address), Some(filter)) = (trid.pci_address(), self.shared.filter.get()) {
            filter.check(address)?;
        }
        let home = self.shared.next_home().ok_or(NvmeError::NoReactor)?;
        let controller = {
            let groups = self.shared.groups();
            if let Some(group) = groups.get(name) {
                check_second(name, trid, options, group)?;
            }
            drop(groups);
            let controller = Controller::new(name, trid, &options.controller, home);
            self.shared.add(&controller, (options.multipath, options.policy));
            controller
        };
        let shared = Arc::clone(&self.shared);
        let mut unfinished = Unfinished { shared, controller: Some(Arc::clone(&controller)) };
        let started = start(&self.shared, &controller).await;
        if started.is_err() {
            self.shared.detach(&controller).await;
        }
        unfinished.controller = None;
        started
    }

    /// The controllers of a name, or the one of a path.
    pub(super) fn find(
        &self,
        name: &str,
        path: Option<&TransportId>,
    ) -> Result<Vec<Arc<Controller>>, NvmeError> {
        let groups = self.shared.groups();
        let group =
            groups.get(name).ok_or_else(|| NvmeError::NotFound { name: name.to_owned() })?;
        let wanted = |c: &&Arc<Controller>| path.is_none_or(|path| c.trid == *path);
        let found: Vec<_> = group.controllers.iter().filter(wanted).cloned().collect();
        match (found.is_empty(), path) {
            (true, Some(path)) => {
                Err(NvmeError::NoPath { name: name.to_owned(), path: path.to_string() })
            }
            _ => Ok(found),
        }
    }
}

impl NvmeDriver {
    /// The controllers of a name, or the one with a controller identifier.
    pub(super) fn find_by_id(
        &self,
        name: &str,
        cntlid: Option<u16>,
    ) -> Result<Vec<Arc<Controller>>, NvmeError> {
        let mut found = self.find(name, None)?;
        if let Some(cntlid) = cntlid {
            found.retain(|c| c.info().is_some_and(|info| info.cntlid == cntlid));
            if found.is_empty() {
                let path = format!("controller {cntlid}");
                return Err(NvmeError::NoPath { name: name.to_owned(), path });
            }
        }
        Ok(found)
    }
}

/// Whether a further path of a name may be attached.
fn check_second(
    name: &str,
    trid: &TransportId,
    options: &AttachOptions,
    group: &super::driver::Group,
) -> Result<(), NvmeError> {
    let taken = |why| Err(NvmeError::Taken { name: name.to_owned(), why });
    let local = |trid: &TransportId| trid.pci_address().is_some();
    if local(trid) || group.controllers.iter().any(|other| local(&other.trid)) {
        return taken("a PCIe controller is the only path of its name");
    }
    if options.multipath == MultipathMode::Disable || group.mode == MultipathMode::Disable {
        return taken("further paths are switched off (multipath)");
    }
    if options.multipath != group.mode {
        return taken("its first path was attached with another multipath mode");
    }
    for other in &group.controllers {
        if other.trid.subnqn != trid.subnqn {
            let why = format!("the other paths lead to {}", other.trid.subnqn);
            return Err(NvmeError::OtherSubsystem { trid: Box::new(trid.clone()), why });
        }
        if (other.trid.address, other.trid.source) == (trid.address, trid.source) {
            return taken("this path is attached already");
        }
        if other.options.hostnqn != options.controller.hostnqn
            || other.options.hostid != options.controller.hostid
        {
            return taken("its paths are of another host (hostnqn, hostid)");
        }
    }
    Ok(())
}
