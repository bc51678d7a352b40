//! Discovery services: asked once, or followed.

use std::collections::BTreeMap;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "following a discovery service is control plane")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use futures::channel::mpsc;

use super::api::{AttachOptions, DiscoveryInfo, NvmeError};
use super::controller::Controller;
use super::core::NvmeCore;
use super::driver::Shared;
use super::{NvmeDriver, home};
use crate::nvme::TransportId;
use crate::nvme::controller::Discovered;
use crate::reactor::sleep;

/// Time until an attempt that failed is made again.
const RETRY: Duration = Duration::from_secs(5);

/// A discovery service that is followed.
pub(super) struct Following {
    pub(super) name: String,
    pub(super) controller: Arc<Controller>,
    options: AttachOptions,
    /// A message has the log page read again; one that waits is enough.
    wake: mpsc::Sender<()>,
    next_number: AtomicU64,
    facts: Facts,
}

#[expect(clippy::disallowed_types, reason = "see the import")]
type Facts = Mutex<FollowingFacts>;

#[derive(Default)]
struct FollowingFacts {
    entries: Vec<Discovered>,
    /// The names under which subsystems were attached.
    attached: BTreeMap<String, String>,
    stopped: bool,
}

impl Following {
    fn lock(&self) -> std::sync::MutexGuard<'_, FollowingFacts> {
        self.facts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The log page has changed.
    pub(super) fn changed(&self) {
        // When one waits already, this one is served by it.
        let _ = self.wake.clone().try_send(());
    }

    pub(super) fn info(&self) -> DiscoveryInfo {
        let state = self.lock();
        let (attached, entries) =
            (state.attached.values().cloned().collect(), state.entries.clone());
        drop(state);
        DiscoveryInfo {
            name: self.name.clone(),
            trid: self.controller.trid.clone(),
            options: self.options.controller.clone(),
            attached,
            entries,
            trouble: self.controller.trouble(),
        }
    }
}

/// Reads the log page where the discovery controller's admin queue is.
pub(super) async fn read_log(controller: &Controller) -> Result<Vec<Discovered>, String> {
    let id = controller.id;
    let read = controller.home.spawn(move |reactor| async move {
        match NvmeCore::of(&reactor).home(id).and_then(|home| home.link()) {
            Some(link) => link.discovery_log().await.map_err(|error| error.to_string()),
            None => Err("the discovery controller is not connected".to_owned()),
        }
    });
    read.await.unwrap_or_else(|gone| Err(gone.to_string()))
}

impl NvmeDriver {
    /// Connects a discovery controller without adding it to the attached ones.
    pub(super) async fn connect_discovery(
        &self,
        name: &str,
        trid: &TransportId,
        options: &AttachOptions,
    ) -> Result<Arc<Controller>, NvmeError> {
        options.controller.check()?;
        let home_reactor = self.shared.next_home().ok_or(NvmeError::NoReactor)?;
        let controller = Controller::new(name, trid, &options.controller, home_reactor.clone());
        super::attach::start(&self.shared, &controller).await?;
        Ok(controller)
    }

    /// Follows a discovery controller: see [`NvmeDriver::start_discovery`].
    pub(super) async fn follow(
        self: &Arc<Self>,
        name: &str,
        trid: &TransportId,
        options: &AttachOptions,
    ) -> Result<(), NvmeError> {
        let taken = "it is the name of a discovery service already";
        if self.shared.followed().contains_key(name) {
            return Err(NvmeError::Taken { name: name.to_owned(), why: taken });
        }
        let controller = self.connect_discovery(name, trid, options).await?;
        let (wake, woken) = mpsc::channel(1);
        let following = Arc::new(Following {
            name: name.to_owned(),
            controller,
            options: options.clone(),
            wake,
            next_number: AtomicU64::new(0),
            facts: Facts::default(),
        });
        let known = self.shared.followed().insert(name.to_owned(), Arc::clone(&following));
        debug_assert!(known.is_none(), "names were checked, and attaching is serial");
        let first = self.follow_once(&following).await;
        if let Err(why) = first {
            let _ = self.unfollow(name).await;
            let trid = Box::new(trid.clone());
            return Err(NvmeError::Connect { trid, why });
        }
        let driver = Arc::downgrade(self);
        let home_reactor = following.controller.home.clone();
        let task = home_reactor.send(move |reactor| {
            reactor.spawn("nvme discovery", async move {
                let mut woken = woken;
                while woken.next().await.is_some() {
                    loop {
                        let Some(driver) = driver.upgrade() else { return };
                        if following.lock().stopped {
                            return;
                        }
                        if driver.follow_once(&following).await.is_ok() {
                            break;
                        }
                        drop(driver);
                        sleep(RETRY).await;
                    }
                }
            });
        });
        task.await.map_err(|_| NvmeError::NoReactor)
    }

    /// Reads the log page, attaches what is new and detaches what is gone.
    async fn follow_once(self: &Arc<Self>, following: &Arc<Following>) -> Result<(), String> {
        let entries = read_log(&following.controller).await?;
        let wanted: Vec<_> = entries.iter().filter(|entry| !entry.is_discovery).collect();
        let mut failed = None;
        for entry in &wanted {
            if let Err(error) = self.attach_found(following, &entry.trid).await {
                tracing::warn!(trid = %entry.trid, %error, "what was discovered is not attached");
                failed = Some(error.to_string());
            }
        }
        let attached: Vec<_> =
            following.lock().attached.iter().map(|(n, name)| (n.clone(), name.clone())).collect();
        for (subnqn, name) in attached {
            for path in self.controllers(Some(&name)).into_iter().flat_map(|info| info.paths) {
                if !wanted.iter().any(|entry| entry.trid == path.trid) {
                    let _ = self.detach(&name, Some(&path.trid)).await;
                }
            }
            if self.controllers(Some(&name)).is_empty() {
                let _ = following.lock().attached.remove(&subnqn);
            }
        }
        let mut facts = following.lock();
        let nothing = facts.attached.is_empty() && !wanted.is_empty();
        facts.entries = entries;
        match failed {
            Some(why) if nothing => Err(why),
            _ => Ok(()),
        }
    }

    async fn attach_found(
        self: &Arc<Self>,
        following: &Following,
        trid: &TransportId,
    ) -> Result<(), NvmeError> {
        let known = following.lock().attached.get(&trid.subnqn).cloned();
        let name = known.unwrap_or_else(|| {
            let number = following.next_number.fetch_add(1, Ordering::Relaxed);
            format!("{}{number}", following.name)
        });
        let has = |info: &super::ControllerInfo| info.paths.iter().any(|p| p.trid == *trid);
        if self.controllers(Some(&name)).iter().any(has) {
            return Ok(());
        }
        self.attach(&name, trid, &following.options).await?;
        following.lock().attached.insert(trid.subnqn.clone(), name);
        Ok(())
    }

    /// Ends following: see [`NvmeDriver::stop_discovery`].
    pub(super) async fn unfollow(&self, name: &str) -> Result<(), NvmeError> {
        let following = self.shared.followed().remove(name);
        let Some(following) = following else {
            return Err(NvmeError::NotFound { name: name.to_owned() });
        };
        let attached = {
            let mut facts = following.lock();
            facts.stopped = true;
            std::mem::take(&mut facts.attached)
        };
        following.changed();
        home::stop(&following.controller).await;
        for name in attached.into_values() {
            // It may have been detached by somebody else.
            let _ = self.detach(&name, None).await;
        }
        Ok(())
    }
}

/// The discovery services that are followed.
pub(super) fn infos(shared: &Shared) -> Vec<DiscoveryInfo> {
    shared.followed().values().map(|following| following.info()).collect()
}
