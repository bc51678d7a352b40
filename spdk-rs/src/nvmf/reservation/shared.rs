//! The reservations of a namespace, for all cores.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "reservation commands are control plane")]
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use super::super::core_view::{CoreView, HostId, SubsystemId};
use super::access::AccessView;
use super::persist::{self, PersistError};
use super::state::{Effects, NoticeKind, ReservationState};
use crate::NvmeStatus;
use crate::nvme::spec::reservation::{
    AcquireControl, AcquireData, RegisterControl, RegisterData, ReleaseControl, ReleaseData,
};
use crate::reactor::{Offload, ReactorHandle, yield_now};

/// Something that a host has to be told of: an entry of the reservation notification log page,
/// and an event for every controller of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReservationNotice {
    /// The subsystem.
    pub subsystem: SubsystemId,
    /// The namespace.
    pub nsid: u32,
    /// The host that is told.
    pub host: HostId,
    /// What has happened.
    pub kind: NoticeKind,
}

/// Where notices go. Called on some reactor; must not block.
pub type Notify = Arc<dyn Fn(ReservationNotice) + Send + Sync>;

/// What the reservations of a namespace need to know.
#[derive(Clone)]
pub struct ReservationOptions {
    /// The subsystem.
    pub subsystem: SubsystemId,
    /// The namespace.
    pub nsid: u32,
    /// The device's UUID: a file of another device is refused.
    pub device: Uuid,
    /// Where what persists through a loss of power is kept; without it nothing persists.
    pub ptpl_file: Option<PathBuf>,
    /// Every reactor with a view of the subsystem.
    pub reactors: Vec<ReactorHandle>,
    /// Threads for reading and writing the file.
    pub offload: Offload,
    /// Where notices go.
    pub notify: Notify,
}

/// The reservations of one namespace, for all cores. Commands may come from any of them; they run
/// one after the other.
pub struct NsReservations {
    options: ReservationOptions,
    turn: futures::lock::Mutex<()>,
    state: State,
}

#[expect(clippy::disallowed_types, reason = "see the import")]
type State = Mutex<ReservationState>;

impl NsReservations {
    /// The reservations of a namespace that is being added, with those that its file keeps.
    ///
    /// # Errors
    /// [`PersistError`] when there is a file that cannot be used.
    pub async fn open(options: ReservationOptions) -> Result<Arc<Self>, PersistError> {
        let mut state = ReservationState::default();
        if let Some(path) = options.ptpl_file.clone() {
            let device = options.device;
            let loaded = options.offload.call(move || persist::load(&path, device)).await;
            state = loaded.map_err(|_| ended("read", &options))??;
        }
        Ok(Arc::new(Self {
            options,
            turn: futures::lock::Mutex::new(()),
            state: State::new(state),
        }))
    }

    /// Whether there is a place for what persists through a loss of power.
    #[must_use]
    pub fn can_persist(&self) -> bool {
        self.options.ptpl_file.is_some()
    }

    /// Whether the reservations persist through a loss of power now.
    #[must_use]
    pub fn persists(&self) -> bool {
        self.lock().persists()
    }

    /// Whether some host is registered.
    #[must_use]
    pub fn is_registered(&self, host: &HostId) -> bool {
        self.access().registrants.binary_search(host).is_ok()
    }

    /// Who may do what now.
    #[must_use]
    pub fn access(&self) -> AccessView {
        self.lock().access()
    }

    /// The state now, for listings.
    #[must_use]
    pub fn state(&self) -> ReservationState {
        self.lock().clone()
    }

    /// Turns the persistence on or off (feature 83h).
    ///
    /// # Errors
    /// [`NvmeStatus::INVALID_FIELD`] when nothing can persist,
    /// [`NvmeStatus::INTERNAL_ERROR`] when the file cannot be written.
    pub async fn set_persists(&self, on: bool) -> Result<(), NvmeStatus> {
        if on && !self.can_persist() {
            return Err(NvmeStatus::INVALID_FIELD);
        }
        let change = move |state: &mut ReservationState| {
            state.persists = on;
            Ok(Effects::default())
        };
        self.change(change).await
    }

    /// Reservation Register.
    ///
    /// # Errors
    /// As [`ReservationState::register`], and [`NvmeStatus::INTERNAL_ERROR`] when the file cannot
    /// be written; nothing has changed then.
    pub async fn register(
        &self,
        host: HostId,
        control: RegisterControl,
        data: RegisterData,
    ) -> Result<(), NvmeStatus> {
        let can = self.can_persist();
        self.change(|state| state.register(host, control, &data, can)).await
    }

    /// Reservation Acquire. After a preempt and abort no command of the preempted hosts is in
    /// flight any more.
    ///
    /// # Errors
    /// As [`NsReservations::register`].
    pub async fn acquire(
        &self,
        host: HostId,
        control: AcquireControl,
        data: AcquireData,
    ) -> Result<(), NvmeStatus> {
        self.change(|state| state.acquire(host, control, &data)).await
    }

    /// Reservation Release.
    ///
    /// # Errors
    /// As [`NsReservations::register`].
    pub async fn release(
        &self,
        host: HostId,
        control: ReleaseControl,
        data: ReleaseData,
    ) -> Result<(), NvmeStatus> {
        self.change(|state| state.release(host, control, &data)).await
    }

    /// The answer to Reservation Report, extended form.
    #[must_use]
    pub fn report(&self) -> Vec<u8> {
        self.lock().report()
    }

    /// Makes a change durable, then known to every core, then to the hosts.
    async fn change(
        &self,
        change: impl FnOnce(&mut ReservationState) -> Result<Effects, NvmeStatus>,
    ) -> Result<(), NvmeStatus> {
        let _turn = self.turn.lock().await;
        let before = self.state();
        let mut after = before.clone();
        let effects = change(&mut after)?;
        if before.persists() || after.persists() {
            self.store(&after).await?;
        }
        let access = after.access();
        let changed = access != before.access();
        *self.lock() = after;
        if changed {
            self.publish(&access).await;
        }
        if !effects.abort.is_empty() {
            self.abort(&effects.abort).await;
        }
        let (subsystem, nsid) = (self.options.subsystem, self.options.nsid);
        for notice in effects.notices {
            let (host, kind) = (notice.host, notice.kind);
            (self.options.notify)(ReservationNotice { subsystem, nsid, host, kind });
        }
        Ok(())
    }

    async fn store(&self, state: &ReservationState) -> Result<(), NvmeStatus> {
        let Some(path) = self.options.ptpl_file.clone() else { return Ok(()) };
        let (state, device) = (state.clone(), self.options.device);
        let stored = self.options.offload.call(move || persist::store(&path, &state, device)).await;
        let stored = stored.map_err(|_| ended("write", &self.options)).and_then(|stored| stored);
        stored.map_err(|error| {
            let error: &dyn std::error::Error = &error;
            tracing::error!(error, nsid = self.options.nsid, "reservations cannot be kept");
            NvmeStatus::INTERNAL_ERROR
        })
    }

    /// Has every core check against the new rights.
    async fn publish(&self, access: &AccessView) {
        let (subsystem, nsid) = (self.options.subsystem, self.options.nsid);
        for reactor in &self.options.reactors {
            let access = access.clone();
            // A reactor that has ended checks nothing any more.
            let _ = reactor
                .call(move |reactor| {
                    let view = CoreView::of(reactor).find(subsystem);
                    if let Some(ns) = view.and_then(|view| view.namespace(nsid)) {
                        ns.set_access(access);
                    }
                })
                .await;
        }
    }

    /// Aborts the commands of some hosts that have not begun, and waits for the others.
    async fn abort(&self, hosts: &[HostId]) {
        let (subsystem, nsid) = (self.options.subsystem, self.options.nsid);
        for reactor in &self.options.reactors {
            let hosts = hosts.to_vec();
            let ended = reactor.spawn(move |reactor| async move {
                let Some(view) = CoreView::of(&reactor).find(subsystem) else { return };
                let Some(ns) = view.namespace(nsid) else { return };
                let mut theirs = Vec::new();
                view.each_qpair(|qpair| {
                    if qpair.host().is_some_and(|host| hosts.contains(&host)) {
                        theirs.push(std::rc::Rc::clone(qpair));
                    }
                });
                for qpair in &theirs {
                    qpair.abort_waiting_of(&ns);
                }
                while theirs.iter().any(|qpair| qpair.uses(&ns)) {
                    yield_now().await;
                }
            });
            // A reactor that has ended has nothing in flight.
            let _ = ended.await;
        }
    }

    fn lock(&self) -> Guard<'_> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Guard<'a> = MutexGuard<'a, ReservationState>;

/// The helper thread did not come back with an answer.
fn ended(action: &'static str, options: &ReservationOptions) -> PersistError {
    PersistError::Io {
        action,
        path: options.ptpl_file.clone().unwrap_or_default(),
        source: std::io::Error::other("the helper thread has failed"),
    }
}

impl fmt::Debug for NsReservations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NsReservations(namespace {}, {:?})", self.options.nsid, self.state())
    }
}
