//! The set-up of an association: from the connected admin queue to a controller that works.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use zerocopy::{FromBytes, IntoBytes};

use super::admin::Awaited;
use super::error::LinkError;
use super::events;
use super::link::{LinkInfo, LinkKind, Step, low, read, zeroed};
use super::options::ControllerOptions;
use super::queue::QueuePair;
use crate::env::DmaBuf;
use crate::nvme::TransportId;
use crate::nvme::pcie::PcieController;
use crate::nvme::spec::fabrics::{
    Connect, ConnectAttributes, ConnectData, ConnectSuccess, Property,
};
use crate::nvme::spec::feature::{NumberOfQueues, SetFeaturesCdw10, fid};
use crate::nvme::spec::identify::{
    IDENTIFY_LEN, IdentifyController, IdentifyControllerNvm, cns, csi, oacs,
};
use crate::nvme::spec::register::{Cap, Cc, Csts, Vs, css, offset};
use crate::nvme::spec::{Sqe, opcode};
use crate::reactor::{Reactor, sleep};

/// A controller identifier that asks for a new controller (section 6.3).
const ANY_CONTROLLER: u16 = 0xffff;

/// Time between two looks at a controller that is getting ready.
const READY_POLL: Duration = Duration::from_millis(10);

/// An association that is being set up.
pub(super) struct Setup<'a> {
    pub(super) reactor: &'a Rc<Reactor>,
    pub(super) trid: &'a TransportId,
    pub(super) options: &'a Arc<ControllerOptions>,
    pub(super) queue: Rc<dyn QueuePair>,
    /// The controller on this machine, which is enabled already.
    pub(super) pcie: Option<Arc<PcieController>>,
    pub(super) awaited: Rc<Awaited>,
    pub(super) limit: Duration,
}

impl Setup<'_> {
    pub(super) async fn run(
        &self,
        kind: LinkKind,
        step: &Cell<Step>,
    ) -> Result<LinkInfo, LinkError> {
        let (connected, cap, vs) = match &self.pcie {
            Some(controller) => (None, controller.cap(), controller.vs()),
            None => self.enable(step).await?,
        };
        step.set(Step::Identify);
        let identify: IdentifyController =
            self.identify(Sqe::identify(cns::CONTROLLER, 0, 0), "identify controller").await?;
        let cntlid = connected.unwrap_or(identify.cntlid.get());
        if connected.is_some() {
            check_identity(&identify, cntlid, kind)?;
        }
        let nvm = self.identify_nvm(&identify, vs, kind).await?;
        self.shadow_doorbells(&identify).await?;
        let mut io_queues = 0;
        if kind == LinkKind::Io {
            step.set(Step::Queues);
            io_queues = self.number_of_queues().await?;
        }
        step.set(Step::Events);
        self.configure_events(&identify).await?;
        let io_queue_entries = self.options.io_queue_size.min(cap.mqes().saturating_add(1)).max(2);
        let (trid, options) = (self.trid.clone(), Arc::clone(self.options));
        let pcie = self.pcie.as_ref().map(Arc::downgrade);
        Ok(LinkInfo {
            cntlid,
            cap,
            vs,
            identify,
            nvm,
            io_queues,
            io_queue_entries,
            trid,
            options,
            pcie,
        })
    }

    /// Connects a controller on fabrics and enables it: its identifier and what it can.
    async fn enable(&self, step: &Cell<Step>) -> Result<(Option<u16>, Cap, Vs), LinkError> {
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
        Ok((Some(cntlid), cap, vs))
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

    /// Has a controller on this machine look at doorbells in memory, where it can.
    async fn shadow_doorbells(&self, identify: &IdentifyController) -> Result<(), LinkError> {
        let can = identify.oacs.get() & oacs::DOORBELL_BUFFER != 0;
        let Some(controller) = self.pcie.as_ref().filter(|_| can && self.options.shadow_doorbells)
        else {
            return Ok(());
        };
        let sqe = controller.make_shadows(self.reactor.memory())?;
        match self.command(sqe, None, "doorbell buffer config").await {
            Ok(_) => {
                controller.use_shadows();
                tracing::info!(trid = %self.trid, "shadow doorbells are used");
            }
            Err(LinkError::Refused { status, .. }) => {
                tracing::warn!(trid = %self.trid, %status, "shadows of doorbells are refused");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    async fn number_of_queues(&self) -> Result<u16, LinkError> {
        let most = self.pcie.as_ref().map_or(u16::MAX, |controller| controller.io_queues_max());
        let wanted = self.options.num_io_queues.min(most);
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
pub(super) fn configuration(cap: Cap) -> Cc {
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
