//! A namespace on one core: from an I/O to a command on one of its paths, and back.
//!
//! An I/O waits while a path may come back (bounded by the slots of the core), and is sent again
//! as the verdicts of [`super::retry`] say. What waits belongs to this channel until then.
#![allow(unsafe_code, reason = "hands the memory of parked I/O to queue pairs")]

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use super::api::MultipathPolicy;
use super::choose::{Candidate, choose};
use super::command::{self, WORD_CONTROLLER, WORD_TRIES, WORD_WAITS};
use super::controller::Controller;
use super::core::NvmeCore;
use super::fused::FusedTable;
use super::head::Head;
use super::queue::{IoQueue, QueueState};
use super::retry::{Tries, Verdict, verdict};
use super::{admin, home};
use crate::NvmeStatus;
use crate::bdev::{BdevChannel, BdevCore, BdevIo, ChannelCounters, IoList, IoType};
use crate::nvme::controller::link::LinkInfo;
use crate::nvme::controller::queue::{Command, CommandEnd, CommandOwner, QueuePair};
use crate::nvme::controller::signal::Events;
use crate::nvme::spec::identify::vwc;
use crate::nvme::spec::log::AnaState;
use crate::reactor::{Reactor, sleep};

/// How often I/O that waits is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// A path as this core sees it.
pub(super) struct ChannelPath {
    pub(super) controller: Arc<Controller>,
    pub(super) queue: Rc<IoQueue>,
    pub(super) nsid: u32,
    pub(super) ana: Cell<AnaState>,
    /// None before the controller was connected first.
    pub(super) info: Option<Arc<LinkInfo>>,
    /// What went over it from this core, if that is counted.
    pub(super) stats: Option<Arc<ChannelCounters>>,
}

/// The channel, shared with the queues that end its commands.
pub(super) struct ChannelCore {
    own: Weak<Self>,
    pub(super) reactor: Rc<Reactor>,
    pub(super) core: Rc<BdevCore>,
    nvme: Rc<NvmeCore>,
    pub(super) head: Arc<Head>,
    pub(super) paths: RefCell<Vec<ChannelPath>>,
    policy: Cell<MultipathPolicy>,
    pub(super) last: Cell<usize>,
    /// `last` is a path that is preferred: it stays, whatever is taken meanwhile.
    stays: Cell<bool>,
    /// Whether what goes over a path is counted.
    counted: Cell<bool>,
    /// I/O that waits for a path, or for room in its queue.
    held: RefCell<IoList>,
    /// I/O that waits for time to pass.
    later: RefCell<IoList>,
    watched: Cell<bool>,
    pub(super) fused: RefCell<FusedTable>,
}

/// What the block device layer has.
pub(super) struct NvmeChannel(Rc<ChannelCore>);

impl BdevChannel for NvmeChannel {
    #[inline]
    fn submit(&mut self, mut io: BdevIo) {
        let context = io.driver_context();
        context[WORD_TRIES] = 0;
        context[WORD_WAITS] = 0;
        self.0.send(io);
    }
}

impl ChannelCore {
    pub(super) fn open(reactor: &Rc<Reactor>, head: &Arc<Head>) -> NvmeChannel {
        let nvme = NvmeCore::of(reactor);
        let channel = Rc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            reactor: Rc::clone(reactor),
            core: BdevCore::of(reactor),
            nvme: Rc::clone(&nvme),
            head: Arc::clone(head),
            paths: RefCell::default(),
            policy: Cell::default(),
            last: Cell::new(0),
            stays: Cell::new(false),
            counted: Cell::new(false),
            held: RefCell::default(),
            later: RefCell::default(),
            watched: Cell::new(false),
            fused: RefCell::default(),
        });
        nvme.add_channel(head.id, &channel);
        channel.refresh();
        NvmeChannel(channel)
    }

    /// Takes the namespace's paths over as they are now.
    pub(super) fn refresh(&self) {
        let (paths, policy) = self.head.paths();
        let current = self.paths.borrow().get(self.last.get()).map(|path| path.controller.id);
        let make = |path: super::head::Path| ChannelPath {
            queue: self.nvme.queue(&self.reactor, &path.controller),
            nsid: path.namespace.nsid,
            ana: Cell::new(path.ana),
            info: path.controller.info(),
            stats: self.stats_of(&path.controller),
            controller: path.controller,
        };
        let fresh: Vec<_> = paths.into_iter().map(make).collect();
        let index = |id: Option<u64>| fresh.iter().position(|path| Some(path.controller.id) == id);
        let preferred = index(self.head.preferred());
        let preferred = preferred.filter(|_| policy == MultipathPolicy::ActivePassive);
        self.last.set(preferred.or_else(|| index(current)).unwrap_or(0));
        self.stays.set(preferred.is_some());
        self.counted.set(fresh.iter().any(|path| path.stats.is_some()));
        self.policy.set(policy);
        // Those that are dropped may end their queue pairs.
        let before = std::mem::replace(&mut *self.paths.borrow_mut(), fresh);
        drop(before);
        self.path_changed();
    }

    /// Something about the paths has changed: what waits is tried again.
    pub(super) fn path_changed(&self) {
        let mut waiting = self.held.take();
        while let Some(io) = waiting.pop() {
            self.send(io);
        }
    }

    /// The path to take, by its index.
    #[inline(always)]
    pub(super) fn pick(&self, paths: &[ChannelPath]) -> Option<usize> {
        // Where one path is taken as long as it is among the best, or is the only one, a look at
        // it does in nearly all cases.
        let last = self.last.get();
        let settled = paths.len() == 1 || self.policy.get() == MultipathPolicy::ActivePassive;
        if settled && paths.get(last).is_some_and(|path| self.candidate(path).is_best()) {
            return Some(last);
        }
        self.pick_among(paths)
    }

    #[inline(never)]
    fn pick_among(&self, paths: &[ChannelPath]) -> Option<usize> {
        let candidate = |index: usize| self.candidate(&paths[index]);
        let index = choose(self.policy.get(), self.last.get(), paths.len(), candidate)?;
        if !self.stays.get() {
            self.last.set(index);
        }
        Some(index)
    }

    /// A path as the choice sees it.
    #[inline(always)]
    fn candidate(&self, path: &ChannelPath) -> Candidate {
        let connected = path.queue.state() == QueueState::Up;
        let deep = self.policy.get() == MultipathPolicy::QueueDepth;
        let outstanding = if deep { path.queue.outstanding() } else { 0 };
        Candidate { connected, ana: path.ana.get(), outstanding }
    }

    /// Sends an I/O on the best path, or has it wait.
    #[inline]
    pub(super) fn send(&self, io: BdevIo) {
        if matches!(io.kind(), IoType::NvmeAdmin | IoType::Reset) {
            return self.send_admin(io);
        }
        let paths = self.paths.borrow();
        let Some(path) = self.pick(&paths).map(|index| &paths[index]) else {
            drop(paths);
            return self.wait(io);
        };
        let Some(pair) = path.queue.pair() else {
            drop(paths);
            return self.wait(io);
        };
        match self.send_on(path, &pair, io) {
            None => {}
            Some(back) => {
                drop(paths);
                self.wait(back);
            }
        }
    }

    /// Sends an I/O on a path; gives it back when the queue has no room.
    #[inline(always)]
    fn send_on(
        &self,
        path: &ChannelPath,
        pair: &Rc<dyn QueuePair>,
        mut io: BdevIo,
    ) -> Option<BdevIo> {
        match io.kind() {
            // A controller without a volatile cache has nothing to flush (section 7.1).
            IoType::Flush if !has_cache(path) => {
                io.complete(NvmeStatus::SUCCESS);
                return None;
            }
            IoType::CompareAndWrite => return self.send_fused(path, pair, io),
            _ => {}
        }
        let (sqe, data) = match command::command_of(&mut io, path.nsid) {
            Ok(made) => made,
            Err(status) => {
                io.complete(status);
                return None;
            }
        };
        let context = io.driver_context();
        context[WORD_CONTROLLER] = path.controller.id;
        context[WORD_WAITS] = 0;
        let owner: Rc<dyn CommandOwner> = self.own.upgrade()?;
        let tag = io.park();
        // SAFETY: the I/O is parked until the command has ended; its memory and the table of its
        // pieces stay in place until it is completed.
        match unsafe { pair.submit(Command { sqe, data, tag, owner }) } {
            Ok(()) => None,
            Err(_) => self.core.unpark(tag),
        }
    }

    /// The owner of commands that are sent.
    pub(super) fn owner(&self) -> Option<Rc<dyn CommandOwner>> {
        let shared: Rc<dyn CommandOwner> = self.own.upgrade()?;
        Some(shared)
    }

    /// Has an I/O wait for a path, or ends it when none is to be expected.
    #[cold]
    pub(super) fn wait(&self, mut io: BdevIo) {
        let now = self.reactor.now();
        let context = io.driver_context();
        if context[WORD_WAITS] == 0 {
            context[WORD_WAITS] = now;
        }
        let since = io.driver_context()[WORD_WAITS];
        let waited = self.reactor.clock().duration_of(now.saturating_sub(since));
        match self.no_path(waited) {
            None => {
                self.held.borrow_mut().push(io);
                self.watch();
            }
            Some(status) => io.complete(status),
        }
    }

    /// The status of an I/O that has no path to wait for; none when it may wait on.
    fn no_path(&self, waited: Duration) -> Option<NvmeStatus> {
        let paths = self.paths.borrow();
        if paths.is_empty() {
            return Some(NvmeStatus::INVALID_NAMESPACE);
        }
        let mut status = NvmeStatus::INTERNAL_PATH_ERROR;
        for path in paths.iter() {
            if path.controller.io_fails() {
                continue;
            }
            match (path.queue.state(), path.ana.get()) {
                (_, AnaState::PersistentLoss) => {}
                (QueueState::Up, AnaState::Inaccessible | AnaState::Change) => {
                    let limit = path.info.as_ref().map_or(Duration::ZERO, |i| i.ana_transition());
                    if waited <= limit {
                        return None;
                    }
                    status = NvmeStatus::new(3, 0x02);
                }
                _ => return None,
            }
        }
        Some(status)
    }

    /// Has an I/O sent again after a while.
    #[cold]
    fn send_later(&self, io: BdevIo) {
        self.later.borrow_mut().push(io);
        self.watch();
    }

    /// Looks at what waits, for as long as something does.
    fn watch(&self) {
        if self.watched.replace(true) {
            return;
        }
        let weak = Weak::clone(&self.own);
        self.reactor.spawn("nvme waiting I/O", async move {
            loop {
                sleep(LOOK).await;
                let Some(channel) = weak.upgrade() else { return };
                let mut waiting = channel.later.take();
                waiting.append(&mut channel.held.borrow_mut());
                if waiting.is_empty() {
                    channel.watched.set(false);
                    return;
                }
                while let Some(io) = waiting.pop() {
                    channel.send(io);
                }
            }
        });
    }

    fn send_admin(&self, io: BdevIo) {
        let Some(shared) = self.own.upgrade() else { return };
        match io.kind() {
            IoType::Reset => admin::reset(&shared, io),
            _ => admin::passthrough(&shared, io),
        }
    }

    /// What becomes of an I/O that did not succeed.
    #[cold]
    pub(super) fn failed(&self, mut io: BdevIo, end: &CommandEnd) {
        let kind = io.kind();
        let tries = self.tries(&mut io);
        let verdict = verdict(end, kind, tries);
        let context = io.driver_context();
        let controller = context[WORD_CONTROLLER];
        match verdict {
            Verdict::End(status) => {
                if has_result(kind) {
                    io.set_result(end.result);
                }
                io.complete(status);
            }
            Verdict::Again => {
                context[WORD_TRIES] += 1;
                self.send(io);
            }
            Verdict::Later => {
                context[WORD_TRIES] += 1;
                self.send_later(io);
            }
            Verdict::Elsewhere => {
                context[WORD_TRIES] += 1 << 32;
                self.send(io);
            }
            Verdict::State(state) => {
                context[WORD_TRIES] += 1 << 32;
                self.state_reported(controller, state);
                self.send(io);
            }
        }
    }

    fn tries(&self, io: &mut BdevIo) -> Tries {
        let context = io.driver_context();
        let (word, controller) = (context[WORD_TRIES], context[WORD_CONTROLLER]);
        let paths = self.paths.borrow();
        let path = paths.iter().find(|path| path.controller.id == controller);
        let retries_max = path.map_or(0, |p| p.controller.options.transport_retry_count.into());
        let half = |half: u64| u32::try_from(half & 0xffff_ffff).unwrap_or(u32::MAX);
        Tries { retries: half(word), losses: half(word >> 32), retries_max }
    }

    /// A controller says that the namespace has another state: that is believed at once, and the
    /// log page is read.
    fn state_reported(&self, controller: u64, state: AnaState) {
        let paths = self.paths.borrow();
        if let Some(path) = paths.iter().find(|path| path.controller.id == controller) {
            path.ana.set(state);
            home::tell(&self.reactor, &path.controller, Events::ANA);
        }
    }
}

/// Whether a flush is sent: unless the controller has no volatile cache. One on this machine is
/// always asked: it costs next to nothing, and what it says of its cache need not be believed.
fn has_cache(path: &ChannelPath) -> bool {
    let cached = |info: &Arc<LinkInfo>| info.identify.vwc & vwc::PRESENT != 0;
    path.info.as_ref().is_none_or(|info| info.pcie.is_some() || cached(info))
}

/// Whether what a command answers beside its status is the I/O's: the block that an append has
/// written first, or whatever a command of the caller's own comes to.
const fn has_result(kind: IoType) -> bool {
    matches!(kind, IoType::NvmeIo | IoType::ZoneAppend)
}

impl CommandOwner for ChannelCore {
    #[inline]
    fn command_done(&self, tag: u64, end: &CommandEnd) {
        if FusedTable::is_tag(tag) {
            return self.fused_done(tag, end);
        }
        let Some(mut io) = self.core.unpark(tag) else {
            tracing::error!(tag, "an NVMe command ended for no I/O");
            return;
        };
        if self.counted.get() {
            self.count(&mut io, end.status);
        }
        if end.status.is_success() {
            if has_result(io.kind()) {
                io.set_result(end.result);
            }
            io.complete(NvmeStatus::SUCCESS);
        } else {
            self.failed(io, end);
        }
    }
}
