//! A controller that is attached, as all threads see it.

use std::sync::Arc;
#[expect(
    clippy::disallowed_types,
    reason = "attaching, connecting and listing are control plane"
)]
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::api::{ControllerState, PathInfo};
use crate::env::cpu::CoreId;
use crate::nvme::TransportId;
use crate::nvme::controller::ControllerOptions;
use crate::nvme::controller::inject::Rule;
use crate::nvme::controller::link::LinkInfo;
use crate::reactor::ReactorHandle;

/// A path: one controller of a subsystem, behind one address.
pub(super) struct Controller {
    /// A number that no other controller of this process has or had.
    pub(super) id: u64,
    /// The base name.
    pub(super) name: String,
    pub(super) trid: TransportId,
    pub(super) options: Arc<ControllerOptions>,
    /// The reactor that has the admin queue.
    pub(super) home: ReactorHandle,
    state: AtomicU8,
    /// Somebody waits for the outcome of its first connection.
    attaching: AtomicBool,
    /// Counts associations: what began in an earlier one is void.
    association: AtomicU64,
    inner: Inner,
}

/// A change of the errors that are injected.
pub(super) enum RuleChange {
    /// One more.
    Add(Arc<Rule>),
    /// Those of an opcode end.
    Remove {
        /// Of the admin queue.
        admin: bool,
        /// The opcode.
        opcode: u8,
    },
}

/// Who has an I/O queue.
#[derive(Clone)]
enum Holder {
    /// Nobody.
    Nobody,
    /// A core that is connecting it.
    Connecting,
    /// A core on which it is connected.
    Core(ReactorHandle),
}

#[expect(clippy::disallowed_types, reason = "see the import")]
type Inner = Mutex<Facts>;

#[derive(Default)]
struct Facts {
    info: Option<Arc<LinkInfo>>,
    /// Identifiers of I/O queues, the first is 1, and who has them.
    queues: Vec<Holder>,
    trouble: Option<String>,
    reconnects: u64,
    /// I/O that waits for it fails instead of waiting on.
    io_fails: bool,
    /// It is not to be connected.
    disabled: bool,
    /// Errors that are injected into its commands.
    rules: Vec<Arc<Rule>>,
}

impl Controller {
    pub(super) fn new(
        name: &str,
        trid: &TransportId,
        options: &ControllerOptions,
        home: ReactorHandle,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.to_owned(),
            trid: trid.clone(),
            options: Arc::new(options.clone()),
            home,
            state: AtomicU8::new(ControllerState::Connecting as u8),
            attaching: AtomicBool::new(true),
            association: AtomicU64::new(0),
            inner: Inner::default(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The errors that are injected into commands of its admin queue, or of its I/O queues.
    pub(super) fn rules(&self, admin: bool) -> Vec<Arc<Rule>> {
        let of_queue = |rule: &&Arc<Rule>| rule.error.admin == admin;
        self.lock().rules.iter().filter(of_queue).cloned().collect()
    }

    /// Adds one, or removes those of an opcode.
    pub(super) fn change_rules(&self, change: &RuleChange) {
        let rules = &mut self.lock().rules;
        match *change {
            RuleChange::Add(ref rule) => rules.push(Arc::clone(rule)),
            RuleChange::Remove { admin, opcode } => {
                rules.retain(|rule| rule.error.admin != admin || rule.error.opcode != opcode);
            }
        }
    }

    /// The state.
    pub(super) fn state(&self) -> ControllerState {
        match self.state.load(Ordering::Acquire) {
            0 => ControllerState::Connecting,
            1 => ControllerState::Enabled,
            2 => ControllerState::Resetting,
            3 => ControllerState::Failed,
            4 => ControllerState::Disabled,
            _ => ControllerState::Deleting,
        }
    }

    /// Sets the state; a controller that is being detached stays so.
    pub(super) fn set_state(&self, state: ControllerState) {
        let keep = |now: u8| (now != ControllerState::Deleting as u8).then_some(state as u8);
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, keep);
    }

    /// Whether somebody waits for the outcome of its first connection.
    pub(super) fn is_attaching(&self) -> bool {
        self.attaching.load(Ordering::Acquire)
    }

    /// The first connection has an outcome.
    pub(super) fn set_attached(&self) {
        self.attaching.store(false, Ordering::Release);
    }

    /// The number of the present association.
    pub(super) fn association(&self) -> u64 {
        self.association.load(Ordering::Acquire)
    }

    /// What is known of it; none before it was connected first.
    pub(super) fn info(&self) -> Option<Arc<LinkInfo>> {
        self.lock().info.clone()
    }

    /// A new association has begun.
    pub(super) fn connected(&self, info: &Arc<LinkInfo>) {
        let mut facts = self.lock();
        facts.queues = vec![Holder::Nobody; usize::from(info.io_queues)];
        if facts.info.replace(Arc::clone(info)).is_some() {
            facts.reconnects += 1;
        }
        facts.trouble = None;
        facts.io_fails = false;
        self.association.fetch_add(1, Ordering::AcqRel);
        drop(facts);
        self.set_state(ControllerState::Enabled);
    }

    /// Keeps why it is not connected.
    pub(super) fn set_trouble(&self, why: &str) {
        self.lock().trouble = Some(why.to_owned());
    }

    /// Why it is not connected.
    pub(super) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    /// Whether I/O that has no other path fails instead of waiting.
    pub(super) fn io_fails(&self) -> bool {
        let state = self.state();
        let given_up = matches!(
            state,
            ControllerState::Failed | ControllerState::Disabled | ControllerState::Deleting
        );
        given_up || self.lock().io_fails
    }

    /// Whether it is not to be connected.
    pub(super) fn is_disabled(&self) -> bool {
        self.lock().disabled
    }

    /// Sets that; its task has to be told.
    pub(super) fn set_disabled(&self, disabled: bool) {
        self.lock().disabled = disabled;
    }

    /// Sets that, and tells whether it is a change.
    pub(super) fn set_io_fails(&self, fails: bool) -> bool {
        std::mem::replace(&mut self.lock().io_fails, fails) != fails
    }

    /// Takes an I/O queue of the present association: its number and the association's.
    pub(super) fn take_queue(&self) -> Option<(u16, u64)> {
        let mut facts = self.lock();
        let index = facts.queues.iter().position(|one| matches!(one, Holder::Nobody))?;
        facts.queues[index] = Holder::Connecting;
        let association = self.association();
        u16::try_from(index + 1).ok().map(|qid| (qid, association))
    }

    /// An I/O queue of an association is connected on a core.
    pub(super) fn queue_connected(&self, (qid, association): (u16, u64), core: ReactorHandle) {
        self.set_holder(qid, association, Holder::Core(core));
    }

    /// Gives an I/O queue of an association back.
    pub(super) fn give_queue(&self, qid: u16, association: u64) {
        self.set_holder(qid, association, Holder::Nobody);
    }

    fn set_holder(&self, qid: u16, association: u64, holder: Holder) {
        let mut facts = self.lock();
        if association == self.association()
            && let Some(place) = facts.queues.get_mut(usize::from(qid).wrapping_sub(1))
        {
            *place = holder;
        }
    }

    /// A core with a connected I/O queue, for a core that gets none, and the association. Cores
    /// are spread over those that have one by their number.
    pub(super) fn server_for(&self, core: CoreId) -> Option<(ReactorHandle, u64)> {
        let facts = self.lock();
        let held = |one: &Holder| match one {
            Holder::Core(core) => Some(core.clone()),
            Holder::Nobody | Holder::Connecting => None,
        };
        let cores: Vec<_> = facts.queues.iter().filter_map(held).collect();
        let at = usize::try_from(core.0).ok()?.checked_rem(cores.len())?;
        Some((cores.get(at)?.clone(), self.association()))
    }

    /// What listings show.
    pub(super) fn path_info(&self) -> PathInfo {
        let facts = self.lock();
        PathInfo {
            trid: self.trid.clone(),
            options: (*self.options).clone(),
            state: self.state(),
            cntlid: facts.info.as_ref().map(|info| info.cntlid),
            io_queues: facts.info.as_ref().map_or(0, |info| info.io_queues),
            core: self.home.core().0,
            reconnects: facts.reconnects,
            trouble: facts.trouble.clone(),
        }
    }
}
