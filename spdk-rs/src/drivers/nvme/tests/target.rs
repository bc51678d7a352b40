//! A target that does as it is told: a thread per connection with blocking sockets.
#![expect(clippy::disallowed_types, reason = "threads of the test share the script")]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, IntoBytes};

use crate::NvmeStatus;
use crate::nvme::spec::fabrics::{Connect, ConnectData, Property};
use crate::nvme::spec::identify::{
    IdentifyCdw10, IdentifyController, IdentifyNamespace, LbaFormat, NamespaceId, NamespaceList,
    cmic, cns, fuses, oaes, oncs, vwc,
};
use crate::nvme::spec::log::{
    AnaGroupDescriptor, AnaLogHeader, AnaState, DiscoveryEntry, DiscoveryLogHeader, GetLogPage,
    lid, subtype, trtype,
};
use crate::nvme::spec::nvm::BlockCommand;
use crate::nvme::spec::opcode::{admin, fctype, nvm};
use crate::nvme::spec::register::{Cap, Cc, Csts, Vs, offset};
use crate::nvme::spec::{Cqe, SglKind, Sqe, opcode, text};
use crate::nvme::tcp::digest::Crc32c;
use crate::nvme::tcp::framing::{
    DataPdu, FatalError, FatalStatus, Framer, HEADER_SPACE_BYTES, HeaderSpace, IcResp, PduType, R2t,
};

/// Bytes per block.
pub(super) const BLOCK: usize = 512;
/// Blocks at first.
pub(super) const BLOCKS: u64 = 2048;

/// Something to do wrong, once, at the first occasion.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    /// A connection's first answer is this.
    Greeting(IcResp),
    /// A connection's first answer does not come.
    NoGreeting,
    /// Connect ends so, on the admin queue or an I/O queue.
    Connect {
        io: bool,
        status: NvmeStatus,
    },
    /// The controller is never ready, or reports a fatal error, for this association.
    NeverReady,
    FatalStatus,
    /// Keep Alive is not answered from now on, on this connection.
    NoKeepAlive,
    /// An I/O command ends so.
    Status(NvmeStatus),
    /// An I/O command is not answered.
    Hang,
    /// The connection ends at an I/O command, before or after it was executed.
    Close {
        executed: bool,
    },
    /// A termination request at an I/O command.
    Terminate,
    /// The answer to an I/O command names no command.
    WrongCid,
    /// The answer comes twice.
    Twice,
    /// An answer with a wrong header digest.
    HeaderDigest,
    /// Of a read: data with a wrong digest.
    DataDigest,
    /// Of a read: data beyond the buffer, behind a gap, or of another command.
    DataBeyond,
    DataGap,
    DataForNone,
    /// Of a read: half of the data, and success.
    DataShort,
    /// Of a write: a request beyond the data, for nothing, of no command, or two at once.
    R2tBeyond,
    R2tEmpty,
    R2tForNone,
    R2tTwo,
    /// A PDU of no known type.
    Garbage,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) faults: Mutex<VecDeque<Fault>>,
    pub(super) data: Mutex<Vec<u8>>,
    /// Opcodes of the I/O commands that came, with the number of their queue.
    pub(super) seen: Mutex<Vec<(u16, u8)>>,
    /// Termination requests that came: FES.
    pub(super) terms: Mutex<Vec<u16>>,
    pub(super) aborts: AtomicUsize,
    pub(super) connects: AtomicUsize,
    pub(super) keep_alives: AtomicUsize,
    /// Namespaces: number, blocks, state.
    pub(super) namespaces: Mutex<Vec<(u32, u64, AnaState)>>,
    pub(super) ana: AtomicBool,
    pub(super) write_cache: AtomicBool,
    /// What the discovery log names, and how often it still changes while it is read.
    pub(super) log: Mutex<Vec<SocketAddr>>,
    pub(super) log_changes: AtomicUsize,
    /// Commands that wait for events, with their connection.
    waiting: Mutex<Vec<(Arc<Mutex<TcpStream>>, u16, Framer)>>,
    connections: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
    next_cntlid: AtomicU16,
    pub(super) in_capsule: AtomicUsize,
    /// Its namespaces have other names than those of other targets.
    pub(super) foreign: AtomicBool,
    queues: AtomicUsize,
}

/// A target on a port of its own.
pub(super) struct FakeTarget {
    pub(super) shared: Arc<Shared>,
    pub(super) address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Shared {
    fn take(&self, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let mut faults = lock(&self.faults);
        let at = faults.iter().position(wanted)?;
        faults.remove(at)
    }

    /// Does this once, from now on.
    pub(super) fn fault(&self, fault: Fault) {
        lock(&self.faults).push_back(fault);
    }

    /// How many I/O commands of an opcode came.
    pub(super) fn count(&self, opcode: u8) -> usize {
        lock(&self.seen).iter().filter(|(_, seen)| *seen == opcode).count()
    }

    /// Ends every connection.
    pub(super) fn cut(&self) {
        for connection in lock(&self.connections).drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// Reports an event to every host that waits.
    pub(super) fn event(&self, result: u32) {
        for (stream, cid, framer) in lock(&self.waiting).drain(..) {
            let cqe = Cqe::new(cid, 0, NvmeStatus::SUCCESS, result.into());
            let mut space = [0; HEADER_SPACE_BYTES];
            let len = framer.response(&cqe, &mut space);
            let _ = lock(&stream).write_all(&space[..len]);
        }
    }
}

impl FakeTarget {
    pub(super) fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap())
    }

    pub(super) fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            faults: Mutex::default(),
            data: Mutex::new(vec![0; BLOCK * 4096]),
            seen: Mutex::default(),
            terms: Mutex::default(),
            aborts: AtomicUsize::new(0),
            connects: AtomicUsize::new(0),
            keep_alives: AtomicUsize::new(0),
            namespaces: Mutex::new(vec![(1, BLOCKS, AnaState::Optimized)]),
            ana: AtomicBool::new(false),
            write_cache: AtomicBool::new(true),
            log: Mutex::default(),
            log_changes: AtomicUsize::new(0),
            waiting: Mutex::default(),
            connections: Mutex::default(),
            stop: AtomicBool::new(false),
            next_cntlid: AtomicU16::new(1),
            in_capsule: AtomicUsize::new(4096),
            foreign: AtomicBool::new(false),
            queues: AtomicUsize::new(0),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if own.stop.load(SeqCst) {
                    return;
                }
                lock(&own.connections).push(stream.try_clone().unwrap());
                let shared = Arc::clone(&own);
                std::thread::spawn(move || {
                    let end = stream.try_clone().unwrap();
                    Connection::new(shared, stream).run();
                    let _ = end.shutdown(Shutdown::Both);
                });
            }
        });
        Self { shared, address, thread: Some(thread) }
    }

    /// FES of the termination requests that came.
    pub(super) fn terms(&self) -> Vec<u16> {
        lock(&self.shared.terms).clone()
    }

    pub(super) fn set_namespaces(&self, namespaces: Vec<(u32, u64, AnaState)>) {
        *lock(&self.shared.namespaces) = namespaces;
    }

    pub(super) fn set_log(&self, log: Vec<SocketAddr>) {
        *lock(&self.shared.log) = log;
    }

    /// How many I/O queues were connected so far.
    pub(super) fn connected_queues(&self) -> usize {
        self.shared.queues.load(SeqCst)
    }

    /// Ends the target: its port refuses connections when this returns.
    pub(super) fn stop(&mut self) {
        self.shared.stop.store(true, SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.shared.cut();
    }
}

impl Drop for FakeTarget {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Why a connection ends: nothing more is said.
struct End;

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

type Done = Result<(), End>;

struct Connection {
    shared: Arc<Shared>,
    stream: TcpStream,
    out: Arc<Mutex<TcpStream>>,
    framer: Framer,
    qid: u16,
    discovery: bool,
    cc: Cc,
    never_ready: bool,
    fatal: bool,
    deaf: bool,
    /// Commands that came while data of another one were waited for.
    backlog: VecDeque<(Sqe, Vec<u8>)>,
}

impl Connection {
    fn new(shared: Arc<Shared>, stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        let out = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        let framer = Framer::default();
        let (qid, cc) = (0, Cc(0));
        let (discovery, never_ready, fatal, deaf) = (false, false, false, false);
        let backlog = VecDeque::new();
        Self { shared, stream, out, framer, qid, discovery, cc, never_ready, fatal, deaf, backlog }
    }

    fn run(&mut self) {
        let _ = self.serve();
    }

    fn serve(&mut self) -> Done {
        let request = self.pdu()?;
        if request[0] != PduType::IcReq as u8 || self.shared.stop.load(SeqCst) {
            return Err(End);
        }
        if self.shared.take(|f| *f == Fault::NoGreeting).is_some() {
            let _ = self.pdu();
            return Err(End);
        }
        let (header_digest, data_digest) = (request[11] & 1 != 0, request[11] & 2 != 0);
        let right = IcResp { pfv: 0, cpda: 0, header_digest, data_digest, maxh2cdata: 8192 };
        let response = match self.shared.take(|f| matches!(f, Fault::Greeting(_))) {
            Some(Fault::Greeting(response)) => response,
            _ => right,
        };
        let mut space = [0; HEADER_SPACE_BYTES];
        let len = Framer::ic_resp(&response, &mut space);
        self.write(&space[..len])?;
        let alignment_bytes = (u32::from(response.cpda) + 1) * 4;
        self.framer = Framer { header_digest, data_digest, alignment_bytes };
        self.serve_commands()
    }

    fn serve_commands(&mut self) -> Done {
        loop {
            if let Some((sqe, data)) = self.backlog.pop_front() {
                self.command(&sqe, data)?;
                continue;
            }
            let pdu = self.pdu()?;
            if pdu[0] == PduType::H2cTermReq as u8 {
                lock(&self.shared.terms).push(u16::from_le_bytes([pdu[8], pdu[9]]));
                return Err(End);
            }
            if pdu[0] != PduType::CapsuleCmd as u8 {
                return Err(End);
            }
            let (sqe, data) = self.capsule(&pdu)?;
            self.command(&sqe, data)?;
        }
    }

    fn capsule(&self, pdu: &[u8]) -> Result<(Sqe, Vec<u8>), End> {
        let sqe = Sqe::read_from_bytes(&pdu[8..72]).map_err(|_| End)?;
        Ok((sqe, self.payload(pdu)?))
    }

    fn write(&self, bytes: &[u8]) -> Done {
        Ok(lock(&self.out).write_all(bytes)?)
    }

    /// A whole PDU.
    fn pdu(&mut self) -> Result<Vec<u8>, End> {
        let mut pdu = vec![0; 8];
        self.stream.read_exact(&mut pdu)?;
        let len = u32::from_le_bytes([pdu[4], pdu[5], pdu[6], pdu[7]]) as usize;
        if !(8..=1 << 20).contains(&len) {
            return Err(End);
        }
        pdu.resize(len, 0);
        self.stream.read_exact(&mut pdu[8..])?;
        Ok(pdu)
    }

    /// The data of a PDU; their digest has to be right.
    fn payload(&self, pdu: &[u8]) -> Result<Vec<u8>, End> {
        let pdo = usize::from(pdu[3]);
        if pdo == 0 {
            return Ok(Vec::new());
        }
        if pdu[1] & 2 == 0 {
            return Ok(pdu[pdo..].to_vec());
        }
        let end = pdu.len() - 4;
        let (data, digest) = (&pdu[pdo..end], &pdu[end..]);
        assert_eq!(digest, Crc32c::of(data).to_le_bytes(), "the host's data digest");
        Ok(data.to_vec())
    }

    fn respond(&self, cid: u16, status: NvmeStatus, result: u64) -> Done {
        let mut space = [0; HEADER_SPACE_BYTES];
        let len = self.framer.response(&Cqe::new(cid, 0, status, result), &mut space);
        self.write(&space[..len])
    }

    fn send_data(&self, pdu: &DataPdu, data: &[u8], spoil: bool) -> Done {
        let mut space = [0; HEADER_SPACE_BYTES];
        let len = self.framer.c2h_data(pdu, &mut space);
        let mut bytes = space[..len].to_vec();
        bytes.extend_from_slice(data);
        if self.framer.data_digest {
            let digest = Crc32c::of(data) ^ u32::from(spoil);
            bytes.extend_from_slice(&digest.to_le_bytes());
        }
        self.write(&bytes)
    }

    /// Sends all data of a command, in two PDUs, and its answer.
    fn answer_data(&self, sqe: &Sqe, data: &[u8]) -> Done {
        let len = (sqe.dptr.length.get() as usize).min(data.len());
        let half = (len / 2).next_multiple_of(4).min(len);
        for (from, to) in [(0, half), (half, len)] {
            if from != to {
                self.send_data(&data_pdu(sqe, from, to - from), &data[from..to], false)?;
            }
        }
        self.respond(sqe.cid.get(), NvmeStatus::SUCCESS, 0)
    }

    fn command(&mut self, sqe: &Sqe, data: Vec<u8>) -> Done {
        if sqe.opcode == opcode::FABRICS {
            return self.fabrics(sqe, &data);
        }
        if self.qid == 0 { self.admin(sqe) } else { self.io(sqe, data) }
    }

    fn fabrics(&mut self, sqe: &Sqe, data: &[u8]) -> Done {
        let cid = sqe.cid.get();
        match sqe.fctype() {
            fctype::CONNECT => self.connect(sqe, data),
            fctype::PROPERTY_GET => {
                let value = match Property::of(sqe).offset {
                    offset::CAP => Cap(0).with_mqes(127).with_to(1).with_css(1).0,
                    offset::VS => Vs::V1_4.0.into(),
                    offset::CC => self.cc.0.into(),
                    offset::CSTS => {
                        let ready = self.cc.en() && !self.never_ready;
                        Csts(0).with_rdy(ready).with_cfs(self.fatal).0.into()
                    }
                    _ => 0,
                };
                self.respond(cid, NvmeStatus::SUCCESS, value)
            }
            fctype::PROPERTY_SET => {
                self.cc = Cc(u32::try_from(Property::of(sqe).value).unwrap());
                self.never_ready |= self.shared.take(|f| *f == Fault::NeverReady).is_some();
                self.fatal |= self.shared.take(|f| *f == Fault::FatalStatus).is_some();
                self.respond(cid, NvmeStatus::SUCCESS, 0)
            }
            _ => self.respond(cid, NvmeStatus::INVALID_FIELD, 0),
        }
    }

    fn connect(&mut self, sqe: &Sqe, data: &[u8]) -> Done {
        let connect = Connect::of(sqe);
        let given = ConnectData::read_from_bytes(data).map_err(|_| End)?;
        self.qid = connect.qid;
        self.discovery = given.subnqn() == Ok(crate::nvme::DISCOVERY_NQN);
        self.shared.connects.fetch_add(1, SeqCst);
        let wanted = |f: &Fault| matches!(f, Fault::Connect { io, .. } if *io == (self.qid != 0));
        if let Some(Fault::Connect { status, .. }) = self.shared.take(wanted) {
            return self.respond(sqe.cid.get(), status, 0);
        }
        let cntlid = match self.qid {
            0 => self.shared.next_cntlid.fetch_add(1, SeqCst),
            _ => given.cntlid.get(),
        };
        self.shared.queues.fetch_add(usize::from(self.qid != 0), SeqCst);
        self.respond(sqe.cid.get(), NvmeStatus::SUCCESS, cntlid.into())
    }

    fn admin(&mut self, sqe: &Sqe) -> Done {
        let cid = sqe.cid.get();
        match sqe.opcode {
            admin::IDENTIFY => match self.identify(sqe) {
                Some(data) => self.answer_data(sqe, &data),
                None => self.respond(cid, NvmeStatus::INVALID_NAMESPACE, 0),
            },
            admin::SET_FEATURES => self.respond(cid, NvmeStatus::SUCCESS, 0x0003_0003),
            admin::GET_LOG_PAGE => {
                let page = self.log_page(sqe);
                self.answer_data(sqe, &page)
            }
            admin::KEEP_ALIVE => {
                self.deaf |= self.shared.take(|f| *f == Fault::NoKeepAlive).is_some();
                self.shared.keep_alives.fetch_add(1, SeqCst);
                if self.deaf { Ok(()) } else { self.respond(cid, NvmeStatus::SUCCESS, 0) }
            }
            admin::ASYNC_EVENT_REQUEST => {
                let waiting = (Arc::clone(&self.out), cid, self.framer);
                lock(&self.shared.waiting).push(waiting);
                Ok(())
            }
            admin::ABORT => {
                self.shared.aborts.fetch_add(1, SeqCst);
                self.respond(cid, NvmeStatus::SUCCESS, 1)
            }
            _ => self.respond(cid, NvmeStatus::INVALID_OPCODE, 0),
        }
    }

    fn identify(&self, sqe: &Sqe) -> Option<Vec<u8>> {
        let nsid = sqe.nsid.get();
        let namespaces = lock(&self.shared.namespaces).clone();
        let found = namespaces.iter().find(|(own, ..)| *own == nsid);
        let mut data = match IdentifyCdw10(sqe.cdw10.get()).cns() {
            cns::CONTROLLER => self.controller().as_bytes().to_vec(),
            cns::ACTIVE_NAMESPACES => {
                let after = namespaces.iter().map(|(own, ..)| *own).filter(|own| *own > nsid);
                NamespaceList::of(after).as_bytes().to_vec()
            }
            cns::NAMESPACE_IDS => {
                let mut list = Vec::new();
                let foreign = u128::from(self.shared.foreign.load(SeqCst)) << 64;
                let (nsid, ..) = *found?;
                NamespaceId::Uuid((u128::from(nsid) + foreign).to_be_bytes()).append_to(&mut list);
                list
            }
            cns::NAMESPACE => {
                let &(nsid, blocks, _) = found?;
                let mut namespace = IdentifyNamespace::default();
                (namespace.nsze, namespace.ncap) = (U64::new(blocks), U64::new(blocks));
                namespace.lbaf[0] = LbaFormat::new(9, 0);
                namespace.anagrpid = U32::new(nsid);
                namespace.nmic = 1;
                namespace.as_bytes().to_vec()
            }
            _ => return None,
        };
        data.resize(4096, 0);
        Some(data)
    }

    fn controller(&self) -> IdentifyController {
        let mut data = IdentifyController::default();
        data.cntlid = U16::new(self.shared.next_cntlid.load(SeqCst) - 1);
        data.mdts = 3;
        data.aerl = 1;
        let in_capsule = u32::try_from(self.shared.in_capsule.load(SeqCst)).unwrap();
        data.ioccsz = U32::new((64 + in_capsule) / 16);
        data.iorcsz = U32::new(1);
        let wanted = oaes::NAMESPACE_ATTRIBUTE | oaes::ANA_CHANGE | oaes::DISCOVERY_LOG;
        data.oaes = U32::new(wanted);
        data.oncs = U16::new(oncs::COMPARE | oncs::DATASET_MANAGEMENT | oncs::WRITE_ZEROES);
        data.fuses = U16::new(fuses::COMPARE_AND_WRITE);
        data.acwu = U16::new(7);
        data.nn = U32::new(16);
        data.nanagrpid = U32::new(16);
        data.anagrpmax = U32::new(16);
        data.anatt = 1;
        data.kas = U16::new(1);
        if self.shared.ana.load(SeqCst) {
            data.cmic |= cmic::ANA;
        }
        if self.shared.write_cache.load(SeqCst) {
            data.vwc = vwc::PRESENT;
        }
        data
    }

    fn log_page(&self, sqe: &Sqe) -> Vec<u8> {
        let page = GetLogPage::of(sqe);
        let mut data = match page.lid {
            lid::ANA => {
                let namespaces = lock(&self.shared.namespaces).clone();
                let ngrps = U16::new(u16::try_from(namespaces.len()).unwrap());
                let header = AnaLogHeader { ngrps, ..Default::default() };
                let mut data = header.as_bytes().to_vec();
                for (nsid, _, state) in namespaces {
                    let group = AnaGroupDescriptor::new(nsid, 1, 0, state);
                    data.extend_from_slice(group.as_bytes());
                    data.extend_from_slice(&nsid.to_le_bytes());
                }
                data
            }
            lid::DISCOVERY => self.discovery_log(page.offset),
            _ => Vec::new(),
        };
        let (at, len) =
            (usize::try_from(page.offset).unwrap(), usize::try_from(page.bytes).unwrap());
        data.resize((at + len).max(data.len()), 0);
        data[at..at + len].to_vec()
    }

    fn discovery_log(&self, at: u64) -> Vec<u8> {
        let log = lock(&self.shared.log).clone();
        let changes = &self.shared.log_changes;
        if at != 0 && changes.load(SeqCst) != 0 {
            changes.fetch_sub(1, SeqCst);
        }
        let genctr = U64::new(100 - changes.load(SeqCst) as u64);
        let numrec = U64::new(log.len() as u64);
        let header = DiscoveryLogHeader { genctr, numrec, ..Default::default() };
        let mut data = header.as_bytes().to_vec();
        for address in log {
            let mut entry = DiscoveryEntry {
                trtype: trtype::TCP,
                adrfam: 1,
                subtype: subtype::NVM,
                cntlid: U16::new(0xffff),
                ..Default::default()
            };
            text::set_padded(&mut entry.traddr, &address.ip().to_string());
            text::set_padded(&mut entry.trsvcid, &address.port().to_string());
            let nqn = format!("{}-{}", super::SUBNQN, address.port());
            text::set_terminated(&mut entry.subnqn, &nqn);
            data.extend_from_slice(entry.as_bytes());
        }
        data
    }

    fn io(&mut self, sqe: &Sqe, data: Vec<u8>) -> Done {
        let cid = sqe.cid.get();
        lock(&self.shared.seen).push((self.qid, sqe.opcode));
        let is_read = sqe.opcode == nvm::READ;
        let is_write = sqe.opcode == nvm::WRITE && sqe.dptr.kind() == SglKind::Transport;
        let fault = self.shared.take(|fault| match fault {
            Fault::DataDigest
            | Fault::DataBeyond
            | Fault::DataGap
            | Fault::DataForNone
            | Fault::DataShort => is_read,
            Fault::R2tBeyond | Fault::R2tEmpty | Fault::R2tForNone | Fault::R2tTwo => is_write,
            Fault::Greeting(_) | Fault::NoGreeting | Fault::Connect { .. } => false,
            Fault::NeverReady | Fault::FatalStatus | Fault::NoKeepAlive => false,
            _ => true,
        });
        match fault {
            None => self.execute(sqe, data),
            Some(Fault::Hang) => Ok(()),
            Some(Fault::Status(status)) => self.respond(cid, status, 0),
            Some(Fault::Close { executed }) => {
                if executed {
                    let _ = self.execute(sqe, data);
                }
                Err(End)
            }
            Some(Fault::Twice) => {
                self.execute(sqe, data)?;
                self.respond(cid, NvmeStatus::SUCCESS, 0)?;
                self.until_the_end()
            }
            Some(fault) => {
                self.break_protocol(fault, sqe)?;
                self.until_the_end()
            }
        }
    }

    /// Reads what the host still says.
    fn until_the_end(&mut self) -> Done {
        loop {
            let pdu = self.pdu()?;
            if pdu[0] == PduType::H2cTermReq as u8 {
                lock(&self.shared.terms).push(u16::from_le_bytes([pdu[8], pdu[9]]));
                return Err(End);
            }
        }
    }

    fn break_protocol(&mut self, fault: Fault, sqe: &Sqe) -> Done {
        let cid = sqe.cid.get();
        let len = sqe.dptr.length.get();
        let mut space: HeaderSpace = [0; HEADER_SPACE_BYTES];
        let r2t = |cccid, offset, length| R2t { cccid, ttag: 7, offset, length };
        let block = [0; BLOCK];
        match fault {
            Fault::Terminate => {
                let error = FatalError::of(FatalStatus::DataOutOfRange);
                let n = Framer::term_req(PduType::C2hTermReq, &error, &[0; 24], &mut space);
                self.write(&space[..n])
            }
            Fault::WrongCid => self.respond(cid ^ 0x4000, NvmeStatus::SUCCESS, 0),
            Fault::HeaderDigest => {
                let cqe = Cqe::new(cid, 0, NvmeStatus::SUCCESS, 0);
                let n = self.framer.response(&cqe, &mut space);
                space[n - 1] ^= 1;
                self.write(&space[..n])
            }
            Fault::DataDigest => {
                let data = vec![0; len as usize];
                self.send_data(&data_pdu(sqe, 0, len as usize), &data, true)?;
                self.respond(cid, NvmeStatus::SUCCESS, 0)?;
                // The connection goes on.
                self.serve_commands()
            }
            Fault::DataShort => {
                self.send_data(&data_pdu(sqe, 0, BLOCK), &block, false)?;
                self.respond(cid, NvmeStatus::SUCCESS, 0)?;
                self.serve_commands()
            }
            Fault::DataBeyond => {
                let data = vec![0; len as usize + BLOCK];
                self.send_data(&data_pdu(sqe, 0, data.len()), &data, false)
            }
            Fault::DataGap => self.send_data(&data_pdu(sqe, BLOCK, BLOCK), &block, false),
            Fault::DataForNone => {
                let pdu = DataPdu { cccid: cid ^ 0x4000, ..data_pdu(sqe, 0, BLOCK) };
                self.send_data(&pdu, &block, false)
            }
            Fault::R2tBeyond | Fault::R2tEmpty | Fault::R2tForNone | Fault::R2tTwo => {
                let asked = match fault {
                    Fault::R2tBeyond => r2t(cid, 4, len),
                    Fault::R2tEmpty => r2t(cid, 0, 0),
                    Fault::R2tForNone => r2t(cid ^ 0x4000, 0, len),
                    _ => r2t(cid, 0, len),
                };
                let n = self.framer.r2t(&asked, &mut space);
                self.write(&space[..n])?;
                if fault == Fault::R2tTwo { self.write(&space[..n]) } else { Ok(()) }
            }
            _ => self.write(&[0x42; 24]),
        }
    }

    fn execute(&mut self, sqe: &Sqe, data: Vec<u8>) -> Done {
        let cid = sqe.cid.get();
        let command = BlockCommand(sqe);
        let from = usize::try_from(command.slba()).unwrap() * BLOCK;
        let len = command.blocks() as usize * BLOCK;
        let has_blocks =
            matches!(sqe.opcode, nvm::READ | nvm::WRITE | nvm::COMPARE | nvm::WRITE_ZEROES);
        if has_blocks && from + len > lock(&self.shared.data).len() {
            return self.respond(cid, NvmeStatus::LBA_OUT_OF_RANGE, 0);
        }
        let data = match sqe.opcode {
            nvm::WRITE | nvm::COMPARE if sqe.dptr.kind() == SglKind::Transport => {
                self.fetch(sqe, len)?
            }
            _ => data,
        };
        let status = match sqe.opcode {
            nvm::READ => {
                let found = lock(&self.shared.data)[from..from + len].to_vec();
                return self.answer_data(sqe, &found);
            }
            nvm::WRITE => {
                lock(&self.shared.data)[from..from + len].copy_from_slice(&data);
                NvmeStatus::SUCCESS
            }
            nvm::COMPARE if lock(&self.shared.data)[from..from + len] != data[..] => {
                NvmeStatus::COMPARE_FAILURE.with_do_not_retry(false)
            }
            nvm::WRITE_ZEROES => {
                lock(&self.shared.data)[from..from + len].fill(0);
                NvmeStatus::SUCCESS
            }
            nvm::COMPARE | nvm::FLUSH | nvm::DATASET_MANAGEMENT => NvmeStatus::SUCCESS,
            _ => NvmeStatus::INVALID_OPCODE,
        };
        self.respond(cid, status, 0)
    }

    /// Asks for a write's data, in two requests.
    fn fetch(&mut self, sqe: &Sqe, len: usize) -> Result<Vec<u8>, End> {
        let mut all = Vec::new();
        let half = len / 2;
        for (from, to) in [(0, half), (half, len)] {
            let (offset, length) =
                (u32::try_from(from).unwrap(), u32::try_from(to - from).unwrap());
            let r2t = R2t { cccid: sqe.cid.get(), ttag: 7, offset, length };
            let mut space = [0; HEADER_SPACE_BYTES];
            let n = self.framer.r2t(&r2t, &mut space);
            self.write(&space[..n])?;
            while all.len() < to {
                let pdu = self.pdu()?;
                if pdu[0] == PduType::CapsuleCmd as u8 {
                    let capsule = self.capsule(&pdu)?;
                    self.backlog.push_back(capsule);
                    continue;
                }
                let at = u32::from_le_bytes([pdu[12], pdu[13], pdu[14], pdu[15]]);
                assert_eq!((at as usize, pdu[10]), (all.len(), 7), "offset and tag");
                let data = self.payload(&pdu)?;
                assert!(data.len() <= 8192, "MAXH2CDATA");
                all.extend_from_slice(&data);
                assert_eq!(pdu[1] & 4 != 0, all.len() == to, "the last PDU is marked");
            }
        }
        Ok(all)
    }
}

fn data_pdu(sqe: &Sqe, from: usize, len: usize) -> DataPdu {
    let all = sqe.dptr.length.get() as usize;
    DataPdu {
        cccid: sqe.cid.get(),
        ttag: 0,
        datao: u32::try_from(from).unwrap(),
        datal: u32::try_from(len).unwrap(),
        last: from + len >= all,
        success: false,
    }
}
