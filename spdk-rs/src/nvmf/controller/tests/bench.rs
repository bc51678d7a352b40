//! A target on one reactor, and hosts that reach it through a transport of nothing but memory.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use futures::future::BoxFuture;
use spdk_rs_sys::cpu::CoreId;
use zerocopy::IntoBytes;

use crate::NvmeStatus;
use crate::bdev::{Bdev, IoBuf};
use crate::drivers::malloc;
use crate::env::{Clock, Memory, VirtualClock};
use crate::nvme::spec::fabrics::{Connect, ConnectAttributes, ConnectData, Property};
use crate::nvme::spec::{Cqe, Sqe};
use crate::nvmf::controller::{Controller, LocalQueues};
use crate::nvmf::qpair::Qpair;
use crate::nvmf::service::TargetService;
use crate::nvmf::subsystem::{NamespaceOptions, Nqn, Subsystem, SubsystemOptions};
use crate::nvmf::target::{
    ListenAddress, Listener, ListenerHandle, Target, TargetOptions, Transport,
};
use crate::nvmf::transport::{
    Capsule, ConnectionInfo, DisconnectReason, ListenerId, QpairTransport, TransportKind,
};
use crate::reactor::{LocalReactor, PollMode, ReactorConfig};

pub(in crate::nvmf) const NQN: &str = "nqn.2016-06.io.spdk:cnode1";
pub(in crate::nvmf) const HOST: &str =
    "nqn.2014-08.org.nvmexpress:uuid:00000000-0000-0000-0000-000000000001";
pub(in crate::nvmf) const HOST_ID: [u8; 16] = [7; 16];

/// What Linux writes to CC: enable, all command sets, entry sizes.
pub(in crate::nvmf) const ENABLE: u32 = 0x0046_0061;

/// A transport that only pretends to listen.
#[derive(Default)]
pub(in crate::nvmf) struct Pretence {
    pub(in crate::nvmf) open: Arc<AtomicU16>,
}

struct Place(SocketAddr, Arc<AtomicU16>);

impl Transport for Pretence {
    fn kind(&self) -> TransportKind {
        TransportKind::Tcp
    }

    fn listen(
        &self,
        _: Arc<Target>,
        id: ListenerId,
        mut address: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn ListenerHandle>>> {
        let open = Arc::clone(&self.open);
        Box::pin(async move {
            if address.port() == 1 {
                return Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
            }
            if address.port() == 0 {
                address.set_port(u16::try_from(40_000 + id.0 % 20_000).unwrap());
            }
            open.fetch_add(1, SeqCst);
            let place: Box<dyn ListenerHandle> = Box::new(Place(address, open));
            Ok(place)
        })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl ListenerHandle for Place {
    fn local_addr(&self) -> SocketAddr {
        self.0
    }

    fn close(&self) -> BoxFuture<'static, ()> {
        self.1.fetch_sub(1, SeqCst);
        Box::pin(std::future::ready(()))
    }
}

/// The target's end of a connection.
#[derive(Default)]
struct Wire {
    /// Kept until the connection is closed, as a transport does.
    qpair: RefCell<Option<Rc<Qpair>>>,
    answers: RefCell<Vec<(u32, Cqe, Vec<u8>)>>,
    closed: Cell<Option<DisconnectReason>>,
}

impl QpairTransport for Wire {
    fn respond(&self, tag: u32, cqe: Cqe, data: IoBuf, data_len: u32) {
        let data = data.into_one().map(|buf| buf.as_slice()[..data_len as usize].to_vec());
        self.answers.borrow_mut().push((tag, cqe, data.unwrap_or_default()));
    }

    fn disconnect(&self, why: DisconnectReason) {
        assert!(self.closed.replace(Some(why)).is_none(), "disconnected twice");
        let Some(qpair) = self.qpair.take() else { return };
        let reactor = Rc::clone(qpair.reactor());
        reactor.spawn("close", async move { qpair.transport_closed() });
    }
}

/// A host's end of a connection.
pub(in crate::nvmf) struct Host<'a> {
    bench: &'a Bench,
    pub(in crate::nvmf) qpair: Rc<Qpair>,
    wire: Rc<Wire>,
    next: Cell<u16>,
}

pub(in crate::nvmf) type Answered = (Cqe, Vec<u8>);

impl Host<'_> {
    /// Sends a command and returns its number.
    pub(in crate::nvmf) fn send(&self, mut sqe: Sqe, data: &[u8], data_len: u32) -> u16 {
        let cid = self.next.replace(self.next.get() + 1);
        sqe.cid.set(cid);
        let mut buf = IoBuf::None;
        if !data.is_empty() {
            let mut one = self.bench.reactor.memory().alloc(data.len()).unwrap();
            one.as_mut_slice().copy_from_slice(data);
            buf = one.into();
        }
        self.qpair.execute(Capsule { sqe, data: buf, data_len, tag: cid.into() });
        cid
    }

    /// The answer to a command, if it is there.
    pub(in crate::nvmf) fn take(&self, cid: u16) -> Option<Answered> {
        let answers = &mut *self.wire.answers.borrow_mut();
        let at = answers.iter().position(|(tag, ..)| *tag == u32::from(cid))?;
        let (_, cqe, data) = answers.remove(at);
        assert_eq!(cqe.cid.get(), cid);
        Some((cqe, data))
    }

    /// The answer to a command that is answered soon.
    pub(in crate::nvmf) fn wait(&self, cid: u16) -> Answered {
        for _ in 0..1000 {
            if let Some(answer) = self.take(cid) {
                return answer;
            }
            self.bench.reactor.turn();
        }
        panic!("command {cid} was not answered");
    }

    /// Sends a command without data and returns its status and result.
    pub(in crate::nvmf) fn run(&self, sqe: Sqe) -> (NvmeStatus, u64) {
        let (cqe, _) = self.wait(self.send(sqe, &[], 0));
        (cqe.status(), cqe.result.get())
    }

    /// Sends a command that asks for data.
    pub(in crate::nvmf) fn ask(&self, sqe: Sqe, len: u32) -> Result<Vec<u8>, NvmeStatus> {
        let (cqe, data) = self.wait(self.send(sqe, &[], len));
        cqe.status().ok().map(|()| data)
    }

    /// Sends a command that brings data.
    pub(in crate::nvmf) fn bring(&self, sqe: Sqe, data: &[u8]) -> (NvmeStatus, u64) {
        let (cqe, _) = self.wait(self.send(sqe, data, u32::try_from(data.len()).unwrap()));
        (cqe.status(), cqe.result.get())
    }

    /// Connects; the status and dword 0.
    pub(in crate::nvmf) fn connect(&self, with: &Connecting) -> (NvmeStatus, u64) {
        let data = ConnectData::new(with.host_id, with.cntlid, &with.nqn, &with.host);
        self.bring(with.command.to_sqe(), data.as_bytes())
    }

    pub(in crate::nvmf) fn property(&self, offset: u32, wide: bool) -> u64 {
        let (status, value) = self.run(Property::get(offset, wide));
        assert_eq!(status, NvmeStatus::SUCCESS);
        value
    }

    pub(in crate::nvmf) fn set_cc(&self, value: u32) -> NvmeStatus {
        self.run(Property::set(0x14, false, value.into())).0
    }

    /// Why the target has closed the connection, if it has.
    pub(in crate::nvmf) fn closed(&self) -> Option<DisconnectReason> {
        self.wire.closed.get()
    }

    /// The host closes the connection.
    pub(in crate::nvmf) fn hang_up(&self) {
        self.wire.qpair.take();
        self.qpair.transport_closed();
    }
}

/// The fields of a Connect.
#[derive(Clone)]
pub(in crate::nvmf) struct Connecting {
    pub(in crate::nvmf) command: Connect,
    pub(in crate::nvmf) cntlid: u16,
    pub(in crate::nvmf) nqn: String,
    pub(in crate::nvmf) host: String,
    pub(in crate::nvmf) host_id: [u8; 16],
}

impl Connecting {
    /// An admin queue of the test's subsystem.
    pub(in crate::nvmf) fn admin() -> Self {
        let command =
            Connect { recfmt: 0, qid: 0, sqsize: 31, cattr: ConnectAttributes(0), kato: 0 };
        let (nqn, host) = (NQN.to_owned(), HOST.to_owned());
        Self { command, cntlid: 0xffff, nqn, host, host_id: HOST_ID }
    }

    /// An I/O queue.
    pub(in crate::nvmf) fn io(cntlid: u16, qid: u16) -> Self {
        let admin = Self::admin();
        Self { command: Connect { qid, sqsize: 127, ..admin.command }, cntlid, ..admin }
    }
}

/// A target with one subsystem and a listener.
pub(in crate::nvmf) struct Bench {
    // Before the reactor, which ends what is left.
    pub(in crate::nvmf) subsystem: Arc<Subsystem>,
    pub(in crate::nvmf) listener: Arc<Listener>,
    pub(in crate::nvmf) target: Arc<Target>,
    pub(in crate::nvmf) transport: Arc<Pretence>,
    pub(in crate::nvmf) reactor: LocalReactor,
}

pub(in crate::nvmf) fn address(port: u16) -> ListenAddress {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    ListenAddress { transport: TransportKind::Tcp, address }
}

impl Bench {
    pub(in crate::nvmf) fn new() -> Self {
        Self::with(Clock::Real, |_| {})
    }

    pub(in crate::nvmf) fn on_virtual_time() -> (Self, VirtualClock) {
        let time = VirtualClock::default();
        (Self::with(Clock::Virtual(time.clone()), |_| {}), time)
    }

    pub(in crate::nvmf) fn with(clock: Clock, change: impl FnOnce(&mut SubsystemOptions)) -> Self {
        let memory = Memory::ordinary(64 << 20).unwrap();
        let core = ReactorConfig::new(CoreId(0));
        // Busy: turns are counted, and none of them may end in a sleep.
        let config = ReactorConfig { mode: PollMode::Busy, ring: false, clock, ..core };
        let reactor = LocalReactor::new(config, memory).unwrap();
        let mut options = SubsystemOptions::new(Nqn::new(NQN).unwrap());
        options.allow_any_host = true;
        options.ana_reporting = true;
        change(&mut options);
        let (handle, transport) = (reactor.handle(), Arc::<Pretence>::default());
        let added: Arc<dyn Transport> = Arc::<Pretence>::clone(&transport);
        let (target, subsystem, listener) = reactor.block_on(async move {
            let target = Target::start(vec![handle], TargetOptions::default()).await.unwrap();
            target.add_transport(added).unwrap();
            let subsystem = target.create_subsystem(options).await.unwrap();
            let listener = subsystem.add_listener(address(0)).await.unwrap();
            (target, subsystem, listener)
        });
        Self { subsystem, listener, target, transport, reactor }
    }

    /// Runs a control operation.
    pub(in crate::nvmf) fn run<T: 'static>(&self, future: impl Future<Output = T> + 'static) -> T {
        self.reactor.block_on(future)
    }

    /// Lets everything that is under way happen.
    pub(in crate::nvmf) fn settle(&self) {
        (0..50).for_each(|_| self.reactor.turn());
    }

    /// A new connection through a listener.
    pub(in crate::nvmf) fn dial(&self, listener: &Listener) -> Host<'_> {
        let wire = Rc::<Wire>::default();
        let info = ConnectionInfo {
            transport: TransportKind::Tcp,
            listener: listener.id(),
            peer: "127.0.0.1:50000".parse().unwrap(),
            local: listener.address().address,
            in_capsule_bytes: 4096,
            io_bytes_max: 131_072,
            queue_depth_max: 128,
            lend: false,
        };
        let service: Arc<dyn TargetService> = Arc::<Target>::clone(&self.target);
        let transport: Rc<dyn QpairTransport> = Rc::<Wire>::clone(&wire);
        let qpair = Qpair::new(&service, &self.reactor, info, transport);
        *wire.qpair.borrow_mut() = Some(Rc::clone(&qpair));
        Host { bench: self, qpair, wire, next: Cell::new(1) }
    }

    pub(in crate::nvmf) fn host(&self) -> Host<'_> {
        self.dial(&self.listener)
    }

    /// A connected and enabled admin queue, and its controller.
    pub(in crate::nvmf) fn admin(&self) -> (Host<'_>, Arc<Controller>) {
        let host = self.host();
        let (status, cntlid) = host.connect(&Connecting::admin());
        assert_eq!(status, NvmeStatus::SUCCESS);
        assert_eq!(host.set_cc(ENABLE), NvmeStatus::SUCCESS);
        let controller = self.subsystem.controller(u16::try_from(cntlid).unwrap()).unwrap();
        (host, controller)
    }

    /// A connected I/O queue.
    pub(in crate::nvmf) fn io(&self, cntlid: u16, qid: u16) -> Host<'_> {
        let host = self.host();
        let (status, _) = host.connect(&Connecting::io(cntlid, qid));
        assert_eq!(status, NvmeStatus::SUCCESS);
        host
    }

    /// A connected and enabled discovery controller.
    pub(in crate::nvmf) fn discovery(&self, name: &str) -> Host<'_> {
        let host = self.host();
        let nqn = self.target.discovery().nqn().to_string();
        let (status, _) =
            host.connect(&Connecting { nqn, host: name.into(), ..Connecting::admin() });
        assert_eq!(status, NvmeStatus::SUCCESS);
        assert_eq!(host.set_cc(ENABLE), NvmeStatus::SUCCESS);
        host
    }

    /// A memory device of `num_blocks` blocks of 512 bytes.
    pub(in crate::nvmf) fn device(&self, name: &str, num_blocks: u64) -> Arc<Bdev> {
        let (name, uuid) = (name.into(), Some(uuid::Uuid::from_u128(0x1234)));
        let options =
            malloc::MallocOptions { name, uuid, block_len: 512, phys_block_len: 4096, num_blocks };
        malloc::create(self.reactor.memory(), options).unwrap()
    }

    /// A new connection whose host says to be another one; its admin queue is enabled.
    pub(in crate::nvmf) fn admin_of(&self, host_id: [u8; 16]) -> (Host<'_>, u16) {
        let host = self.host();
        let (status, cntlid) = host.connect(&Connecting { host_id, ..Connecting::admin() });
        assert_eq!((status, host.set_cc(ENABLE)), (NvmeStatus::SUCCESS, NvmeStatus::SUCCESS));
        (host, u16::try_from(cntlid).unwrap())
    }

    /// Exports a device; the namespace's number.
    pub(in crate::nvmf) fn export(&self, device: Arc<Bdev>) -> u32 {
        let (subsystem, options) = (Arc::clone(&self.subsystem), NamespaceOptions::new(device));
        self.run(async move { subsystem.add_namespace(options).await.unwrap() })
    }

    /// Adds a namespace; its number.
    pub(in crate::nvmf) fn namespace(&self, name: &str) -> u32 {
        self.export(self.device(name, 2048))
    }

    /// What is left of queue pairs and controllers on the reactor.
    pub(in crate::nvmf) fn left(&self) -> (usize, usize) {
        LocalQueues::of(&self.reactor).left()
    }
}
