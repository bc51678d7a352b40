//! Connect (section 6.3): a connection becomes a queue of a controller.

use std::rc::Rc;
use std::sync::Arc;

use zerocopy::FromBytes;

use super::service::IoQueue;
use super::{AdminQueue, Controller, LocalQueues, QueueEntry, QueueRefusal, next_key};
use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::nvme::spec::fabrics::{Connect, ConnectData, ConnectInvalid, connect_offset};
use crate::nvme::spec::log::cntlid;
use crate::nvmf::core_view::{CoreView, HostId, SubsystemView};
use crate::nvmf::log_budget;
use crate::nvmf::qpair::{Attachment, Qpair};
use crate::nvmf::request::Request;
use crate::nvmf::service::{ControllerService, TargetService};
use crate::nvmf::subsystem::{ConnectRefusal, Host, Subsystem, SubsystemKind};
use crate::nvmf::target::Target;

/// Status values of Connect (command specific).
const fn connect_status(sc: u8) -> NvmeStatus {
    NvmeStatus::new(1, sc).with_do_not_retry(true)
}

const INCOMPATIBLE_FORMAT: NvmeStatus = connect_status(0x80);
/// No identifier is free: a retry may help.
const CONTROLLER_BUSY: NvmeStatus = NvmeStatus::new(1, 0x81);
const INVALID_PARAMETERS: NvmeStatus = connect_status(0x82);
const INVALID_HOST: NvmeStatus = connect_status(0x84);
const SEQUENCE_ERROR: NvmeStatus = NvmeStatus::new(0, 0x0c).with_do_not_retry(true);

/// A refused Connect: the status, and dword 0 of the completion.
type Refusal = (NvmeStatus, ConnectInvalid);

fn refuse(status: NvmeStatus) -> Refusal {
    (status, ConnectInvalid(0))
}

/// A wrong field of the command entry, by its offset.
fn wrong_field(offset: u16) -> Refusal {
    (INVALID_PARAMETERS, ConnectInvalid::command(offset))
}

/// A wrong field of the data, by its offset.
fn wrong_data(offset: u16) -> Refusal {
    (INVALID_PARAMETERS, ConnectInvalid::data(offset))
}

fn no_access(why: ConnectRefusal) -> Refusal {
    match why {
        ConnectRefusal::NoSuchSubsystem => wrong_data(connect_offset::SUBNQN),
        ConnectRefusal::HostNotAllowed => refuse(INVALID_HOST),
        ConnectRefusal::NoIdentifier => refuse(CONTROLLER_BUSY),
    }
}

impl TargetService for Target {
    fn connect(self: Arc<Self>, qpair: &Rc<Qpair>, request: Request) {
        match self.accept(qpair, &request) {
            Ok(cntlid) => request.complete(NvmeStatus::SUCCESS, cntlid.into(), IoBuf::None),
            Err((status, result)) => {
                let peer = qpair.info().peer;
                if log_budget::allows(qpair.reactor()) {
                    tracing::info!(%peer, %status, result = result.0, "refused a Connect");
                }
                request.complete(status, result.0.into(), IoBuf::None);
            }
        }
    }
}

impl Target {
    /// Checks a Connect and attaches the queue pair. Returns the controller's identifier.
    fn accept(self: &Arc<Self>, qpair: &Rc<Qpair>, request: &Request) -> Result<u16, Refusal> {
        let command = Connect::of(request.sqe());
        let data = ConnectData::ref_from_prefix(request.data())
            .map_err(|_| refuse(NvmeStatus::DATA_SGL_LENGTH_INVALID))?
            .0;
        if command.recfmt != 0 {
            return Err(refuse(INCOMPATIBLE_FORMAT));
        }
        let subnqn = data.subnqn().map_err(|_| wrong_data(connect_offset::SUBNQN))?;
        let hostnqn = data.hostnqn().map_err(|_| wrong_data(connect_offset::HOSTNQN))?;
        let found = self.subsystem(subnqn);
        let subsystem = found.map_err(|_| wrong_data(connect_offset::SUBNQN))?;
        subsystem.check_access(hostnqn, qpair.info().listener).map_err(no_access)?;
        let entries = u32::from(command.sqsize) + 1;
        if !(2..=qpair.info().queue_entries_max(command.qid)).contains(&entries) {
            return Err(wrong_field(connect_offset::SQSIZE));
        }
        if command.cattr.disable_sq_flow_control() {
            return Err(wrong_field(connect_offset::CATTR));
        }
        let view = CoreView::of(qpair.reactor()).find(subsystem.id());
        let view = view.ok_or(refuse(NvmeStatus::INTERNAL_ERROR))?;
        let host = Host { nqn: hostnqn.to_owned(), id: HostId(data.hostid) };
        let joining = Joining { target: self, qpair, subsystem, view, host, entries };
        if command.qid == 0 {
            joining.admin(data.cntlid.get(), command.kato)
        } else {
            joining.io(data.cntlid.get(), command.qid)
        }
    }
}

/// A Connect whose general part was right.
struct Joining<'a> {
    target: &'a Arc<Target>,
    qpair: &'a Rc<Qpair>,
    subsystem: Arc<Subsystem>,
    view: Rc<SubsystemView>,
    host: Host,
    entries: u32,
}

impl Joining<'_> {
    /// An admin queue: a new controller.
    fn admin(self, wanted: u16, kato_ms: u32) -> Result<u16, Refusal> {
        if wanted != cntlid::DYNAMIC {
            return Err(wrong_data(connect_offset::CNTLID));
        }
        let (qpair, key) = (self.qpair, next_key());
        let io_queues = match self.subsystem.kind() {
            SubsystemKind::Nvm => self.target.options().io_qpairs_max,
            SubsystemKind::Discovery => 0,
        };
        let (nqn, listener) = (&self.host.nqn, qpair.info().listener);
        let made = self.subsystem.create_controller(nqn, listener, |cntlid| {
            let (host, info) = (self.host.clone(), qpair.info().clone());
            let reactor = qpair.reactor().handle();
            let made = Controller::new(cntlid, &self.subsystem, host, info, reactor, io_queues);
            // Nothing else knows the controller yet, so that this cannot be refused.
            let added = made.add_queue(0, self.entry(key));
            debug_assert!(added.is_ok());
            made
        });
        let controller = made.map_err(no_access)?;
        let reactor = qpair.reactor();
        let admin = AdminQueue::new(&controller, self.target, reactor, key, kato_ms);
        let service: Rc<dyn ControllerService> = Rc::<AdminQueue>::clone(&admin);
        self.attach(&controller, 0, key, service)?;
        LocalQueues::of(reactor).add_admin(controller.key, &admin);
        admin.start_watch();
        Ok(controller.cntlid())
    }

    /// An I/O queue of a controller.
    fn io(self, cntlid: u16, qid: u16) -> Result<u16, Refusal> {
        if self.subsystem.kind() == SubsystemKind::Discovery {
            return Err(wrong_field(connect_offset::QID));
        }
        let found = self.subsystem.controller(cntlid);
        let controller = found.ok_or(wrong_data(connect_offset::CNTLID))?;
        // All queues of an association come through the same port of the subsystem.
        if controller.listener() != self.qpair.info().listener {
            return Err(wrong_data(connect_offset::CNTLID));
        }
        if controller.host().nqn != self.host.nqn {
            return Err(wrong_data(connect_offset::HOSTNQN));
        }
        if controller.host().id != self.host.id {
            return Err(wrong_data(connect_offset::HOSTID));
        }
        let key = next_key();
        controller.add_queue(qid, self.entry(key)).map_err(|why| match why {
            QueueRefusal::Ending => wrong_data(connect_offset::CNTLID),
            QueueRefusal::TooHigh => wrong_field(connect_offset::QID),
            QueueRefusal::Disabled | QueueRefusal::InUse => refuse(SEQUENCE_ERROR),
        })?;
        let queue = IoQueue::new(self.qpair.reactor(), &controller, qid, key);
        self.attach(&controller, qid, key, queue)?;
        Ok(cntlid)
    }

    fn attach(
        self,
        controller: &Controller,
        qid: u16,
        key: u64,
        service: Rc<dyn ControllerService>,
    ) -> Result<(), Refusal> {
        let attached = self.qpair.attach(Attachment {
            controller: service,
            cntlid: controller.cntlid(),
            qid,
            queue_size: self.entries,
            subsystem: self.view,
            host: self.host.id,
        });
        if let Err(error) = attached {
            tracing::error!(%error, "a queue pair cannot be attached");
            controller.remove_queue(qid, key);
            return Err(refuse(NvmeStatus::INTERNAL_ERROR));
        }
        LocalQueues::of(self.qpair.reactor()).add(key, self.qpair, qid);
        Ok(())
    }

    fn entry(&self, key: u64) -> QueueEntry {
        let info = self.qpair.info();
        QueueEntry {
            key,
            reactor: self.qpair.reactor().handle(),
            peer: info.peer,
            local: info.local,
            listener: info.listener,
        }
    }
}
