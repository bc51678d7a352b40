//! A controller that is a program: registers in memory, rings and data in the engine's arena. It
//! does what a drive does, and what a broken one does when it is told to.
//!
//! It is stepped by a poller of the reactor under test, so a test is one thread. I/O addresses are
//! the process's with a difference; an address outside the arena is counted as a fault of the
//! IOMMU, and nothing is transferred.
#![allow(unsafe_code, reason = "a device reads and writes memory by address")]
#![allow(clippy::disallowed_types, reason = "the model is shared with helper threads")]

mod admin;
mod doorbells;
mod io;
mod manage;
mod memory;
mod zones;

use std::collections::BTreeMap;
use std::fs::File;
use std::io as std_io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use spdk_rs_sys::event::EventFd;
use spdk_rs_sys::mmio::Mmio;
use spdk_rs_sys::pci::PciAddress;

pub(crate) use self::zones::{CAPACITY, ZONE};
use super::function::{DmaMap, Function};
use crate::NvmeStatus;
use crate::env::Memory;
use crate::nvme::controller::LinkError;
use crate::nvme::spec::register::{Cap, Cc, Csts, Vs, offset, shn, shst};
use crate::nvme::spec::{Cqe, Sqe};
use crate::reactor::{PollerHandle, Progress, Reactor};

/// Bytes of a block.
pub(crate) const BLOCK: usize = 512;
/// Blocks of the namespace.
pub(crate) const BLOCKS: usize = 4096;
/// Bytes of registers: the doorbells of 15 I/O queues.
const REGISTERS: usize = 0x1000 + 16 * 8;
/// What is added to an address of the process to make an I/O address.
const DELTA: u64 = 0x10_0000_0000;

/// What goes wrong, once each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The completion of the next I/O command is lost.
    Lose,
    /// The next I/O command is neither done nor answered, until its queue is deleted.
    Hold,
    /// The completion of the next I/O command has another identifier.
    BogusCid,
    /// … another submission queue's head than there can be.
    BogusHead,
    /// … another queue's number.
    BogusQueue,
    /// The next I/O command is answered twice.
    Twice,
    /// An entry of ones, with the phase tag of a new one, instead of the next completion.
    Garbage,
    /// At the next I/O command the controller reports a fatal error and does nothing any more.
    Fatal,
    /// At the next I/O command the controller is gone.
    Gone,
    /// At the next I/O command it is pulled out: the mapping of its registers has nothing behind it
    /// any more, and there is no function at its address.
    PulledOut,
    /// It never becomes ready.
    NeverReady,
    /// It reports a fatal error while it is being enabled.
    FatalAtStart,
    /// It stays ready when it is disabled, and goes on as before.
    StaysReady,
    /// The next command of the admin queue with this opcode is not answered.
    Deaf(u8),
    /// It stops looking at a shadow without asking for the doorbell.
    Oversleeps,
    /// The next question for namespaces is not answered.
    DeafToScan,
    /// The next command of the admin queue with this opcode fails.
    Fails(u8, NvmeStatus),
}

/// What a test asks about.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// I/O commands by opcode.
    pub(crate) commands: BTreeMap<u8, u32>,
    /// Writes with force unit access.
    pub(crate) fua: u32,
    /// Commands whose data pointer was an SGL.
    pub(crate) sgl: u32,
    /// Addresses that no IOMMU would have allowed.
    pub(crate) strayed: u32,
    /// Times that it was enabled.
    pub(crate) enabled: u32,
    /// Shutdown notifications.
    pub(crate) shutdowns: u32,
    /// Resets of the function.
    pub(crate) resets: u32,
    /// Abort commands.
    pub(crate) aborts: u32,
    /// Doorbell writes that were noticed, of submission queues.
    pub(crate) doorbells: u32,
    /// Commands that were fetched from its own memory.
    pub(crate) from_own_memory: u32,
    /// Formats, with the LBA format and the secure erase of each.
    pub(crate) formats: Vec<(u8, u8)>,
    /// The firmware image that was committed last.
    pub(crate) firmware: Vec<u8>,
    /// Command dword 10 of sanitize commands.
    pub(crate) sanitized: Vec<u32>,
    /// Queues that were left when it was shut down.
    pub(crate) left: usize,
}

/// What it is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Limit of a transfer: `4096 << mdts` bytes.
    pub(crate) mdts: u8,
    /// The field SGLS.
    pub(crate) sgls: u32,
    /// A volatile write cache.
    pub(crate) cache: bool,
    /// I/O queues that it grants.
    pub(crate) queues: u16,
    /// It has shadow doorbells.
    pub(crate) shadows: bool,
    /// Namespace 1 has zones.
    pub(crate) zoned: bool,
    /// Bytes of its own memory (CMB); 0 for none. It is switched on by CMBMSC.
    pub(crate) memory: usize,
}

impl Default for Shape {
    fn default() -> Self {
        Self { mdts: 5, sgls: 0, cache: true, queues: 4, shadows: false, zoned: false, memory: 0 }
    }
}

/// A submission queue.
struct Sq {
    iova: u64,
    entries: u16,
    head: u16,
    cqid: u16,
}

/// A completion queue.
struct Cq {
    iova: u64,
    entries: u16,
    tail: u16,
    phase: bool,
}

#[derive(Default)]
struct State {
    enabled: bool,
    bus_master: bool,
    wanted_back: bool,
    bus_error: bool,
    dead: bool,
    stays_ready: bool,
    sqs: BTreeMap<u16, Sq>,
    cqs: BTreeMap<u16, Cq>,
    faults: Vec<Fault>,
    /// Commands that are held: queue and identifier.
    held: Vec<(u16, u16)>,
    /// Requests for events.
    waiting: Vec<u16>,
    /// Events that nobody has asked for yet.
    events: Vec<u32>,
    seen: Seen,
    namespaces: BTreeMap<u32, manage::Namespace>,
    /// The zones of those that have some.
    zones: BTreeMap<u32, Vec<zones::Zone>>,
    /// What was downloaded and not committed yet.
    image: Vec<u8>,
    bells: doorbells::Bells,
}

/// What the model and its users share.
pub(crate) struct Model {
    pub(crate) address: PciAddress,
    registers: Arc<Mmio>,
    /// What the registers are a mapping of.
    file: File,
    /// Its own memory.
    own: Option<Arc<Mmio>>,
    dma: Arc<DmaMap>,
    arena: (usize, usize),
    shape: Shape,
    state: Mutex<State>,
}

static MODELS: Mutex<BTreeMap<PciAddress, Arc<Model>>> = Mutex::new(BTreeMap::new());

/// The function of a model at an address.
pub(super) fn find(address: PciAddress) -> Option<Box<dyn Function>> {
    let models = MODELS.lock().unwrap_or_else(PoisonError::into_inner);
    models.get(&address).map(|model| -> Box<dyn Function> { Box::new(Handle(Arc::clone(model))) })
}

struct Handle(Arc<Model>);

impl Function for Handle {
    fn registers(&self) -> &Arc<Mmio> {
        &self.0.registers
    }

    fn dma(&self) -> &Arc<DmaMap> {
        &self.0.dma
    }

    fn bar(&self, bar: u8) -> Result<Arc<Mmio>, LinkError> {
        let none = || LinkError::Device { why: format!("no BAR {bar}") };
        self.0.own.clone().filter(|_| bar == 2).ok_or_else(none)
    }

    fn set_bus_master(&self, on: bool) -> std_io::Result<()> {
        self.0.lock().bus_master = on;
        Ok(())
    }

    fn reset(&self) -> std_io::Result<()> {
        let mut state = self.0.lock();
        state.seen.resets += 1;
        (state.stays_ready, state.bus_master) = (false, false);
        self.0.stop(&mut state);
        Ok(())
    }

    fn admin_event(&self) -> Option<&EventFd> {
        None
    }

    fn is_wanted_back(&self) -> bool {
        std::mem::take(&mut self.0.lock().wanted_back)
    }

    fn has_failed(&self) -> bool {
        std::mem::take(&mut self.0.lock().bus_error)
    }
}

impl Model {
    /// A controller in a memory's arena, stepped by a reactor until the handle is dropped.
    pub(crate) fn start(
        memory: &Memory,
        reactor: &Reactor,
        shape: Shape,
    ) -> (Arc<Self>, PollerHandle) {
        static NEXT: AtomicU32 = AtomicU32::new(0x1_0000);
        let domain = NEXT.fetch_add(1, Ordering::Relaxed);
        let address = PciAddress { domain, bus: 1, device: 0, function: 0 };
        let file = tempfile::tempfile().unwrap();
        file.set_len(REGISTERS as u64).unwrap();
        let registers = Arc::new(Mmio::map(file.as_fd(), 0, REGISTERS).unwrap());
        let (start, len) = memory.arena_range();
        let arena = (start.addr(), len);
        let dma = Arc::new(DmaMap::Linear { start: arena.0, len, delta: DELTA });
        let first = manage::Namespace { lbaf: 0, attached: true, data: vec![0; BLOCK * BLOCKS] };
        let zones = shape.zoned.then(|| (1, zones::all())).into_iter().collect();
        let state = State { namespaces: [(1, first)].into(), zones, ..State::default() };
        let state = Mutex::new(state);
        let own = (shape.memory != 0).then(|| Arc::new(Mmio::in_memory(shape.memory).unwrap()));
        let model = Arc::new(Self { address, registers, file, own, dma, arena, shape, state });
        model.set_capabilities();
        MODELS.lock().unwrap().insert(address, Arc::clone(&model));
        let stepped = Arc::clone(&model);
        let poller = reactor.register_poller("model", None, move || {
            // It is the other side: what it allocates is not the host's.
            let busy = crate::allocations::uncounted(|| stepped.step());
            if busy { Progress::Busy } else { Progress::Idle }
        });
        (model, poller)
    }

    fn set_capabilities(&self) {
        let cap = Cap(0)
            .with_mqes(255)
            .with_to(1)
            .with_css(if self.shape.zoned { 0x41 } else { 1 })
            .with_cmbs(self.own.is_some());
        self.registers.write64(offset::CAP as usize, cap.0);
        self.registers.write32(offset::VS as usize, Vs::V1_4.0);
        self.show_memory();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    pub(crate) fn seen(&self) -> Seen {
        self.lock().seen.clone()
    }

    pub(crate) fn count(&self, opcode: u8) -> u32 {
        self.lock().seen.commands.get(&opcode).copied().unwrap_or(0)
    }

    /// Submission queues that it has, with the admin queue.
    pub(crate) fn queues(&self) -> usize {
        self.lock().sqs.len()
    }

    /// Whether every fault has happened.
    pub(crate) fn is_through(&self) -> bool {
        self.lock().faults.is_empty()
    }

    /// Puts the controller back where it was taken from, working.
    pub(crate) fn repair(&self) {
        let mut state = self.lock();
        (state.dead, state.stays_ready) = (false, false);
        state.faults.clear();
        self.registers.write32(offset::CC as usize, 0);
        self.set_capabilities();
        self.stop(&mut state);
    }

    /// Asks for the function, as the kernel does when it is to be unplugged.
    pub(crate) fn ask_back(&self) {
        self.lock().wanted_back = true;
    }

    /// Tells of an error of the bus.
    pub(crate) fn fail_bus(&self) {
        self.lock().bus_error = true;
    }

    /// Takes it away.
    fn pull_out(&self, state: &mut State) {
        (state.dead, state.bus_master) = (true, false);
        self.forget();
        self.file.set_len(0).unwrap();
    }

    /// Has no function at its address any more, for whoever looks for one.
    pub(crate) fn forget(&self) {
        MODELS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.address);
    }

    /// Reports an event.
    pub(crate) fn event(&self, event: u32) {
        self.lock().events.push(event);
    }

    fn cc(&self) -> Cc {
        Cc(self.registers.read32(offset::CC as usize))
    }

    fn set_status(&self, status: Csts) {
        self.registers.write32(offset::CSTS as usize, status.0);
    }

    /// All queues go, as at a reset.
    fn stop(&self, state: &mut State) {
        state.enabled = false;
        state.sqs.clear();
        state.cqs.clear();
        state.held.clear();
        state.waiting.clear();
        state.bells = doorbells::Bells::default();
        for register in (0x1000..REGISTERS).step_by(4) {
            self.registers.write32(register, 0);
        }
        self.set_status(Csts(0));
    }

    /// Takes a fault that is meant for this moment.
    fn take(state: &mut State, wanted: impl Fn(&Fault) -> bool) -> Option<Fault> {
        let at = state.faults.iter().position(wanted)?;
        Some(state.faults.remove(at))
    }

    /// Does what there is to do; whether there was something.
    pub(crate) fn step(&self) -> bool {
        let mut state = self.lock();
        if state.dead {
            return false;
        }
        let cc = self.cc();
        if cc.en() && !state.enabled {
            self.enable(&mut state);
            return true;
        }
        if !cc.en() && state.enabled && !state.stays_ready {
            state.stays_ready = Self::take(&mut state, |f| *f == Fault::StaysReady).is_some();
            if !state.stays_ready {
                self.stop(&mut state);
            }
            return true;
        }
        let status = Csts(self.registers.read32(offset::CSTS as usize));
        if cc.shn() != shn::NONE && status.shst() == shst::NORMAL && state.enabled {
            state.seen.shutdowns += 1;
            state.seen.left = state.sqs.len() - 1;
            self.set_status(status.with_shst(shst::COMPLETE));
            return true;
        }
        // A controller that may not transfer cannot even read its queues.
        if !state.bus_master || !state.enabled {
            return false;
        }
        self.tell_events(&mut state);
        let queues: Vec<u16> = state.sqs.keys().copied().collect();
        let mut busy = false;
        for qid in queues {
            busy |= self.serve(&mut state, qid);
        }
        busy
    }

    fn enable(&self, state: &mut State) {
        // All command sets where there is more than one, else the only one.
        assert_eq!(self.cc().css(), if self.shape.zoned { 6 } else { 0 });
        state.enabled = true;
        state.seen.enabled += 1;
        if Self::take(state, |f| *f == Fault::NeverReady).is_some() {
            return;
        }
        if Self::take(state, |f| *f == Fault::FatalAtStart).is_some() {
            return self.set_status(Csts(0).with_cfs(true));
        }
        let size = self.registers.read32(offset::AQA as usize);
        let entries = u16::try_from(size & 0xfff).unwrap() + 1;
        let iova = self.registers.read64(offset::ASQ as usize);
        state.sqs.insert(0, Sq { iova, entries, head: 0, cqid: 0 });
        let entries = u16::try_from(size >> 16 & 0xfff).unwrap() + 1;
        let iova = self.registers.read64(offset::ACQ as usize);
        state.cqs.insert(0, Cq { iova, entries, tail: 0, phase: true });
        self.set_status(Csts(0).with_rdy(true));
    }

    fn tell_events(&self, state: &mut State) {
        while !state.events.is_empty() && !state.waiting.is_empty() {
            let (event, cid) = (state.events.remove(0), state.waiting.remove(0));
            self.complete(state, 0, cid, NvmeStatus::SUCCESS, event.into());
        }
    }

    /// Does the new commands of a queue.
    fn serve(&self, state: &mut State, qid: u16) -> bool {
        let tail = self.tail(state, qid);
        let mut busy = false;
        while let Some(sq) = state.sqs.get_mut(&qid)
            && u32::from(sq.head) != tail
            && !state.dead
        {
            assert!(tail < u32::from(sq.entries), "a doorbell beyond its queue");
            let at = sq.iova + u64::from(sq.head) * 64;
            sq.head = (sq.head + 1) % sq.entries;
            let Some(bytes) = self.fetch_entry(state, at) else { return true };
            let sqe: Sqe = zerocopy::FromBytes::read_from_bytes(&bytes).unwrap();
            busy = true;
            if qid == 0 {
                self.admin(state, &sqe);
            } else {
                self.io(state, qid, &sqe);
            }
        }
        busy
    }

    /// Answers a command.
    fn complete(&self, state: &mut State, qid: u16, cid: u16, status: NvmeStatus, result: u64) {
        let Some(sq) = state.sqs.get(&qid) else { return };
        let mut cqe = Cqe::new(cid, sq.head, status, result);
        cqe.sqid.set(qid);
        let cqid = sq.cqid;
        self.post(state, cqid, cqe);
    }

    /// Posts an entry with the phase tag that it needs.
    fn post(&self, state: &mut State, cqid: u16, mut cqe: Cqe) {
        let Some(cq) = state.cqs.get_mut(&cqid) else { return };
        let at = cq.iova + u64::from(cq.tail) * 16;
        let phase = u16::from(cq.phase);
        cqe.status_phase.set(cqe.status_phase.get() & !1 | phase);
        cq.tail += 1;
        if cq.tail == cq.entries {
            (cq.tail, cq.phase) = (0, !cq.phase);
        }
        self.write(state, at, zerocopy::IntoBytes::as_bytes(&cqe));
    }
}
