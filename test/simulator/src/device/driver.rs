//! The disk as a block device: delays, faults, and the recording.

use std::rc::Rc;
use std::sync::{Arc, MutexGuard, PoisonError};

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{Bdev, BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoType, IoTypes};
use spdk_rs::env::Clock;
use spdk_rs::reactor::{Reactor, Rest};
use uuid::Uuid;

use super::SECTOR_BYTES;
use super::disk::{Applied, Data, Disk};
use super::faults::{FaultKind, FaultPlan, Faults};
use super::image::Image;
use super::recording::{Event, Recording};
use super::to_usize;
use crate::rng::Rng;

/// NVMe Base Specification 2.0, figure 97: the media errors that faults end in.
const UNRECOVERED_READ: NvmeStatus = NvmeStatus::new(2, 0x81);
const WRITE_FAULT: NvmeStatus = NvmeStatus::new(2, 0x80);

/// How many times longer a latency spike takes.
const SPIKE: u64 = 100;

/// What a simulated device is made of.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// Bytes per block: 512 or 4096.
    pub block_len: u32,
    /// Whether there is a volatile write cache.
    pub write_cache: bool,
    /// Seed of delays and faults.
    pub seed: u64,
    /// The longest delay of an I/O in nanoseconds of virtual time; 0 ends every I/O at once.
    pub delay_max_ns: u64,
    /// The longest I/O in bytes.
    pub io_bytes_max: u64,
    /// Whether the events are recorded.
    pub record: bool,
    /// How it misbehaves, once [`Control::arm`] lets it.
    pub faults: FaultPlan,
}

impl Default for DeviceOptions {
    fn default() -> Self {
        Self {
            block_len: 512,
            write_cache: true,
            seed: 0,
            delay_max_ns: 2000,
            io_bytes_max: 1 << 20,
            record: true,
            faults: FaultPlan::default(),
        }
    }
}

struct Shared {
    disk: Disk,
    events: Vec<Event>,
    record: bool,
    events_seen: usize,
    base: Image,
    block_len: u64,
    write_cache: bool,
    rng: Rng,
    faults: Faults,
    removed: bool,
    next_id: u64,
    /// What a stale read returns: the contents some writes ago.
    stale: Image,
    writes: u64,
}

#[expect(clippy::disallowed_types, reason = "a device is shared by rule; here one thread uses it")]
type Lock = std::sync::Mutex<Shared>;

/// Looks into a simulated device, and changes what it does.
#[derive(Clone)]
pub struct Control(Arc<Lock>);

impl Control {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of events so far.
    #[must_use]
    pub fn events(&self) -> usize {
        self.lock().events_seen
    }

    /// Takes what was recorded so far.
    #[must_use]
    pub fn take_recording(&self) -> Recording {
        let mut shared = self.lock();
        let events = std::mem::take(&mut shared.events);
        Recording { base: shared.base.clone(), write_cache: shared.write_cache, events }
    }

    /// Lets faults happen from now on, or no more.
    pub fn arm(&self, on: bool) {
        self.lock().faults.arm(on);
    }

    /// How often a fault has happened.
    #[must_use]
    pub fn injected(&self, kind: FaultKind) -> u32 {
        self.lock().faults.injected(kind)
    }

    /// What a reader sees now.
    #[must_use]
    pub fn contents(&self) -> Image {
        let shared = self.lock();
        shared.disk.view().cloned().unwrap_or_else(|| shared.base.clone())
    }
}

/// Makes a device over the contents of a medium.
#[must_use]
pub fn create(image: Image, options: &DeviceOptions) -> (Arc<Bdev>, Control) {
    let block_len = u64::from(options.block_len);
    let info = BdevInfo {
        name: "simulated".to_owned(),
        aliases: Vec::new(),
        uuid: Uuid::from_u64_pair(0x5151_5151_5151_4151, options.seed),
        product_name: "Simulated disk".to_owned(),
        driver_name: "simulated",
        block_len: options.block_len,
        phys_block_len: options.block_len,
        num_blocks: image.size_bytes() / block_len,
        alignment: 512,
        write_cache: options.write_cache,
        read_only: false,
        limits: IoLimits {
            blocks_max: (options.io_bytes_max / block_len).max(1),
            ..IoLimits::default()
        },
    };
    let control = Control(Arc::new(Lock::new(Shared {
        disk: Disk::new(image.clone(), options.write_cache).readable(),
        events: Vec::new(),
        record: options.record,
        events_seen: 0,
        stale: image.clone(),
        base: image,
        block_len,
        write_cache: options.write_cache,
        rng: Rng::stream(options.seed, 0xde1a),
        faults: Faults::new(options.faults.clone(), options.seed),
        removed: false,
        next_id: 1,
        writes: 0,
    })));
    let ops = SimDevice { control: control.clone(), delay_max_ns: options.delay_max_ns };
    (Bdev::new(info, Box::new(ops)), control)
}

struct SimDevice {
    control: Control,
    delay_max_ns: u64,
}

impl BdevOps for SimDevice {
    fn io_types(&self) -> IoTypes {
        use IoType::{Flush, Read, Unmap, Write, WriteZeroes};
        IoTypes::of(&[Read, Write, Flush, Unmap, WriteZeroes])
    }

    fn create_channel(&self, reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(SimChannel {
            control: self.control.clone(),
            delay_max_ns: self.delay_max_ns,
            clock: reactor.clock().clone(),
            pending: Vec::new(),
            next_due: u64::MAX,
        }))
    }
}

/// How an I/O will end.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Good,
    Fails(NvmeStatus, Applied),
    Forgets(NvmeStatus, bool),
    Lost,
    Stale,
    Gone,
}

struct Pending {
    io: BdevIo,
    id: u64,
    fate: Fate,
    due: u64,
}

struct SimChannel {
    control: Control,
    delay_max_ns: u64,
    clock: Clock,
    pending: Vec<Pending>,
    next_due: u64,
}

impl Shared {
    fn event(&mut self, event: Event) {
        self.events_seen += 1;
        event.apply(&mut self.disk);
        if self.record {
            self.events.push(event);
        }
    }

    /// Takes an I/O: what it will come to, and what is recorded of it.
    fn begin(&mut self, io: &BdevIo) -> (u64, Fate) {
        let id = self.next_id;
        self.next_id += 1;
        self.removed |= self.faults.strikes(FaultKind::Removal);
        if self.removed {
            return (id, Fate::Gone);
        }
        let block_sectors = self.block_len / SECTOR_BYTES as u64;
        let (mut sector, sectors) =
            (io.offset_blocks() * block_sectors, io.num_blocks() * block_sectors);
        let data = match io.kind() {
            IoType::Read => return (id, self.read_fate()),
            IoType::Flush => {
                let fate = self.flush_fate();
                self.event(Event::FlushSubmitted { id });
                return (id, fate);
            }
            IoType::Write => {
                let mut bytes = vec![0; to_usize(sectors) * SECTOR_BYTES];
                io.copy_out(0, &mut bytes);
                Data::Bytes(Arc::from(bytes))
            }
            IoType::WriteZeroes => Data::Fill { value: 0, sectors },
            // What an unmapped block reads as is up to the device.
            _ => Data::Fill { value: if self.rng.one_in(2) { 0 } else { 0xdd }, sectors },
        };
        let fate = self.write_fate(sectors);
        if matches!(fate, Fate::Good) && self.faults.strikes(FaultKind::MisdirectedWrite) {
            let places = (self.base.size_bytes() / SECTOR_BYTES as u64).saturating_sub(sectors);
            sector = self.faults.rng().below(places + 1) / 8 * 8;
        }
        self.event(Event::WriteSubmitted { id, sector, data, fua: io.fua() });
        (id, fate)
    }

    fn read_fate(&mut self) -> Fate {
        if self.faults.strikes(FaultKind::ReadError) {
            return Fate::Fails(self.faults.status(UNRECOVERED_READ), Applied::Nothing);
        }
        if self.faults.strikes(FaultKind::StaleRead) { Fate::Stale } else { Fate::Good }
    }

    fn flush_fate(&mut self) -> Fate {
        if self.faults.strikes(FaultKind::FlushError) {
            let forgets = self.faults.rng().one_in(2);
            return Fate::Forgets(self.faults.status(WRITE_FAULT), forgets);
        }
        Fate::Good
    }

    fn write_fate(&mut self, sectors: u64) -> Fate {
        if self.faults.strikes(FaultKind::WriteError) {
            let applied = match self.faults.rng().below(3) {
                0 => Applied::Nothing,
                1 => Applied::Sectors(sectors),
                _ => Applied::Sectors(self.faults.rng().below(sectors + 1)),
            };
            return Fate::Fails(self.faults.status(WRITE_FAULT), applied);
        }
        if self.faults.strikes(FaultKind::LostWrite) { Fate::Lost } else { Fate::Good }
    }

    /// Ends an I/O: does it, and says how it went.
    fn end(&mut self, io: &mut BdevIo, id: u64, fate: Fate) -> NvmeStatus {
        let status = match fate {
            Fate::Gone => return NvmeStatus::INVALID_NAMESPACE,
            Fate::Fails(status, _) | Fate::Forgets(status, _) => status,
            Fate::Good | Fate::Lost | Fate::Stale => NvmeStatus::SUCCESS,
        };
        match io.kind() {
            IoType::Read if status.is_success() => self.read(io, fate),
            IoType::Read => {}
            IoType::Flush => {
                let drops = matches!(fate, Fate::Forgets(_, true));
                self.event(Event::FlushCompleted { id, succeeded: status.is_success(), drops });
                self.maybe_rot();
            }
            _ => {
                let applied = match fate {
                    Fate::Fails(_, applied) => applied,
                    Fate::Lost => Applied::Nothing,
                    _ => Applied::All,
                };
                self.event(Event::WriteCompleted { id, applied });
                self.writes += 1;
                if self.writes.is_multiple_of(16)
                    && let Some(view) = self.disk.view()
                {
                    self.stale = view.clone();
                }
                if !self.write_cache {
                    self.maybe_rot();
                }
            }
        }
        status
    }

    fn read(&mut self, io: &mut BdevIo, fate: Fate) {
        let offset = io.offset_blocks() * self.block_len;
        let mut bytes = vec![0; to_usize(io.num_blocks() * self.block_len)];
        if matches!(fate, Fate::Stale) {
            self.stale.read(offset, &mut bytes);
        } else {
            self.disk.read(offset, &mut bytes, &mut self.rng);
        }
        io.copy_in(0, &bytes);
    }

    fn maybe_rot(&mut self) {
        if !self.faults.strikes(FaultKind::BitRot) {
            return;
        }
        let mask = 1 << self.faults.rng().below(8);
        let place = self.disk.view().cloned();
        if let Some(at) = place.and_then(|view| view.random_written_byte(self.faults.rng())) {
            self.event(Event::Rot { offset_bytes: at, mask });
        }
    }
}

impl BdevChannel for SimChannel {
    fn submit(&mut self, mut io: BdevIo) {
        let mut shared = self.control.lock();
        let (id, fate) = shared.begin(&io);
        if self.delay_max_ns == 0 {
            let status = shared.end(&mut io, id, fate);
            drop(shared);
            io.complete(status);
            return;
        }
        let spike = if shared.faults.strikes(FaultKind::LatencySpike) { SPIKE } else { 1 };
        let delay = (1 + shared.rng.below(self.delay_max_ns)) * spike;
        drop(shared);
        let due = self.clock.ticks() + delay;
        self.next_due = self.next_due.min(due);
        self.pending.push(Pending { io, id, fate, due });
    }

    fn poll(&mut self) -> usize {
        let now = self.clock.ticks();
        if now < self.next_due {
            return 0;
        }
        let (mut done, mut at) = (0, 0);
        while at < self.pending.len() {
            if self.pending[at].due > now {
                at += 1;
                continue;
            }
            let Pending { mut io, id, fate, .. } = self.pending.swap_remove(at);
            let status = self.control.lock().end(&mut io, id, fate);
            io.complete(status);
            done += 1;
        }
        self.next_due = self.pending.iter().map(|io| io.due).min().unwrap_or(u64::MAX);
        done
    }

    fn is_polled(&self) -> bool {
        true
    }

    fn rest(&self) -> Rest {
        if self.pending.is_empty() { Rest::Sleep } else { Rest::Poll }
    }
}

#[cfg(test)]
mod tests;
