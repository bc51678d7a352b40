//! One association with a controller: its admin queue from the first byte to the last.
//!
//! The way to a controller that works, each step a [`Step`]: connect the admin queue, read what the
//! controller can, enable it, wait until it is ready, identify it, agree on the number of queues,
//! have events reported, keep it alive. Whatever fails ends the association; a new one begins at
//! the first step.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::channel::oneshot;
use zerocopy::FromBytes;

use super::admin::Awaited;
use super::error::LinkError;
use super::events;
use super::inject::{Rule, wrapped};
use super::options::ControllerOptions;
use super::queue::{QueueListener, QueuePair};
use super::setup::{Setup, configuration};
use super::signal::{Events, Signal};
use super::transport::{self, AdminQueue, QueueParameters};
use crate::env::DmaBuf;
use crate::nvme::TransportId;
use crate::nvme::pcie::{self, PcieController};
use crate::nvme::spec::fabrics::Property;
use crate::nvme::spec::identify::{IdentifyController, IdentifyControllerNvm};
use crate::nvme::spec::register::{Cap, Vs, offset};
use crate::nvme::spec::{Sqe, opcode};
use crate::reactor::{Reactor, sleep};

/// Bytes of data in the capsule of a command of an admin queue (NVMe/TCP 1.0, section 3.3.1).
const ADMIN_IN_CAPSULE_MAX: u32 = 8192;

/// What commands of the set-up are given at the least, however short the options' time is.
const SETUP_LIMIT_MIN: Duration = Duration::from_millis(100);

/// What a controller on this machine is given to shut down, whatever it says of itself.
const SHUTDOWN_LIMIT_MIN: Duration = Duration::from_secs(5);
const SHUTDOWN_LIMIT_MAX: Duration = Duration::from_secs(60);

/// Where the way to a working controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A socket is connected, parameters are exchanged and the admin queue is connected.
    Connect,
    /// The properties CAP and VS are read.
    Capabilities,
    /// CC.EN is being set.
    Enable,
    /// CSTS.RDY is waited for, as long as CAP.TO says.
    Ready,
    /// The controller's data structures are read.
    Identify,
    /// The number of I/O queues is agreed on.
    Queues,
    /// Events are switched on and asked for.
    Events,
    /// The controller works; it is kept alive.
    Working,
}

/// What kind of controller is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    /// One with namespaces.
    Io,
    /// One with a discovery log page.
    Discovery,
}

/// What is known of a controller while it works. The same for all cores.
#[derive(Debug)]
pub(crate) struct LinkInfo {
    pub(crate) cntlid: u16,
    pub(crate) cap: Cap,
    pub(crate) vs: Vs,
    pub(crate) identify: IdentifyController,
    /// Limits of the NVM command set; all zero when the controller does not tell.
    pub(crate) nvm: IdentifyControllerNvm,
    /// I/O queues that it granted.
    pub(crate) io_queues: u16,
    /// Entries of an I/O queue.
    pub(crate) io_queue_entries: u16,
    pub(crate) trid: TransportId,
    pub(crate) options: Arc<ControllerOptions>,
    /// The controller, when it is on this machine and for as long as the association lasts.
    pub(crate) pcie: Option<Weak<PcieController>>,
}

impl LinkInfo {
    /// Bytes that one command transfers at the most.
    pub(crate) fn transfer_max(&self) -> u64 {
        let told = self.identify.data_transfer_max_bytes(self.cap.mpsmin()).unwrap_or(u64::MAX);
        if self.pcie.is_some() { told.min(pcie::TRANSFER_MAX) } else { told }
    }

    /// How long a controller may take to get ready for the loss of power: what it says of itself,
    /// and not less than it needs to say so.
    fn shutdown_limit(&self) -> Duration {
        let told = Duration::from_micros(self.identify.rtd3e.get().into());
        told.clamp(SHUTDOWN_LIMIT_MIN, SHUTDOWN_LIMIT_MAX)
    }

    /// Whether it reports asymmetric access.
    pub(crate) fn reports_ana(&self) -> bool {
        self.identify.cmic & crate::nvme::spec::identify::cmic::ANA != 0
    }

    /// How long a namespace may be between two ANA states.
    pub(crate) fn ana_transition(&self) -> Duration {
        Duration::from_secs(u64::from(self.identify.anatt).max(1))
    }
}

/// One association with a controller.
pub(crate) struct Link {
    reactor: Rc<Reactor>,
    /// The queue pair, and the same with the errors that are injected into its commands.
    bare: Rc<dyn QueuePair>,
    queue: RefCell<Rc<dyn QueuePair>>,
    awaited: Rc<Awaited>,
    signal: Rc<Signal>,
    end: Rc<AdminEnd>,
    info: Arc<LinkInfo>,
    /// The controller, when it is on this machine.
    pcie: Option<Arc<PcieController>>,
    /// Admin commands take this long at the most.
    limit: Option<Duration>,
}

/// Raises the end of an admin queue.
struct AdminEnd {
    signal: Rc<Signal>,
    ended: Cell<bool>,
    waiting: RefCell<Vec<oneshot::Sender<()>>>,
}

/// Closes a queue pair unless it is kept: whoever gives a connection up on the way leaves nothing.
struct CloseGuard(Option<Rc<dyn QueuePair>>);

impl Drop for CloseGuard {
    fn drop(&mut self) {
        if let Some(queue) = self.0.take() {
            queue.close("the controller could not be set up");
        }
    }
}

impl QueueListener for AdminEnd {
    fn queue_closed(&self, why: &str) {
        tracing::debug!(why, "an admin queue has ended");
        self.ended.set(true);
        for waiting in self.waiting.take() {
            let _ = waiting.send(());
        }
        self.signal.raise(Events::CLOSED);
    }

    fn device_leaves(&self, why: &'static str) {
        tracing::debug!(why, "a controller's device leaves");
        self.signal.raise(Events::LEAVING);
    }
}

impl Link {
    /// Connects a controller and brings it to work. Events of the association are raised in
    /// `signal`; `step` shows how far it has come.
    pub(crate) async fn connect(
        reactor: &Rc<Reactor>,
        trid: &TransportId,
        options: &Arc<ControllerOptions>,
        kind: LinkKind,
        signal: &Rc<Signal>,
        step: &Cell<Step>,
    ) -> Result<Rc<Self>, LinkError> {
        step.set(Step::Connect);
        let (ended, waiting) = (Cell::new(false), RefCell::default());
        let end = Rc::new(AdminEnd { signal: Rc::clone(signal), ended, waiting });
        let parameters = QueueParameters {
            entries: options.admin_queue_size,
            in_capsule_max: ADMIN_IN_CAPSULE_MAX,
            header_digest: options.hdgst,
            data_digest: options.ddgst,
            timeout: options.connect_timeout(),
        };
        let listener: Rc<dyn QueueListener> = Rc::<AdminEnd>::clone(&end);
        let connected = transport::connect_admin(reactor, trid, options, &parameters, listener);
        let AdminQueue { queue, pcie } = connected.await?;
        let mut guard = CloseGuard(Some(Rc::clone(&queue)));
        let awaited = Rc::default();
        let limit = options.connect_timeout().max(SETUP_LIMIT_MIN);
        let setup = Setup { reactor, trid, options, queue, pcie, awaited, limit };
        let info = setup.run(kind, step).await?;
        guard.0 = None;
        let limit = Some(options.timeout_admin_us).filter(|&us| us != 0);
        let link = Rc::new(Self {
            reactor: Rc::clone(reactor),
            queue: RefCell::new(Rc::clone(&setup.queue)),
            bare: setup.queue,
            awaited: setup.awaited,
            signal: Rc::clone(signal),
            end,
            info: Arc::new(info),
            pcie: setup.pcie,
            limit: limit.map(Duration::from_micros),
        });
        step.set(Step::Working);
        events::listen(&link);
        link.keep_alive();
        Ok(link)
    }

    /// Whether the association has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.end.ended.get()
    }

    /// Waits until the association has ended.
    pub(crate) async fn closed(&self) {
        if !self.is_closed() {
            let (tell, told) = oneshot::channel();
            self.end.waiting.borrow_mut().push(tell);
            let _ = told.await;
        }
    }

    /// What is known of the controller.
    pub(crate) fn info(&self) -> &Arc<LinkInfo> {
        &self.info
    }

    /// Where the controller is.
    pub(super) fn trid(&self) -> &TransportId {
        &self.info.trid
    }

    pub(super) fn signal(&self) -> &Rc<Signal> {
        &self.signal
    }

    pub(crate) fn reactor(&self) -> &Rc<Reactor> {
        &self.reactor
    }

    /// A buffer of zeroes.
    pub(super) fn buffer(&self, bytes: usize) -> Result<DmaBuf, LinkError> {
        zeroed(&self.reactor, bytes)
    }

    /// Sends an admin command and waits for its end.
    pub(crate) async fn admin(
        &self,
        sqe: Sqe,
        buf: Option<DmaBuf>,
        what: &'static str,
    ) -> Result<(u64, Option<DmaBuf>), LinkError> {
        let limit = self.limit;
        let queue = self.queue();
        let answer = self.awaited.execute_within(&queue, sqe, buf, limit, what).await?;
        answer.ok().map_err(|status| LinkError::Refused { what, status })
    }

    /// Injects errors into admin commands from now on; those before end.
    pub(crate) fn inject(&self, rules: Vec<Arc<Rule>>) {
        *self.queue.borrow_mut() = wrapped(&self.bare, &self.reactor, rules);
    }

    fn queue(&self) -> Rc<dyn QueuePair> {
        Rc::clone(&self.queue.borrow())
    }

    /// What an endless command needs, without the association.
    pub(super) fn parts(&self) -> (Rc<Awaited>, Rc<dyn QueuePair>) {
        (Rc::clone(&self.awaited), self.queue())
    }

    /// Sends a command as it is, with the answer as it is.
    pub(crate) async fn passthrough(&self, sqe: Sqe, buf: Option<DmaBuf>) -> super::admin::Answer {
        self.awaited.execute(&self.queue(), sqe, buf).await
    }

    /// Asks for the abort of a command of a queue; whether the controller aborted it.
    pub(crate) async fn abort(&self, qid: u16, cid: u16) -> Result<bool, LinkError> {
        let mut sqe = Sqe::new(opcode::admin::ABORT, 0);
        sqe.cdw10.set(u32::from(qid) | u32::from(cid) << 16);
        // Bit 0 of the result: the command was not aborted (section 5.1).
        self.admin(sqe, None, "abort").await.map(|(result, _)| result & 1 == 0)
    }

    /// Ends the association in order: the controller is told, as far as it listens.
    pub(crate) async fn shut_down(&self) {
        if let Some(controller) = &self.pcie {
            controller.shut_down(&self.reactor, self.info.shutdown_limit()).await;
            return self.close("shut down");
        }
        let cc = configuration(self.info.cap)
            .with_en(true)
            .with_shn(crate::nvme::spec::register::shn::NORMAL);
        let sqe = Property::set(offset::CC, false, cc.0.into());
        let limit = Some(Duration::from_secs(1));
        let _ = self.awaited.execute_within(&self.bare, sqe, None, limit, "shutdown").await;
        self.close("shut down");
    }

    /// Stops a controller on this machine, so that the queues of all cores can end without asking
    /// it; on fabrics they end by themselves.
    pub(crate) async fn halt(&self) {
        if let Some(controller) = &self.pcie {
            controller.halt().await;
        }
    }

    /// Ends the association at once.
    pub(crate) fn close(&self, why: &str) {
        self.bare.close(why);
    }

    /// Tells the controller at half its time that the host is there.
    fn keep_alive(self: &Rc<Self>) {
        let kato = Duration::from_millis(self.info.options.keep_alive_timeout_ms.into());
        // A controller on this machine sees that it has a host.
        if kato.is_zero() || self.pcie.is_some() {
            return;
        }
        let link = Rc::downgrade(self);
        self.reactor.spawn("nvme keep-alive", async move {
            loop {
                sleep(kato / 2).await;
                let Some(link) = link.upgrade() else { return };
                let sqe = Sqe::new(opcode::admin::KEEP_ALIVE, 0);
                let (awaited, queue) = link.parts();
                let kept =
                    awaited.execute_within(&queue, sqe, None, Some(kato), "keep alive").await;
                if kept.is_err() {
                    return;
                }
            }
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.bare.close("nobody uses the controller any more");
    }
}

/// A buffer of zeroes from a reactor's memory.
pub(super) fn zeroed(reactor: &Rc<Reactor>, bytes: usize) -> Result<DmaBuf, LinkError> {
    let mut buf = reactor.memory().alloc(bytes)?;
    buf.fill(0);
    Ok(buf)
}

/// A structure at the front of a buffer.
pub(super) fn read<T: FromBytes>(buf: Option<&DmaBuf>, what: &'static str) -> Result<T, LinkError> {
    let bytes = buf.map_or(&[][..], DmaBuf::as_slice);
    T::read_from_prefix(bytes)
        .map(|(value, _)| value)
        .map_err(|_| LinkError::Data { what, why: format!("{} bytes are too few", bytes.len()) })
}

/// The low half of a completion's result.
pub(super) fn low(result: u64) -> u32 {
    u32::try_from(result & 0xffff_ffff).unwrap_or(u32::MAX)
}
