//! A controller during one association: its registers, and what all its queues share.

use std::collections::BTreeSet;
use std::fmt;
use std::rc::Rc;
#[expect(clippy::disallowed_types, reason = "controllers are claimed when they are attached")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use spdk_rs_sys::pci::PciAddress;

use super::cmb::{ControllerMemory, SqRoom};
use super::core::PcieCore;
use super::function::{self, Function, OpenError};
use super::shadow::{Bell, Shadows};
use crate::env::Memory;
use crate::nvme::controller::LinkError;
use crate::nvme::spec::Sqe;
use crate::nvme::spec::register::{Cap, Cc, Csts, Vs, css, offset};
use crate::reactor::{Offload, Reactor, ReactorHandle, sleep};

/// Where the doorbells begin, in bytes.
const DOORBELLS: usize = 0x1000;
/// Time between two looks at a status that is waited for.
const LOOK: Duration = Duration::from_millis(2);
/// How long an earlier association of the same controller may take to end, and how long the kernel
/// may be at its function.
const CLAIM_LIMIT: Duration = Duration::from_secs(10);
/// Time between two attempts to open a function that the kernel is at.
const OPEN_AGAIN: Duration = Duration::from_millis(200);
/// How long commands that make and delete queues may take.
const QUEUE_LIMIT: Duration = Duration::from_secs(5);
/// What a register reads as when the controller is gone.
const GONE: u32 = u32::MAX;

/// The register offsets of the specification as this code uses them.
const fn at(offset: u32) -> usize {
    offset as usize
}

#[expect(clippy::disallowed_types, reason = "see the import")]
type Claims = Mutex<BTreeSet<PciAddress>>;

static CLAIMED: Claims = Claims::new(BTreeSet::new());

/// The right to use a controller: one association at a time.
struct Claim(PciAddress);

impl Claim {
    fn take(address: PciAddress) -> Option<Self> {
        let mut claimed = CLAIMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        claimed.insert(address).then(|| Self(address))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut claimed = CLAIMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = claimed.remove(&self.0);
    }
}

/// A controller, from the opening of its function to the end of its last queue.
pub(crate) struct PcieController {
    /// A number that no other association of this process has or had.
    pub(super) id: u64,
    pub(super) address: PciAddress,
    /// There until the end.
    function: Option<Opened>,
    offload: Offload,
    cap: Cap,
    vs: Vs,
    /// Where its admin queue is.
    home: ReactorHandle,
    /// Its registers may be other than those of a controller that works.
    halting_began: AtomicBool,
    /// It reads and writes no memory any more.
    halted: AtomicBool,
    /// Shadows of its doorbells, which it may use as long as it is not stopped.
    shadows: OnceLock<Arc<Shadows>>,
    /// It has taken them.
    is_shadowed: AtomicBool,
    /// Its own memory, when submission queues are to be there.
    memory: OnceLock<ControllerMemory>,
    /// One task at a time halts it.
    halting: futures::lock::Mutex<()>,
}

/// A function, and the right to it. Nobody else may open it before it is closed.
struct Opened {
    function: Box<dyn Function>,
    _claim: Claim,
}

impl fmt::Debug for PcieController {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PcieController({})", self.address)
    }
}

impl PcieController {
    /// Opens a function and reads what it can. It may not transfer until it was disabled: it may
    /// have been left with queues in memory that is used for something else now.
    pub(super) async fn open(
        reactor: &Rc<Reactor>,
        address: PciAddress,
        allow_no_iommu: bool,
    ) -> Result<Arc<Self>, LinkError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let claim = claim(reactor, address).await?;
        let function = open_function(reactor, address, allow_no_iommu).await?;
        let registers = function.registers();
        let (cap, vs) = (registers.read64(at(offset::CAP)), registers.read32(at(offset::VS)));
        let controller = Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            address,
            function: Some(Opened { function, _claim: claim }),
            offload: reactor.offload().clone(),
            cap: Cap(cap),
            vs: Vs(vs),
            home: reactor.handle(),
            halting_began: AtomicBool::new(false),
            halted: AtomicBool::new(false),
            shadows: OnceLock::new(),
            is_shadowed: AtomicBool::new(false),
            memory: OnceLock::new(),
            halting: futures::lock::Mutex::new(()),
        });
        controller.check()?;
        Ok(controller)
    }

    /// Refuses what this code cannot drive.
    fn check(&self) -> Result<(), LinkError> {
        let refuse = |why: &str| Err(LinkError::Device { why: format!("{}: {why}", self.address) });
        if self.cap.0 == u64::MAX {
            return refuse("its registers read as all ones: it is gone, or switched off");
        }
        if self.cap.mpsmin() != 0 {
            return refuse("it has no memory pages of 4096 bytes (CAP.MPSMIN)");
        }
        if self.cap.css() & (css::NVM | css::IO_COMMAND_SETS) == 0 {
            return refuse("it has no I/O command set (CAP.CSS)");
        }
        let stride = 4_usize << self.cap.dstrd();
        if self.function().registers().len() < DOORBELLS + 4 * stride {
            return refuse("its registers (BAR 0) have no room for doorbells");
        }
        Ok(())
    }

    /// Its capabilities.
    pub(crate) fn cap(&self) -> Cap {
        self.cap
    }

    /// Its version.
    pub(crate) fn vs(&self) -> Vs {
        self.vs
    }

    pub(super) fn function(&self) -> &dyn Function {
        match &self.function {
            Some(opened) => &*opened.function,
            None => unreachable!("the function is there until the controller is dropped"),
        }
    }

    /// The I/O queues whose doorbells are inside its registers.
    pub(crate) fn io_queues_max(&self) -> u16 {
        let stride = 4_usize << self.cap.dstrd();
        let doorbells = (self.function().registers().len() - DOORBELLS) / stride;
        u16::try_from(doorbells / 2 - 1).unwrap_or(u16::MAX).max(1)
    }

    /// A doorbell by its index: of queue n, 2 n is the submission tail and 2 n + 1 the completion
    /// head (NVMe over PCIe Transport 1.0, section 3.1.2). Those of the admin queue have no shadow:
    /// they are there before it.
    pub(super) fn bell(&self, index: usize) -> Bell {
        let offset = index * (4_usize << self.cap.dstrd());
        let shadowed = index > 1 && self.is_shadowed.load(Ordering::Acquire);
        let shadows = self.shadows.get().filter(|_| shadowed);
        Bell::new(self.function().registers().doorbell(DOORBELLS + offset), offset, shadows)
    }

    /// Makes shadows of the doorbells; returns the command that tells the controller of them.
    pub(crate) fn make_shadows(&self, memory: &Memory) -> Result<Sqe, LinkError> {
        let made = Shadows::new(memory, self)?;
        // Kept whatever becomes of the command: the controller may have it.
        Ok(self.shadows.get_or_init(|| made).command())
    }

    /// The controller has taken the shadows: queues that are made from now on use them.
    pub(crate) fn use_shadows(&self) {
        self.is_shadowed.store(true, Ordering::Release);
    }

    /// Has submission queues made in the controller's own memory from now on.
    pub(super) async fn use_memory(
        self: &Arc<Self>,
        reactor: &Rc<Reactor>,
    ) -> Result<(), LinkError> {
        let memory = ControllerMemory::open(reactor, self).await?;
        let (address, bytes) = (self.address, memory.bytes());
        tracing::info!(%address, bytes, "submission queues are in the memory of the controller");
        let _ = self.memory.set(memory);
        Ok(())
    }

    /// Room for the submission queue of a number in the controller's own memory, if it is used.
    pub(super) fn sq_room(&self, qid: u16, bytes: usize) -> Option<SqRoom> {
        let room = self.memory.get()?.room(qid, bytes);
        if room.is_none() {
            let address = self.address;
            tracing::info!(%address, qid, bytes, "no room for a queue in the controller's memory");
        }
        room
    }

    pub(super) fn status(&self) -> Csts {
        Csts(self.function().registers().read32(at(offset::CSTS)))
    }

    /// Why it has to be let go of, if so. A request of the kernel's is told once.
    pub(super) fn leaving(&self) -> Option<&'static str> {
        if self.function().registers().is_lost() {
            Some("its registers are gone: it was pulled out")
        } else if self.function().is_wanted_back() {
            Some("the kernel wants the PCI function back")
        } else {
            None
        }
    }

    /// Why it cannot go on, if so.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        let status = self.status();
        if self.halting_began.load(Ordering::Acquire) {
            None
        } else if status.0 == GONE {
            Some("the controller is gone")
        } else if self.function().has_failed() {
            Some("the bus reports an error that was not corrected (AER)")
        } else if status.cfs() {
            Some("the controller reports a fatal error (CSTS.CFS)")
        } else if !status.rdy() {
            Some("the controller is not ready any more (CSTS.RDY)")
        } else {
            None
        }
    }

    /// The worst time of becoming ready or not ready.
    fn ready_limit(&self) -> Duration {
        Duration::from_millis(500) * u32::from(self.cap.to()).max(1)
    }

    /// Waits until the status is as wanted; whether it came to be so in time.
    async fn wait(
        &self,
        reactor: &Reactor,
        limit: Duration,
        wanted: impl Fn(Csts) -> bool,
    ) -> bool {
        let clock = reactor.clock();
        let deadline = clock.ticks().saturating_add(clock.ticks_in(limit));
        loop {
            // What is so late is looked at once more: the reactor may have been held up.
            let late = clock.ticks() >= deadline;
            if wanted(self.status()) {
                return true;
            }
            if late {
                return false;
            }
            sleep(LOOK).await;
        }
    }

    /// Disables it, however it was left, and lets it transfer. One that does not heed is reset.
    pub(super) async fn disable(self: &Arc<Self>, reactor: &Rc<Reactor>) -> Result<(), LinkError> {
        let off = |status: Csts| !status.rdy() || status.0 == GONE;
        self.configure(Cc(0));
        if !self.wait(reactor, self.ready_limit(), off).await {
            tracing::warn!(address = %self.address, "an NVMe controller stays ready; it is reset");
            let own = Arc::clone(self);
            let reset = reactor.offload().call(move || own.function().reset()).await;
            let heeded = matches!(reset, Ok(Ok(())));
            if !heeded || !self.wait(reactor, self.ready_limit(), off).await {
                let (address, after) = (self.address, self.ready_limit());
                let why = format!("{address}: it stays ready for {after:?}, and after a reset");
                return Err(LinkError::Device { why });
            }
        }
        self.function().set_bus_master(true).map_err(|why| not_heeded(self.address, &why))
    }

    fn configure(&self, cc: Cc) {
        self.function().registers().write32(at(offset::CC), cc.0);
    }

    /// Enables it with an admin queue (NVMe Base Specification 2.0, section 3.5.1).
    pub(super) async fn enable(
        &self,
        reactor: &Reactor,
        cc: Cc,
        (entries, sq, cq): (u16, u64, u64),
    ) -> Result<(), LinkError> {
        let registers = self.function().registers();
        let size = u32::from(entries.max(2) - 1);
        registers.write32(at(offset::AQA), size | size << 16);
        registers.write64(at(offset::ASQ), sq);
        registers.write64(at(offset::ACQ), cq);
        self.configure(cc.with_en(true));
        let after = self.ready_limit();
        let done = |status: Csts| status.rdy() || status.cfs();
        if !self.wait(reactor, after, done).await {
            return Err(LinkError::NotReady { after });
        }
        if self.status().cfs() { Err(LinkError::Fatal) } else { Ok(()) }
    }

    /// Tells it to get ready for the loss of power, and waits until it is (section 3.6.1).
    pub(crate) async fn shut_down(&self, reactor: &Rc<Reactor>, limit: Duration) {
        use crate::nvme::spec::register::{shn, shst};
        let cc = Cc(self.function().registers().read32(at(offset::CC)));
        if self.is_halted() || cc.0 == GONE {
            return;
        }
        self.configure(cc.with_shn(shn::NORMAL));
        let complete = |status: Csts| status.shst() == shst::COMPLETE || status.0 == GONE;
        if !self.wait(reactor, limit, complete).await {
            tracing::warn!(address = %self.address, ?limit, "an NVMe controller does not shut down");
        }
    }

    /// Whether it is known to touch no memory any more.
    pub(super) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::Acquire)
    }

    /// Stops it for good: when this returns it reads and writes no memory any more.
    pub(crate) async fn halt(self: &Arc<Self>) {
        if self.is_halted() {
            return;
        }
        self.halting_began.store(true, Ordering::Release);
        let own = Arc::clone(self);
        let done = self.home.spawn(move |reactor| async move { own.halt_at_home(&reactor).await });
        if done.await.is_err() {
            self.stop_at_once();
        }
    }

    async fn halt_at_home(self: Arc<Self>, reactor: &Rc<Reactor>) {
        let _turn = self.halting.lock().await;
        if self.is_halted() {
            return;
        }
        let cc = Cc(self.function().registers().read32(at(offset::CC)));
        let off = |status: Csts| !status.rdy() || status.0 == GONE;
        // The other fields stay: they may not change together with this one.
        self.configure(cc.with_en(false));
        let heeded = self.wait(reactor, self.ready_limit(), off).await;
        if heeded && self.status().0 != GONE {
            self.halted.store(true, Ordering::Release);
            return;
        }
        // Ones are what a device answers that is gone, and one whose registers are out of reach
        // only. The latter could go on writing to memory.
        if !heeded {
            tracing::warn!(address = %self.address, "an NVMe controller cannot be disabled");
        }
        if let Err(error) = self.take_bus_master() {
            let own = Arc::clone(&self);
            let reset = reactor.offload().call(move || own.function().reset()).await;
            let reset = matches!(reset, Ok(Ok(())));
            tracing::warn!(address = %self.address, %error, reset, "an NVMe controller cannot be stopped");
        }
        self.halted.store(true, Ordering::Release);
    }

    /// Takes the right to transfer from it. An error is that of a function that has no
    /// configuration space any more, and so is gone, or of one that has to be reset.
    fn take_bus_master(&self) -> std::io::Result<()> {
        let taken = self.function().set_bus_master(false);
        // What it sent before arrives before the answer to a read.
        let _ = self.status();
        taken
    }

    /// Takes the right to transfer from it, without waiting for anything that it may do.
    pub(super) fn stop_at_once(&self) {
        if self.is_halted() {
            return;
        }
        if let Err(error) = self.take_bus_master() {
            tracing::warn!(address = %self.address, %error, "an NVMe controller cannot be stopped");
        }
        // Only now: whoever sees this takes the memory back.
        self.halted.store(true, Ordering::Release);
    }

    /// Runs a command about queues on the admin queue, from any reactor.
    pub(super) async fn queue_command(
        self: &Arc<Self>,
        sqe: Sqe,
        what: &'static str,
    ) -> Result<(), LinkError> {
        let id = self.id;
        let asked = self.home.spawn(move |reactor| async move {
            let admin = PcieCore::of(&reactor).admin(id);
            let (awaited, pair) = admin.ok_or(LinkError::Closed { what })?;
            let limit = Some(QUEUE_LIMIT);
            let answer = awaited.execute_within(&pair, sqe, None, limit, what).await?;
            answer.ok().map(drop).map_err(|status| LinkError::Refused { what, status })
        });
        asked.await.unwrap_or(Err(LinkError::Closed { what }))
    }
}

impl Drop for PcieController {
    fn drop(&mut self) {
        self.stop_at_once();
        // The kernel may reset what is closed, which takes its time.
        if let Some(opened) = self.function.take() {
            self.offload.run(move || drop(opened));
        }
    }
}

/// A function whose right to transfer cannot be changed.
fn not_heeded(address: PciAddress, why: &std::io::Error) -> LinkError {
    LinkError::Device { why: format!("{address}: its command register cannot be set: {why}") }
}

/// Opens a function that may not transfer yet; waits while the kernel is at it.
async fn open_function(
    reactor: &Rc<Reactor>,
    address: PciAddress,
    allow_no_iommu: bool,
) -> Result<Box<dyn Function>, LinkError> {
    let clock = reactor.clock();
    let deadline = clock.ticks().saturating_add(clock.ticks_in(CLAIM_LIMIT));
    loop {
        let memory = reactor.memory().clone();
        let opening = reactor.offload().call(move || {
            let function = function::open(address, &memory, allow_no_iommu)?;
            function.set_bus_master(false).map_err(|why| not_heeded(address, &why))?;
            Ok::<_, OpenError>(function)
        });
        let gone = || LinkError::Device { why: format!("{address}: it could not be opened") };
        match opening.await.map_err(|_| gone())? {
            Ok(function) => return Ok(function),
            Err(OpenError::Passing(_)) if clock.ticks() < deadline => sleep(OPEN_AGAIN).await,
            Err(OpenError::Passing(error) | OpenError::Lasting(error)) => return Err(error),
        }
    }
}

/// Waits until nobody else has a controller.
async fn claim(reactor: &Reactor, address: PciAddress) -> Result<Claim, LinkError> {
    let clock = reactor.clock();
    let deadline = clock.ticks().saturating_add(clock.ticks_in(CLAIM_LIMIT));
    loop {
        if let Some(claim) = Claim::take(address) {
            return Ok(claim);
        }
        if clock.ticks() >= deadline {
            let why = format!("{address}: this engine has attached it already");
            return Err(LinkError::Device { why });
        }
        sleep(LOOK).await;
    }
}
