//! The controllers of an engine with their namespaces, and how these become block devices.

use std::collections::BTreeMap;
use std::rc::Rc;
#[expect(
    clippy::disallowed_types,
    reason = "attaching, scanning and listing are control plane"
)]
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use futures::future::poll_immediate;
use spdk_rs_sys::pci::PciFilter;

use super::api::{ControllerInfo, ControllerState, MultipathMode, MultipathPolicy};
use super::controller::Controller;
use super::core::{NvmeCore, on_all};
use super::discovery::Following;
use super::disk;
use super::head::{Head, Path};
use crate::bdev::{Bdev, DeviceEvent, Registry};
use crate::nvme::controller::logs::AnaStates;
use crate::nvme::controller::scan::Namespace;
use crate::reactor::{Reactor, ReactorHandle};

/// What the driver's parts share.
pub(super) struct Shared {
    pub(super) registry: Arc<Registry>,
    pub(super) reactors: Vec<ReactorHandle>,
    groups: Groups,
    followed: Followed,
    /// Which controllers of this machine may be used.
    pub(super) filter: OnceLock<PciFilter>,
    /// One change of the namespaces at a time.
    changes: futures::lock::Mutex<()>,
    next_home: AtomicUsize,
}

#[expect(clippy::disallowed_types, reason = "see the import")]
type Groups = Mutex<BTreeMap<String, Group>>;

#[expect(clippy::disallowed_types, reason = "see the import")]
type Followed = Mutex<BTreeMap<String, Arc<Following>>>;

/// The controllers of one name: paths to one subsystem.
pub(super) struct Group {
    pub(super) mode: MultipathMode,
    pub(super) policy: MultipathPolicy,
    pub(super) controllers: Vec<Arc<Controller>>,
    members: BTreeMap<u32, Member>,
}

/// A namespace and its block device.
#[derive(Clone)]
struct Member {
    head: Arc<Head>,
    bdev: Arc<Bdev>,
}

impl Shared {
    pub(super) fn new(registry: &Arc<Registry>, reactors: &[ReactorHandle]) -> Arc<Self> {
        Arc::new(Self {
            registry: Arc::clone(registry),
            reactors: reactors.to_vec(),
            groups: Groups::default(),
            followed: Followed::default(),
            filter: OnceLock::new(),
            changes: futures::lock::Mutex::new(()),
            next_home: AtomicUsize::new(0),
        })
    }

    pub(super) fn groups(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Group>> {
        self.groups.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn followed(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Following>>> {
        self.followed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The reactor for the next admin queue: each in turn.
    pub(super) fn next_home(&self) -> Option<ReactorHandle> {
        let next = self.next_home.fetch_add(1, Ordering::Relaxed);
        self.reactors.get(next % self.reactors.len().max(1)).cloned()
    }

    /// Adds a controller to the group of its name, which is made if need be.
    pub(super) fn add(
        &self,
        controller: &Arc<Controller>,
        group: (MultipathMode, MultipathPolicy),
    ) {
        let (mode, policy) = group;
        let empty = Group { mode, policy, controllers: Vec::new(), members: BTreeMap::new() };
        let mut groups = self.groups();
        let group = groups.entry(controller.name.clone()).or_insert(empty);
        group.controllers.push(Arc::clone(controller));
    }

    /// Removes a controller that has no namespaces any more; and its group, if it was the last.
    pub(super) fn remove(&self, controller: &Controller) {
        let mut groups = self.groups();
        if let Some(group) = groups.get_mut(&controller.name) {
            group.controllers.retain(|other| other.id != controller.id);
            if group.controllers.is_empty() {
                let _ = groups.remove(&controller.name);
            }
        }
    }

    /// What listings show.
    pub(super) fn infos(&self, name: Option<&str>) -> Vec<ControllerInfo> {
        let groups = self.groups();
        let wanted = groups.iter().filter(|(own, _)| name.is_none_or(|name| name == *own));
        let info = |(name, group): (&String, &Group)| ControllerInfo {
            name: name.clone(),
            multipath: group.mode,
            paths: group.controllers.iter().map(|c| c.path_info()).collect(),
            bdevs: group.members.values().map(|member| member.head.name.clone()).collect(),
        };
        wanted.map(info).collect()
    }

    /// Every namespace.
    pub(super) fn heads(&self) -> Vec<Arc<Head>> {
        let groups = self.groups();
        let members = groups.values().flat_map(|group| group.members.values());
        members.map(|member| Arc::clone(&member.head)).collect()
    }

    /// The block devices of a controller's namespaces, or of one of them.
    pub(super) fn bdevs_of(&self, name: &str, nsid: Option<u32>) -> Vec<Arc<Bdev>> {
        let wanted = |own: &u32| nsid.is_none_or(|nsid| nsid == *own);
        let members = self.members(name).into_iter();
        members.filter(|(own, _)| wanted(own)).map(|(_, member)| member.bdev).collect()
    }

    fn members(&self, name: &str) -> BTreeMap<u32, Member> {
        self.groups().get(name).map(|group| group.members.clone()).unwrap_or_default()
    }

    fn policy(&self, name: &str) -> MultipathPolicy {
        self.groups().get(name).map(|group| group.policy).unwrap_or_default()
    }

    /// Brings the block devices in line with the namespaces of a controller. Returns the names of
    /// those that it leads to, or the first reason why one could not be made.
    pub(super) async fn update(
        &self,
        reactor: &Rc<Reactor>,
        controller: &Arc<Controller>,
        namespaces: &[Namespace],
        states: &AnaStates,
    ) -> Result<Vec<String>, String> {
        let _turn = self.changes.lock().await;
        if !namespaces.is_empty() && controller.state() == ControllerState::Deleting {
            return Err("it is being detached".to_owned());
        }
        let mut trouble = None;
        let present: Vec<_> = namespaces.iter().map(|namespace| namespace.nsid).collect();
        self.remove_others(reactor, controller, &present).await;
        for namespace in namespaces {
            let ana = states.of(namespace.nsid, namespace.group);
            let path =
                Path { controller: Arc::clone(controller), namespace: namespace.clone(), ana };
            if let Err(why) = self.update_one(reactor, path).await {
                tracing::warn!(controller = controller.name, nsid = namespace.nsid, why, "unused");
                trouble = trouble.or(Some(why));
            }
        }
        let members = self.members(&controller.name);
        let own = |nsid: &u32| members.get(nsid).map(|member| member.head.name.clone());
        match trouble {
            Some(why) => Err(why),
            None => Ok(present.iter().filter_map(own).collect()),
        }
    }

    /// Removes the path of a controller from every namespace that is not among these, and the
    /// namespaces that have no path left.
    async fn remove_others(
        &self,
        reactor: &Rc<Reactor>,
        controller: &Arc<Controller>,
        present: &[u32],
    ) {
        for (nsid, member) in self.members(&controller.name) {
            if present.contains(&nsid) {
                continue;
            }
            let (was, others) = member.head.remove_path(controller.id);
            if was && others {
                self.refresh(&member.head).await;
            } else if was {
                self.remove_member(reactor, &controller.name, nsid, &member).await;
            }
        }
    }

    /// Removes a namespace with its block device; the last of its I/O ends in the background.
    async fn remove_member(&self, reactor: &Rc<Reactor>, name: &str, nsid: u32, member: &Member) {
        if let Some(group) = self.groups().get_mut(name) {
            let _ = group.members.remove(&nsid);
        }
        let (registry, device) = (Arc::clone(&self.registry), member.head.name.clone());
        let mut removal = Box::pin(async move { registry.unregister(&device).await.map(drop) });
        // The name is free after the first step.
        if poll_immediate(&mut removal).await.is_none() {
            reactor.spawn("nvme namespace removal", async move {
                if let Err(error) = removal.await {
                    tracing::warn!(%error, "a namespace was removed already");
                }
            });
        }
        self.refresh(&member.head).await;
    }

    async fn update_one(&self, reactor: &Rc<Reactor>, path: Path) -> Result<(), String> {
        let (name, nsid) = (path.controller.name.clone(), path.namespace.nsid);
        let Some(info) = path.controller.info() else { return Err("it is gone".to_owned()) };
        let known = self.members(&name).remove(&nsid);
        if let Some(member) = known {
            let Some(first) = member.head.first() else { return Err("it is going".to_owned()) };
            let (old, new) = (&first.namespace, &path.namespace);
            if is_same(old, new) {
                let num_blocks = new.num_blocks;
                let _ = member.head.set_path(path);
                self.refresh(&member.head).await;
                member.bdev.resize(num_blocks).await;
                return Ok(());
            }
            let (_, others) = member.head.remove_path(path.controller.id);
            if others {
                self.refresh(&member.head).await;
                return Err(format!("namespace {nsid} is another one than on the other paths"));
            }
            // Another namespace has taken its number.
            self.remove_member(reactor, &name, nsid, &member).await;
        }
        let head_name = format!("{name}n{nsid}");
        let namespace = path.namespace.clone();
        let head = Head::new(head_name, path, self.policy(&name));
        let bdev = disk::make(&head, &info, &namespace);
        self.registry.register(&bdev).map_err(|error| error.to_string())?;
        if let Some(group) = self.groups().get_mut(&name) {
            group.members.insert(nsid, Member { head, bdev });
        }
        Ok(())
    }

    /// Sets the ANA states of the namespaces of a controller.
    pub(super) async fn set_states(&self, controller: &Arc<Controller>, states: &AnaStates) {
        let _turn = self.changes.lock().await;
        for member in self.members(&controller.name).values() {
            let (paths, _) = member.head.paths();
            let Some(path) = paths.into_iter().find(|path| path.controller.id == controller.id)
            else {
                continue;
            };
            let ana = states.of(path.namespace.nsid, path.namespace.group);
            let _ = member.head.set_path(Path { ana, ..path });
            // Also when nothing has changed: a channel may have been told otherwise meanwhile.
            self.refresh(&member.head).await;
        }
    }

    /// Has the channels of a namespace take its paths over.
    pub(super) async fn refresh(&self, head: &Head) {
        let id = head.id;
        on_all(&self.reactors, move |reactor| {
            if let Some(channel) = NvmeCore::of(reactor).channel(id) {
                channel.refresh();
            }
        })
        .await;
    }

    /// Tells the listeners of every namespace that a controller leads to; `event` makes it from
    /// the number of paths that are connected and the number of all.
    pub(super) fn tell(
        &self,
        controller: &Controller,
        event: impl Fn(usize, usize) -> DeviceEvent,
    ) {
        for member in self.members(&controller.name).into_values() {
            let (paths, _) = member.head.paths();
            if paths.iter().any(|path| path.controller.id == controller.id) {
                let up = |path: &&Path| path.controller.state() == ControllerState::Enabled;
                member.bdev.notify(&event(paths.iter().filter(up).count(), paths.len()));
            }
        }
    }

    /// A discovery controller's log page has changed.
    pub(super) fn discovery_changed(&self, controller: &Controller) {
        if let Some(following) = self.followed().get(&controller.name) {
            following.changed();
        }
    }

    /// Takes a controller's paths away, ends its connections, then removes what has no path left.
    pub(super) async fn detach(self: &Arc<Self>, controller: &Arc<Controller>) {
        let (shared, own) = (Arc::clone(self), Arc::clone(controller));
        controller.set_state(ControllerState::Deleting);
        let removed = controller.home.spawn(move |reactor| async move {
            let _ = shared.update(&reactor, &own, &[], &AnaStates::default()).await;
        });
        let _ = removed.await;
        super::home::stop(controller).await;
        self.remove(controller);
    }
}

/// Whether two descriptions are of one namespace, as far as its device would be the same. Limits of
/// a zoned one may be the controller's, and differ from path to path.
fn is_same(old: &Namespace, new: &Namespace) -> bool {
    let zone_blocks = |namespace: &Namespace| namespace.zones.map(|zones| zones.zone_blocks);
    old.ids == new.ids && old.block_len == new.block_len && zone_blocks(old) == zone_blocks(new)
}
