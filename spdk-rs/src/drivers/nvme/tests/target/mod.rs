//! A target that does as it is told: a thread per connection with blocking sockets.
#![expect(clippy::disallowed_types, reason = "threads of the test share the script")]

mod admin;
mod connection;
mod io;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::NvmeStatus;
use crate::nvme::spec::Cqe;
use crate::nvme::spec::log::AnaState;
use crate::nvme::tcp::framing::{Framer, HEADER_SPACE_BYTES, IcResp};

use connection::Connection;

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
    waiting: Mutex<Vec<Waiting>>,
    connections: Mutex<Vec<TcpStream>>,
    stop: AtomicBool,
    next_cntlid: AtomicU16,
    pub(super) in_capsule: AtomicUsize,
    /// Its namespaces have other names than those of other targets.
    pub(super) foreign: AtomicBool,
    /// I/O queues that a controller grants, at least 1.
    pub(super) queues: AtomicU16,
}

/// A request for an event: its connection, its command, and how to frame the answer.
type Waiting = (Arc<Mutex<TcpStream>>, u16, Framer);

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

    /// Whether a host waits for events.
    pub(super) fn is_listened_to(&self) -> bool {
        !lock(&self.waiting).is_empty()
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
            queues: AtomicU16::new(4),
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
