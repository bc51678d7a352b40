//! One association with a controller: its admin queue from the first byte to the last.
//!
//! The way to a controller that works, each step a [`Step`]: connect the admin queue, read what the
//! controller can, enable it, wait until it is ready, identify it, agree on the number of queues,
//! have events reported, keep it alive. Whatever fails ends the association; a new one begins at
//! the first step.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot;
use zerocopy::{FromBytes, IntoBytes};

use super::admin::Awaited;
use super::error::LinkError;
use super::events;
use super::options::ControllerOptions;
use super::queue::{QueueListener, QueuePair};
use super::signal::{Events, Signal};
use super::transport::{self, QueueParameters};
use crate::env::DmaBuf;
use crate::nvme::TransportId;
use crate::nvme::spec::fabrics::{
    Connect, ConnectAttributes, ConnectData, ConnectSuccess, Property,
};
use crate::nvme::spec::feature::{NumberOfQueues, SetFeaturesCdw10, fid};
use crate::nvme::spec::identify::{
    IDENTIFY_LEN, IdentifyController, IdentifyControllerNvm, cns, csi,
};
use crate::nvme::spec::register::{Cap, Cc, Csts, Vs, css, offset};
use crate::nvme::spec::{Sqe, opcode};
use crate::reactor::{Reactor, sleep};

/// A controller identifier that asks for a new controller (section 6.3).
const ANY_CONTROLLER: u16 = 0xffff;

/// Bytes of data in the capsule of a command of an admin queue (NVMe/TCP 1.0, section 3.3.1).
const ADMIN_IN_CAPSULE_MAX: u32 = 8192;

/// Time between two looks at a controller that is getting ready.
const READY_POLL: Duration = Duration::from_millis(10);

/// What commands of the set-up are given at the least, however short the options' time is.
const SETUP_LIMIT_MIN: Duration = Duration::from_millis(100);

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
}

impl LinkInfo {
    /// Bytes that one command transfers at the most.
    pub(crate) fn transfer_max(&self) -> u64 {
        self.identify.data_transfer_max_bytes(self.cap.mpsmin()).unwrap_or(u64::MAX)
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
    queue: Rc<dyn QueuePair>,
    awaited: Rc<Awaited>,
    signal: Rc<Signal>,
    end: Rc<AdminEnd>,
    info: Arc<LinkInfo>,
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
}

/// An association that is being set up.
struct Setup<'a> {
    reactor: &'a Rc<Reactor>,
    trid: &'a TransportId,
    options: &'a Arc<ControllerOptions>,
    queue: Rc<dyn QueuePair>,
    awaited: Rc<Awaited>,
    limit: Duration,
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
        let queue = transport::connect(reactor, trid, &parameters, listener).await?;
        let mut guard = CloseGuard(Some(Rc::clone(&queue)));
        let awaited = Rc::default();
        let limit = options.connect_timeout().max(SETUP_LIMIT_MIN);
        let setup = Setup { reactor, trid, options, queue, awaited, limit };
        let info = setup.run(kind, step).await?;
        guard.0 = None;
        let limit = Some(options.timeout_admin_us).filter(|&us| us != 0);
        let link = Rc::new(Self {
            reactor: Rc::clone(reactor),
            queue: setup.queue,
            awaited: setup.awaited,
            signal: Rc::clone(signal),
            end,
            info: Arc::new(info),
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

    pub(super) fn reactor(&self) -> &Rc<Reactor> {
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
        let answer = self.awaited.execute_within(&self.queue, sqe, buf, limit, what).await?;
        answer.ok().map_err(|status| LinkError::Refused { what, status })
    }

    /// What an endless command needs, without the association.
    pub(super) fn parts(&self) -> (Rc<Awaited>, Rc<dyn QueuePair>) {
        (Rc::clone(&self.awaited), Rc::clone(&self.queue))
    }

    /// Sends a command as it is, with the answer as it is.
    pub(crate) async fn passthrough(&self, sqe: Sqe, buf: Option<DmaBuf>) -> super::admin::Answer {
        self.awaited.execute(&self.queue, sqe, buf).await
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
        let cc = configuration(self.info.cap)
            .with_en(true)
            .with_shn(crate::nvme::spec::register::shn::NORMAL);
        let sqe = Property::set(offset::CC, false, cc.0.into());
        let limit = Some(Duration::from_secs(1));
        let _ = self.awaited.execute_within(&self.queue, sqe, None, limit, "shutdown").await;
        self.close("shut down");
    }

    /// Ends the association at once.
    pub(crate) fn close(&self, why: &str) {
        self.queue.close(why);
    }

    /// Tells the controller at half its time that the host is there.
    fn keep_alive(self: &Rc<Self>) {
        let kato = Duration::from_millis(self.info.options.keep_alive_timeout_ms.into());
        if kato.is_zero() {
            return;
        }
        let link = Rc::downgrade(self);
        self.reactor.spawn("nvme keep-alive", async move {
            loop {
                sleep(kato / 2).await;
                let Some(link) = link.upgrade() else { return };
                let sqe = Sqe::new(opcode::admin::KEEP_ALIVE, 0);
                let awaited = &link.awaited;
                let kept =
                    awaited.execute_within(&link.queue, sqe, None, Some(kato), "keep alive").await;
                if kept.is_err() {
                    return;
                }
            }
        });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.queue.close("nobody uses the controller any more");
    }
}

impl Setup<'_> {
    async fn run(&self, kind: LinkKind, step: &Cell<Step>) -> Result<LinkInfo, LinkError> {
        let kato = self.options.keep_alive_timeout_ms;
        let data = (self.trid, &**self.options, ANY_CONTROLLER);
        let entries = self.options.admin_queue_size;
        let cntlid = self.connect((0, entries, kato), data).await?;
        step.set(Step::Capabilities);
        let cap = Cap(self.property(offset::CAP, true).await?);
        let vs = Vs(low(self.property(offset::VS, false).await?));
        step.set(Step::Enable);
        let cc = Property::set(offset::CC, false, configuration(cap).with_en(true).0.into());
        self.command(cc, None, "enable").await?;
        step.set(Step::Ready);
        self.ready(cap).await?;
        step.set(Step::Identify);
        let identify: IdentifyController =
            self.identify(Sqe::identify(cns::CONTROLLER, 0, 0), "identify controller").await?;
        check_identity(&identify, cntlid, kind)?;
        let nvm = self.identify_nvm(&identify, vs, kind).await?;
        let mut io_queues = 0;
        if kind == LinkKind::Io {
            step.set(Step::Queues);
            io_queues = self.number_of_queues().await?;
        }
        step.set(Step::Events);
        self.configure_events(&identify).await?;
        let io_queue_entries = self.options.io_queue_size.min(cap.mqes().saturating_add(1)).max(2);
        let (trid, options) = (self.trid.clone(), Arc::clone(self.options));
        Ok(LinkInfo { cntlid, cap, vs, identify, nvm, io_queues, io_queue_entries, trid, options })
    }

    async fn command(
        &self,
        sqe: Sqe,
        buf: Option<DmaBuf>,
        what: &'static str,
    ) -> Result<(u64, Option<DmaBuf>), LinkError> {
        let (awaited, limit) = (&self.awaited, Some(self.limit));
        let answer = awaited.execute_within(&self.queue, sqe, buf, limit, what).await?;
        answer.ok().map_err(|status| LinkError::Refused { what, status })
    }

    async fn connect(
        &self,
        queue: (u16, u16, u32),
        data: (&TransportId, &ControllerOptions, u16),
    ) -> Result<u16, LinkError> {
        let limit = self.limit;
        connect_command(self.reactor, &self.queue, &self.awaited, queue, data, limit).await
    }

    async fn property(&self, offset: u32, wide: bool) -> Result<u64, LinkError> {
        let sqe = Property::get(offset, wide);
        Ok(self.command(sqe, None, "property get").await?.0)
    }

    /// Waits until the controller is ready, for as long as it said that this may take.
    async fn ready(&self, cap: Cap) -> Result<(), LinkError> {
        let after = Duration::from_millis(500) * u32::from(cap.to()).max(1);
        let clock = self.reactor.clock();
        let deadline = clock.ticks().saturating_add(clock.ticks_in(after));
        loop {
            let csts = Csts(low(self.property(offset::CSTS, false).await?));
            if csts.cfs() {
                return Err(LinkError::Fatal);
            }
            if csts.rdy() {
                return Ok(());
            }
            if clock.ticks() >= deadline {
                return Err(LinkError::NotReady { after });
            }
            sleep(READY_POLL).await;
        }
    }

    async fn identify<T: FromBytes>(&self, sqe: Sqe, what: &'static str) -> Result<T, LinkError> {
        let buf = zeroed(self.reactor, IDENTIFY_LEN)?;
        let (_, buf) = self.command(sqe, Some(buf), what).await?;
        read(buf.as_ref(), what)
    }

    /// The limits of the NVM command set, where the controller has them (section 5.17.2.6).
    async fn identify_nvm(
        &self,
        identify: &IdentifyController,
        vs: Vs,
        kind: LinkKind,
    ) -> Result<IdentifyControllerNvm, LinkError> {
        if kind == LinkKind::Discovery || vs.0 < Vs::V2_0.0 || identify.nn.get() == 0 {
            return Ok(IdentifyControllerNvm::default());
        }
        let sqe = Sqe::identify(cns::CONTROLLER_CSI, 0, csi::NVM);
        match self.identify(sqe, "identify controller, NVM command set").await {
            // A controller need not know it; then it tells no limits.
            Err(LinkError::Refused { .. }) => Ok(IdentifyControllerNvm::default()),
            other => other,
        }
    }

    async fn number_of_queues(&self) -> Result<u16, LinkError> {
        let wanted = self.options.num_io_queues;
        let both = NumberOfQueues(0).with_submission(wanted - 1).with_completion(wanted - 1);
        let mut sqe = Sqe::new(opcode::admin::SET_FEATURES, 0);
        sqe.cdw10.set(SetFeaturesCdw10(0).with_fid(fid::NUMBER_OF_QUEUES).0);
        sqe.cdw11.set(both.0);
        let (result, _) = self.command(sqe, None, "number of queues").await?;
        let granted = NumberOfQueues(low(result));
        let least = granted.submission().min(granted.completion());
        Ok(least.saturating_add(1).min(wanted))
    }

    /// Has the events reported that this code knows, of those that the controller knows.
    async fn configure_events(&self, identify: &IdentifyController) -> Result<(), LinkError> {
        let wanted = events::known(identify);
        if wanted == 0 {
            return Ok(());
        }
        let mut sqe = Sqe::new(opcode::admin::SET_FEATURES, 0);
        sqe.cdw10.set(SetFeaturesCdw10(0).with_fid(fid::ASYNC_EVENTS).0);
        sqe.cdw11.set(wanted);
        self.command(sqe, None, "asynchronous event configuration").await.map(drop)
    }
}

/// Sends Fabrics Connect for a queue (identifier, entries, keep-alive in milliseconds) of a
/// controller; returns the controller's identifier.
pub(super) async fn connect_command(
    reactor: &Rc<Reactor>,
    queue: &Rc<dyn QueuePair>,
    awaited: &Rc<Awaited>,
    (qid, entries, kato): (u16, u16, u32),
    (trid, options, cntlid): (&TransportId, &ControllerOptions, u16),
    limit: Duration,
) -> Result<u16, LinkError> {
    let what = "connect";
    let hostid = options.hostid.into_bytes();
    let data = ConnectData::new(hostid, cntlid, &trid.subnqn, &options.hostnqn);
    let mut buf = zeroed(reactor, data.as_bytes().len())?;
    buf.as_mut_slice().copy_from_slice(data.as_bytes());
    let cattr = ConnectAttributes::default();
    let connect = Connect { recfmt: 0, qid, sqsize: entries.max(2) - 1, cattr, kato };
    let sent = awaited.execute_within(queue, connect.to_sqe(), Some(buf), Some(limit), what);
    let (result, _) = sent.await?.ok().map_err(|status| LinkError::Connect { status })?;
    let success = ConnectSuccess(low(result));
    if success.atr() || success.ascr() {
        let why = "authentication is required".to_owned();
        return Err(LinkError::Data { what: "answer to connect", why });
    }
    Ok(success.cntlid())
}

/// The configuration for a controller, not yet enabled.
fn configuration(cap: Cap) -> Cc {
    let set = if cap.css() & css::IO_COMMAND_SETS != 0 {
        6
    } else if cap.css() & css::NVM == 0 && cap.css() & css::NO_IO_COMMAND_SET != 0 {
        7
    } else {
        0
    };
    Cc(0).with_css(set).with_mps(cap.mpsmin()).with_iosqes(6).with_iocqes(4)
}

fn check_identity(
    identify: &IdentifyController,
    cntlid: u16,
    kind: LinkKind,
) -> Result<(), LinkError> {
    let wrong = |why: String| Err(LinkError::Data { what: "identify data", why });
    if identify.cntlid.get() != cntlid {
        let found = identify.cntlid.get();
        return wrong(format!("its identifier is {found}, connect told {cntlid}"));
    }
    if kind == LinkKind::Io && identify.ioccsz.get() < 4 {
        let found = identify.ioccsz.get();
        return wrong(format!("a capsule of {found} × 16 bytes (IOCCSZ) holds no command"));
    }
    if identify.icdoff.get() != 0 {
        let found = identify.icdoff.get();
        return wrong(format!("data in capsules begin at {found} × 16 (ICDOFF), allowed is 0"));
    }
    Ok(())
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
