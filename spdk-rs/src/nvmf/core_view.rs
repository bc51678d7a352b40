//! What one reactor knows of the subsystems: all that an I/O reads, and nothing that is shared.
//!
//! The target's control plane changes the views of every reactor by closures that it sends there;
//! see `ReactorHandle::call` and `ReactorHandle::spawn`. A reactor's views cost nothing while no
//! command comes.
//!
//! Invariants:
//! * a namespace's device stays open on the core while a command of the namespace is in flight;
//! * after `SubsystemView::remove_namespace` has returned the future, no command of the namespace
//!   is accepted any more; when the future ends, none is in flight and the core's handle of the
//!   device is closed.

use std::cell::{Cell, Ref, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::qpair::Qpair;
use super::reservation::{AccessView, NsReservations};
use super::transport::ListenerId;
use crate::bdev::{BdevDesc, IoHandle};
use crate::reactor::{Reactor, yield_now};

pub use crate::nvme::spec::log::AnaState;

/// A subsystem, by a number that no other subsystem of the process has or had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubsystemId(pub u32);

/// The identity of a host (HOSTID of Connect, 128 bits; zero for none).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(pub [u8; 16]);

impl HostId {
    /// Whether the host has not told who it is; it cannot use reservations then.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == [0; 16]
    }
}

/// A listener's ANA states of the groups of one subsystem, on one core.
#[derive(Debug, Default)]
pub struct ListenerView {
    /// State of group 1, 2, …; groups beyond are optimized.
    groups: RefCell<Vec<AnaState>>,
    /// Whether some group is not accessible: only then an I/O looks further.
    restricted: Cell<bool>,
}

impl ListenerView {
    /// The state of a group (1 and above).
    #[must_use]
    pub fn state(&self, group: u32) -> AnaState {
        let index = group.wrapping_sub(1) as usize;
        self.groups.borrow().get(index).copied().unwrap_or_default()
    }

    /// Whether some group has a state that I/O has to look at.
    #[inline(always)]
    pub(crate) fn is_restricted(&self) -> bool {
        self.restricted.get()
    }

    fn set(&self, group: u32, state: AnaState) {
        let Some(index) = group.checked_sub(1).map(|index| index as usize) else { return };
        let mut groups = self.groups.borrow_mut();
        if groups.len() <= index {
            groups.resize(index + 1, AnaState::Optimized);
        }
        groups[index] = state;
        self.restricted.set(groups.iter().any(|state| !state.serves_io()));
    }
}

/// What a namespace is made of, on every core.
#[derive(Clone)]
pub struct NsConfig {
    /// Its number, 1 and above.
    pub nsid: u32,
    /// The open device; for writing unless the namespace is read-only.
    pub desc: Arc<BdevDesc>,
    /// Its ANA group, 1 and above.
    pub ana_group: u32,
    /// Its reservations.
    pub reservations: Arc<NsReservations>,
}

/// A namespace on one core.
pub struct NsView {
    nsid: u32,
    handle: IoHandle,
    block_shift: u32,
    ana_group: Cell<u32>,
    removed: Cell<bool>,
    in_flight: Cell<usize>,
    reservations: Arc<NsReservations>,
    access: RefCell<Rc<AccessView>>,
    /// Whether a reservation is held: only then an I/O looks further.
    reserved: Cell<bool>,
}

impl NsView {
    /// Opens the namespace's device on the reactor of this thread.
    ///
    /// # Errors
    /// As [`BdevDesc::io_handle`].
    pub fn open(config: &NsConfig) -> std::io::Result<Rc<Self>> {
        let handle = config.desc.io_handle()?;
        let block_shift = handle.bdev().info().block_len.trailing_zeros();
        let access = Rc::new(config.reservations.access());
        Ok(Rc::new(Self {
            nsid: config.nsid,
            handle,
            block_shift,
            ana_group: Cell::new(config.ana_group),
            removed: Cell::new(false),
            in_flight: Cell::new(0),
            reservations: Arc::clone(&config.reservations),
            reserved: Cell::new(access.is_reserved()),
            access: RefCell::new(access),
        }))
    }

    /// Its number.
    #[must_use]
    pub fn nsid(&self) -> u32 {
        self.nsid
    }

    /// The device on this core.
    #[inline(always)]
    #[must_use]
    pub fn handle(&self) -> &IoHandle {
        &self.handle
    }

    /// Bytes of a block, as a power of two.
    #[inline(always)]
    #[must_use]
    pub fn block_shift(&self) -> u32 {
        self.block_shift
    }

    /// Its ANA group.
    #[inline(always)]
    #[must_use]
    pub fn ana_group(&self) -> u32 {
        self.ana_group.get()
    }

    /// Moves it to another ANA group (1 and above).
    pub fn set_ana_group(&self, group: u32) {
        self.ana_group.set(group);
    }

    /// Whether it was removed: commands that wait end in Invalid Namespace or Format.
    #[inline(always)]
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.removed.get()
    }

    /// Commands that are in flight or wait, on this core.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Its reservations, for all cores.
    #[must_use]
    pub fn reservations(&self) -> &Arc<NsReservations> {
        &self.reservations
    }

    /// Whether a reservation is held.
    #[inline(always)]
    pub(crate) fn is_reserved(&self) -> bool {
        self.reserved.get()
    }

    /// Who may do what, as this core knows it.
    pub(crate) fn access(&self) -> Ref<'_, AccessView> {
        Ref::map(self.access.borrow(), |access| &**access)
    }

    pub(crate) fn set_access(&self, access: AccessView) {
        self.reserved.set(access.is_reserved());
        *self.access.borrow_mut() = Rc::new(access);
    }

    #[inline(always)]
    pub(crate) fn enter(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
    }

    #[inline(always)]
    pub(crate) fn leave(&self) {
        self.in_flight.set(self.in_flight.get() - 1);
    }
}

/// A subsystem on one core.
pub struct SubsystemView {
    id: SubsystemId,
    /// Namespace 1 at index 0.
    namespaces: RefCell<Vec<Option<Rc<NsView>>>>,
    listeners: RefCell<HashMap<ListenerId, Rc<ListenerView>>>,
    /// The queue pairs that are attached on this core.
    qpairs: RefCell<Vec<Weak<Qpair>>>,
}

impl SubsystemView {
    /// The subsystem.
    #[must_use]
    pub fn id(&self) -> SubsystemId {
        self.id
    }

    /// The namespace of a number, if there is one.
    #[inline(always)]
    #[must_use]
    pub fn namespace(&self, nsid: u32) -> Option<Rc<NsView>> {
        let index = nsid.wrapping_sub(1) as usize;
        self.namespaces.borrow().get(index)?.clone()
    }

    /// The namespaces, in order of their numbers.
    #[must_use]
    pub fn namespaces(&self) -> Vec<Rc<NsView>> {
        self.namespaces.borrow().iter().flatten().cloned().collect()
    }

    /// Adds a namespace. The control plane has checked that its number is free and small: the
    /// table has as many places as the largest number.
    ///
    /// # Errors
    /// As [`NsView::open`]; nothing was added then.
    pub fn add_namespace(&self, config: &NsConfig) -> std::io::Result<()> {
        let view = NsView::open(config)?;
        let index = view.nsid.wrapping_sub(1) as usize;
        let mut table = self.namespaces.borrow_mut();
        if table.len() <= index {
            table.resize(index + 1, None);
        }
        table[index] = Some(view);
        Ok(())
    }

    /// Takes a namespace out: from now on its commands end in Invalid Namespace or Format, those
    /// that wait for memory too. The future ends when those in flight have ended and the device's handle is closed.
    pub fn remove_namespace(&self, nsid: u32) -> impl Future<Output = ()> + use<> {
        let index = nsid.wrapping_sub(1) as usize;
        let taken = self.namespaces.borrow_mut().get_mut(index).and_then(Option::take);
        if let Some(view) = &taken {
            view.removed.set(true);
        }
        async move {
            while taken.as_ref().is_some_and(|view| view.in_flight() > 0) {
                yield_now().await;
            }
        }
    }

    /// Sets the ANA state of a group (1 and above) on a listener.
    pub fn set_ana_state(&self, listener: ListenerId, group: u32, state: AnaState) {
        self.listener(listener).set(group, state);
    }

    /// A listener's states; all optimized when none was set.
    #[must_use]
    pub fn listener(&self, listener: ListenerId) -> Rc<ListenerView> {
        Rc::clone(self.listeners.borrow_mut().entry(listener).or_default())
    }

    /// Forgets a listener.
    pub fn remove_listener(&self, listener: ListenerId) {
        self.listeners.borrow_mut().remove(&listener);
    }

    /// Calls `f` with every queue pair that is attached on this core.
    pub fn each_qpair(&self, mut f: impl FnMut(&Rc<Qpair>)) {
        let all: Vec<_> = self.qpairs.borrow().iter().filter_map(Weak::upgrade).collect();
        all.iter().for_each(&mut f);
    }

    pub(super) fn add_qpair(&self, qpair: &Rc<Qpair>) {
        self.qpairs.borrow_mut().push(Rc::downgrade(qpair));
    }

    pub(super) fn remove_qpair(&self, qpair: &Rc<Qpair>) {
        self.qpairs.borrow_mut().retain(|one| !std::ptr::eq(one.as_ptr(), Rc::as_ptr(qpair)));
    }
}

/// The subsystems of one core: an extension of its reactor.
#[derive(Default)]
pub struct CoreView {
    subsystems: RefCell<HashMap<SubsystemId, Rc<SubsystemView>>>,
}

impl CoreView {
    /// The part of a reactor, made at first use.
    #[must_use]
    pub fn of(reactor: &Reactor) -> Rc<Self> {
        reactor.extension(|| Rc::new(Self::default()))
    }

    /// Adds an empty subsystem, or returns the one that is there.
    pub fn add(&self, id: SubsystemId) -> Rc<SubsystemView> {
        let made = || {
            Rc::new(SubsystemView {
                id,
                namespaces: RefCell::default(),
                listeners: RefCell::default(),
                qpairs: RefCell::default(),
            })
        };
        Rc::clone(self.subsystems.borrow_mut().entry(id).or_insert_with(made))
    }

    /// A subsystem, if this core has it.
    #[must_use]
    pub fn find(&self, id: SubsystemId) -> Option<Rc<SubsystemView>> {
        self.subsystems.borrow().get(&id).cloned()
    }

    /// Forgets a subsystem. Its namespaces are to be removed before.
    pub fn remove(&self, id: SubsystemId) -> Option<Rc<SubsystemView>> {
        self.subsystems.borrow_mut().remove(&id)
    }
}
