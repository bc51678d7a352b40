//! A target of one subsystem and a transport of nothing but memory.
#![allow(unsafe_code, reason = "the transport reads lent memory by address, as a socket does")]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use crossbeam::queue::SegQueue;
use spdk_rs_sys::cpu::CoreId;
use zerocopy::FromBytes;
use zerocopy::IntoBytes;

use super::super::*;
use crate::bdev::{Bdev, BdevDesc, OpenMode};
use crate::env::Memory;
use crate::nvme::spec::fabrics::{Connect, ConnectAttributes, ConnectData};
use crate::nvme::spec::opcode::{admin, nvm};
use crate::nvme::spec::{DataDirection, Sqe};
use crate::nvmf::core_view::{CoreView, NsConfig, SubsystemId};
use crate::nvmf::reservation::{NsReservations, ReservationNotice, ReservationOptions};
use crate::nvmf::transport::{ListenerId, TransportKind};
use crate::reactor::{LocalReactor, PollMode, ReactorConfig};

pub(in crate::nvmf) const SUBSYSTEM: SubsystemId = SubsystemId(7);
pub(in crate::nvmf) const LISTENER: ListenerId = ListenerId(3);

/// A response as the host gets it.
#[derive(Debug)]
pub(in crate::nvmf) struct Answer {
    pub(in crate::nvmf) tag: u32,
    pub(in crate::nvmf) cqe: Cqe,
    pub(in crate::nvmf) data: Vec<u8>,
    /// Data that were in memory of the device.
    pub(in crate::nvmf) lent: bool,
}

impl Answer {
    pub(in crate::nvmf) fn status(&self) -> NvmeStatus {
        self.cqe.status()
    }
}

#[derive(Default)]
pub(in crate::nvmf) struct Wire {
    pub(in crate::nvmf) answers: RefCell<Vec<Answer>>,
    pub(in crate::nvmf) disconnects: RefCell<Vec<DisconnectReason>>,
    /// Lent memory is kept here instead of being given back.
    pub(in crate::nvmf) keep: RefCell<Option<Vec<IoBuf>>>,
    pub(in crate::nvmf) ended: Cell<bool>,
}

impl QpairTransport for Wire {
    fn respond(&self, tag: u32, cqe: Cqe, data: IoBuf, data_len: u32) {
        assert!(!self.ended.get(), "nothing is sent after the transport's end");
        let mut bytes = Vec::new();
        for iov in data.io_vecs() {
            // SAFETY: the memory belongs to `data`, and nobody writes it in these tests meanwhile.
            bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(iov.base(), iov.len()) });
        }
        bytes.truncate(data_len as usize);
        assert_eq!(bytes.len(), data_len as usize, "as many bytes as the response says");
        let lent = matches!(data, IoBuf::Lent(_));
        self.answers.borrow_mut().push(Answer { tag, cqe, data: bytes, lent });
        if let Some(kept) = self.keep.borrow_mut().as_mut() {
            kept.push(data);
        }
    }

    fn disconnect(&self, why: DisconnectReason) {
        self.disconnects.borrow_mut().push(why);
    }
}

impl Wire {
    /// Memory that was kept still holds what it did.
    pub(in crate::nvmf) fn respond_again(&self, data: &IoBuf, expected: &[u8]) {
        let iov = data.io_vecs()[0];
        // SAFETY: the memory belongs to `data`, and nobody writes it in these tests meanwhile.
        assert_eq!(unsafe { std::slice::from_raw_parts(iov.base(), iov.len()) }, expected);
    }
}

/// A controller that keeps event requests and answers the rest at once.
#[derive(Default)]
pub(in crate::nvmf) struct Control {
    pub(in crate::nvmf) kept: RefCell<Vec<Request>>,
    pub(in crate::nvmf) log: RefCell<Vec<&'static str>>,
}

impl ControllerService for Control {
    fn admin(self: Rc<Self>, request: Request) {
        if request.sqe().opcode == admin::ASYNC_EVENT_REQUEST {
            self.kept.borrow_mut().push(request);
        } else {
            request.complete_bytes(5, &[7; 100]);
        }
    }

    fn fabrics(self: Rc<Self>, request: Request) {
        request.complete(NvmeStatus::SUCCESS, 9, IoBuf::None);
    }

    fn failed(&self, _: FailedCommand) {}

    fn closing(&self, _: &Rc<Qpair>) {
        self.log.borrow_mut().push("closing");
        self.kept.borrow_mut().clear();
    }

    fn gone(&self, _: &Rc<Qpair>) {
        self.log.borrow_mut().push("gone");
    }
}

/// Accepts every Connect but that of controller 0xdead.
struct Target;

impl TargetService for Target {
    fn connect(self: Arc<Self>, qpair: &Rc<Qpair>, request: Request) {
        let command = Connect::of(request.sqe());
        let (data, _) = ConnectData::ref_from_prefix(request.data()).unwrap();
        if data.cntlid.get() == 0xdead {
            return request.finish(NvmeStatus::CONNECT_INVALID_PARAMETERS);
        }
        let reactor = qpair.reactor();
        let attached = qpair.attach(Attachment {
            controller: reactor.extension(|| Rc::new(Control::default())),
            cntlid: 1,
            qid: command.qid,
            queue_size: u32::from(command.sqsize) + 1,
            subsystem: CoreView::of(reactor).add(SUBSYSTEM),
            host: HostId(data.hostid),
        });
        match attached {
            Ok(()) => request.complete(NvmeStatus::SUCCESS, 1, IoBuf::None),
            Err(_) => request.finish(NvmeStatus::CONNECT_INVALID_PARAMETERS),
        }
    }
}

pub(in crate::nvmf) struct Rig {
    // Before the reactor, which they live on.
    pub(in crate::nvmf) notices: Arc<SegQueue<ReservationNotice>>,
    pub(in crate::nvmf) reactor: LocalReactor,
}

impl Rig {
    pub(in crate::nvmf) fn new() -> Self {
        Self::with_memory(32 << 20)
    }

    pub(in crate::nvmf) fn with_memory(bytes: usize) -> Self {
        let memory = Memory::ordinary(bytes).unwrap();
        // Busy: the tests count turns, and none of them may end in a sleep.
        let config = ReactorConfig { mode: PollMode::Busy, ..ReactorConfig::new(CoreId(0)) };
        let reactor = LocalReactor::new(config, memory).unwrap();
        Self { notices: Arc::default(), reactor }
    }

    pub(in crate::nvmf) fn control(&self) -> Rc<Control> {
        self.reactor.extension(|| Rc::new(Control::default()))
    }

    /// Exports a device as namespace `nsid`.
    pub(in crate::nvmf) fn add(&self, nsid: u32, bdev: &Arc<Bdev>, mode: OpenMode) {
        self.add_with_file(nsid, bdev, mode, None);
    }

    pub(in crate::nvmf) fn add_with_file(
        &self,
        nsid: u32,
        bdev: &Arc<Bdev>,
        mode: OpenMode,
        ptpl_file: Option<std::path::PathBuf>,
    ) {
        let notices = Arc::clone(&self.notices);
        let options = ReservationOptions {
            subsystem: SUBSYSTEM,
            nsid,
            device: bdev.info().uuid,
            ptpl_file,
            reactors: vec![self.reactor.handle()],
            offload: self.reactor.offload().clone(),
            notify: Arc::new(move |notice| notices.push(notice)),
        };
        let reservations = self.reactor.block_on(NsReservations::open(options)).unwrap();
        let desc = BdevDesc::open(bdev, mode, "target", None).unwrap();
        let config = NsConfig { nsid, desc, ana_group: nsid, reservations };
        CoreView::of(&self.reactor).add(SUBSYSTEM).add_namespace(&config).unwrap();
    }

    /// A new connection.
    pub(in crate::nvmf) fn connection(&self, lend: bool) -> Host<'_> {
        let wire = Rc::new(Wire::default());
        let any = "127.0.0.1:0".parse().unwrap();
        let info = ConnectionInfo {
            transport: TransportKind::Tcp,
            listener: LISTENER,
            peer: any,
            local: any,
            in_capsule_bytes: 4096,
            io_bytes_max: 128 << 10,
            queue_depth_max: 128,
            lend,
        };
        let target: Arc<dyn TargetService> = Arc::new(Target);
        let transport: Rc<dyn QpairTransport> = Rc::<Wire>::clone(&wire);
        let qpair = Qpair::new(&target, &self.reactor, info, transport);
        Host { rig: self, wire, qpair, next: Cell::new(0) }
    }

    /// A connected I/O queue of 16 entries of host 1.
    pub(in crate::nvmf) fn host(&self) -> Host<'_> {
        self.host_of(1, 16)
    }

    pub(in crate::nvmf) fn host_of(&self, id: u8, entries: u16) -> Host<'_> {
        let host = self.connection(false);
        let answer = host.connect(1, entries - 1, id);
        assert_eq!(answer.status(), NvmeStatus::SUCCESS);
        host
    }
}

/// The host's end of a connection.
pub(in crate::nvmf) struct Host<'a> {
    pub(in crate::nvmf) rig: &'a Rig,
    pub(in crate::nvmf) wire: Rc<Wire>,
    pub(in crate::nvmf) qpair: Rc<Qpair>,
    pub(in crate::nvmf) next: Cell<u16>,
}

impl Host<'_> {
    /// Sends a command; returns its identifier.
    pub(in crate::nvmf) fn send_len(&self, sqe: Sqe, data: &[u8], data_len: usize) -> u16 {
        let cid = self.next.get();
        self.next.set(cid.wrapping_add(1));
        let mut sqe = sqe;
        sqe.cid.set(cid);
        let buf = if data.is_empty() {
            IoBuf::None
        } else {
            let mut buf = self.rig.reactor.memory().alloc(data.len()).unwrap();
            buf.as_mut_slice().copy_from_slice(data);
            IoBuf::One(buf)
        };
        let data_len = u32::try_from(data_len).unwrap();
        self.qpair.execute(Capsule { sqe, data: buf, data_len, tag: 0x1000 + u32::from(cid) });
        cid
    }

    /// Sends a command whose SGL is as long as its blocks or its data.
    pub(in crate::nvmf) fn send(&self, sqe: Sqe, data: &[u8]) -> u16 {
        let reads = sqe.direction() == DataDirection::ControllerToHost;
        let blocks = (sqe.cdw12.get() & 0xffff) as usize + 1;
        let len = match sqe.opcode {
            nvm::READ => blocks * 512,
            _ if reads => 4096,
            _ => data.len(),
        };
        self.send_len(sqe, data, len)
    }

    /// The response to a command, if it has come.
    pub(in crate::nvmf) fn answer(&self, cid: u16) -> Option<Answer> {
        let mut answers = self.wire.answers.borrow_mut();
        let at = answers.iter().position(|answer| answer.cqe.cid.get() == cid)?;
        let answer = answers.remove(at);
        assert_eq!(answer.tag, 0x1000 + u32::from(cid));
        assert!(answers.iter().all(|other| other.cqe.cid.get() != cid), "one response only");
        Some(answer)
    }

    /// Turns the reactor until the response has come.
    pub(in crate::nvmf) fn wait(&self, cid: u16) -> Answer {
        for _ in 0..1_000_000 {
            if let Some(answer) = self.answer(cid) {
                return answer;
            }
            self.rig.reactor.turn();
        }
        panic!("command {cid} is not answered");
    }

    /// A command and its response.
    pub(in crate::nvmf) fn run(&self, sqe: Sqe, data: &[u8]) -> Answer {
        let cid = self.send(sqe, data);
        self.wait(cid)
    }

    /// A command's status.
    pub(in crate::nvmf) fn status(&self, sqe: Sqe, data: &[u8]) -> NvmeStatus {
        self.run(sqe, data).status()
    }

    pub(in crate::nvmf) fn connect(&self, qid: u16, sqsize: u16, host: u8) -> Answer {
        self.connect_to(qid, sqsize, host, 0xffff)
    }

    pub(in crate::nvmf) fn connect_to(
        &self,
        qid: u16,
        sqsize: u16,
        host: u8,
        cntlid: u16,
    ) -> Answer {
        let connect = Connect { recfmt: 0, qid, sqsize, cattr: ConnectAttributes(0), kato: 0 };
        let data = ConnectData::new([host; 16], cntlid, "nqn.2024-01.test:s", "nqn.2024-01.test:h");
        let sqe = connect.to_sqe();
        self.run(sqe, data.as_bytes())
    }

    /// The transport's end.
    pub(in crate::nvmf) fn close(&self) {
        self.wire.ended.set(true);
        self.qpair.transport_closed();
    }

    pub(in crate::nvmf) fn turns(&self, count: usize) {
        (0..count).for_each(|_| self.rig.reactor.turn());
    }
}
