//! The controller as its queue pairs see it, each on its reactor.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use futures::future::AbortHandle;

use super::keep_alive::Liveness;
use super::properties::Registers;
use super::{Controller, Events, LocalQueues, Masks, Notice, fabrics};
use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::nvmf::admin::{self, ERROR_ENTRIES, ErrorLog, Features};
use crate::nvmf::qpair::Qpair;
use crate::nvmf::request::Request;
use crate::nvmf::service::{ControllerService, FailedCommand};
use crate::nvmf::target::Target;
use crate::nvmf::transport::DisconnectReason;
use crate::reactor::Reactor;

/// A controller on the reactor of its admin queue pair: what only admin commands change.
pub(in crate::nvmf) struct AdminQueue {
    pub(in crate::nvmf) controller: Arc<Controller>,
    pub(in crate::nvmf) target: Arc<Target>,
    pub(in crate::nvmf) reactor: Rc<Reactor>,
    /// The number of the queue pair.
    key: u64,
    pub(super) registers: Cell<Registers>,
    pub(in crate::nvmf) features: RefCell<Features>,
    pub(in crate::nvmf) events: RefCell<Events<Request>>,
    pub(in crate::nvmf) errors: RefCell<ErrorLog>,
    /// Abort commands that are being worked on.
    pub(in crate::nvmf) aborts: Cell<u8>,
    pub(super) liveness: Cell<Liveness>,
    pub(super) watch: RefCell<Option<AbortHandle>>,
    closed: Cell<bool>,
}

impl AdminQueue {
    pub(super) fn new(
        controller: &Arc<Controller>,
        target: &Arc<Target>,
        reactor: &Rc<Reactor>,
        key: u64,
        kato_ms: u32,
    ) -> Rc<Self> {
        let kind = controller.subsystem().kind();
        Rc::new(Self {
            controller: Arc::clone(controller),
            target: Arc::clone(target),
            reactor: Rc::clone(reactor),
            key,
            registers: Cell::new(Registers::new(controller.info().queue_depth_max)),
            features: RefCell::new(Features::new(kind)),
            events: RefCell::default(),
            errors: RefCell::default(),
            aborts: Cell::new(0),
            liveness: Cell::new(Liveness::new(kind, kato_ms, reactor.clock().ticks())),
            watch: RefCell::new(None),
            closed: Cell::new(false),
        })
    }

    /// Tells the host of something, as far as it wants to know.
    pub(in crate::nvmf) fn raise(&self, notice: Notice) {
        if self.closed.get() {
            return;
        }
        let masks = {
            let features = self.features.borrow();
            let reservation = match notice {
                Notice::Reservation(event) => features.wants_reservation(event),
                _ => false,
            };
            Masks { notices: features.notices(), reservation }
        };
        let answers = self.events.borrow_mut().raise(notice, masks);
        admin::answer_events(answers);
    }

    /// Whether the controller is enabled, so that admin commands are taken.
    pub(in crate::nvmf) fn is_enabled(&self) -> bool {
        self.registers.get().cc().en()
    }

    /// Ends outstanding event requests, and forgets events.
    pub(super) fn abort_events(&self) {
        let requests = self.events.borrow_mut().clear();
        for request in requests {
            request.finish(NvmeStatus::ABORTED_SQ_DELETION);
        }
    }

    /// Starts a task of the controller.
    pub(in crate::nvmf) fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.reactor.spawn("nvmf controller", future);
    }
}

impl ControllerService for AdminQueue {
    fn admin(self: Rc<Self>, request: Request) {
        self.heard();
        admin::execute(&self, request);
    }

    fn fabrics(self: Rc<Self>, request: Request) {
        fabrics::on_admin_queue(&self, request);
    }

    /// Those of the admin queue are noted where they are refused.
    fn failed(&self, _: FailedCommand) {}

    fn closing(&self, _qpair: &Rc<Qpair>) {
        self.closed.set(true);
        self.controller.set_ending();
        self.stop_watch();
        LocalQueues::of(&self.reactor).remove_admin(self.controller.key);
        // Borrowed no longer when the requests are dropped: that may end the queue pair.
        let requests = self.events.borrow_mut().clear();
        drop(requests);
        let controller = Arc::clone(&self.controller);
        self.spawn(async move { controller.disconnect(DisconnectReason::Host).await });
    }

    fn gone(&self, qpair: &Rc<Qpair>) {
        LocalQueues::of(&self.reactor).remove(self.key, qpair, 0);
        self.controller.remove_queue(0, self.key);
    }
}

/// A controller on the reactor of one of its I/O queue pairs.
pub(super) struct IoQueue {
    own: Weak<Self>,
    reactor: Rc<Reactor>,
    controller: Arc<Controller>,
    qid: u16,
    key: u64,
    failures: RefCell<Failures>,
}

/// Commands that failed, on their way to the error log.
#[derive(Default)]
struct Failures {
    waiting: Vec<FailedCommand>,
    /// Those that found no place: they are counted only.
    beyond: u64,
    /// A task takes them to the admin queue.
    sending: bool,
}

impl IoQueue {
    pub(super) fn new(
        reactor: &Rc<Reactor>,
        controller: &Arc<Controller>,
        qid: u16,
        key: u64,
    ) -> Rc<Self> {
        Rc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            reactor: Rc::clone(reactor),
            controller: Arc::clone(controller),
            qid,
            key,
            failures: RefCell::default(),
        })
    }

    /// Takes failures to the error log until there are none: one message at a time, however many
    /// commands fail.
    fn send_failures(self: Rc<Self>) {
        let reactor = Rc::clone(&self.reactor);
        reactor.spawn("nvmf error log", async move {
            loop {
                let (commands, beyond) = {
                    let mut failures = self.failures.borrow_mut();
                    if failures.waiting.is_empty() {
                        failures.sending = false;
                        return;
                    }
                    let commands = std::mem::take(&mut failures.waiting);
                    (commands, std::mem::take(&mut failures.beyond))
                };
                self.controller.note_failures(self.qid, commands, beyond).await;
            }
        });
    }
}

impl ControllerService for IoQueue {
    fn admin(self: Rc<Self>, request: Request) {
        request.finish(NvmeStatus::INVALID_OPCODE);
    }

    fn fabrics(self: Rc<Self>, request: Request) {
        fabrics::on_io_queue(request);
    }

    fn failed(&self, command: FailedCommand) {
        let mut failures = self.failures.borrow_mut();
        if failures.waiting.len() < ERROR_ENTRIES {
            failures.waiting.push(command);
        } else {
            failures.beyond += 1;
        }
        let idle = !std::mem::replace(&mut failures.sending, true);
        drop(failures);
        if idle && let Some(own) = self.own.upgrade() {
            own.send_failures();
        }
    }

    fn closing(&self, _qpair: &Rc<Qpair>) {}

    fn gone(&self, qpair: &Rc<Qpair>) {
        LocalQueues::of(qpair.reactor()).remove(self.key, qpair, self.qid);
        self.controller.remove_queue(self.qid, self.key);
    }
}

/// Ends a command with a result and no data.
pub(super) fn succeed(request: Request, result: u64) {
    request.complete(NvmeStatus::SUCCESS, result, IoBuf::None);
}
