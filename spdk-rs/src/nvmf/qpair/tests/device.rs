//! A device that records what it is asked, and keeps or fails it when told to.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::SeqCst};

use crossbeam::queue::SegQueue;

use crate::NvmeStatus;
use crate::bdev::{Bdev, BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoType, IoTypes};
use crate::env::{Memory, SharedRegion};
use crate::reactor::{Reactor, Rest};

pub(in crate::nvmf) const BLOCK: usize = 512;

/// What came in: kind, FUA, first block, number of blocks.
pub(in crate::nvmf) type Seen = (IoType, bool, u64, u64);

/// Tells the device what to do, and what it saw.
#[derive(Default)]
pub(in crate::nvmf) struct Control {
    seen: SegQueue<Seen>,
    pub(in crate::nvmf) hold: AtomicBool,
    fail_kind: AtomicU64,
    fail_at: AtomicU64,
    fail: AtomicU16,
}

impl Control {
    /// What came in since the last call.
    pub(in crate::nvmf) fn seen(&self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.pop()).collect()
    }

    /// Fails I/O of a kind that touches a block.
    pub(in crate::nvmf) fn fail(&self, kind: IoType, block: u64, status: NvmeStatus) {
        self.fail_kind.store(kind as u64 + 1, SeqCst);
        self.fail_at.store(block, SeqCst);
        self.fail.store(status.bits(), SeqCst);
    }
}

struct Double {
    region: SharedRegion,
    control: Arc<Control>,
    types: IoTypes,
}

struct Lane {
    region: SharedRegion,
    control: Arc<Control>,
    pending: Vec<BdevIo>,
}

pub(in crate::nvmf) const ALL: &[IoType] =
    &[IoType::Read, IoType::Write, IoType::Flush, IoType::Unmap, IoType::WriteZeroes, IoType::Copy];

/// A device of `blocks` blocks of 512 bytes with a write cache, when it knows flushes.
pub(in crate::nvmf) fn create(
    memory: &Memory,
    blocks: u64,
    types: &[IoType],
) -> (Arc<Bdev>, Arc<Control>) {
    let control = Arc::new(Control::default());
    let bytes = usize::try_from(blocks).unwrap() * BLOCK;
    let ops = Double {
        region: memory.map_region(bytes).unwrap(),
        control: Arc::clone(&control),
        types: IoTypes::of(types),
    };
    let info = BdevInfo {
        name: "double".into(),
        aliases: Vec::new(),
        uuid: uuid::Uuid::from_u128(0xd0),
        product_name: "Double".into(),
        driver_name: "double",
        block_len: 512,
        phys_block_len: 512,
        num_blocks: blocks,
        alignment: 512,
        write_cache: types.contains(&IoType::Flush),
        read_only: false,
        limits: IoLimits::default(),
    };
    (Bdev::new(info, Box::new(ops)), control)
}

impl BdevOps for Double {
    fn io_types(&self) -> IoTypes {
        self.types
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        let (region, control) = (self.region.clone(), Arc::clone(&self.control));
        Ok(Box::new(Lane { region, control, pending: Vec::new() }))
    }
}

impl Lane {
    fn perform(&self, io: &mut BdevIo) -> NvmeStatus {
        let (control, range) =
            (&self.control, io.offset_blocks()..io.offset_blocks() + io.num_blocks());
        let kind = control.fail_kind.load(SeqCst) == io.kind() as u64 + 1;
        if kind && range.contains(&control.fail_at.load(SeqCst)) {
            return NvmeStatus::from_bits(control.fail.load(SeqCst));
        }
        let bytes = |blocks| usize::try_from(blocks).unwrap() * BLOCK;
        let (at, len) = (bytes(io.offset_blocks()), bytes(io.num_blocks()));
        match io.kind() {
            IoType::Read => io.copy_from_region(&self.region, at),
            IoType::Write => io.copy_to_region(&self.region, at),
            IoType::Unmap => self.region.fill(at, len, 0xdd),
            IoType::WriteZeroes => self.region.fill(at, len, 0),
            IoType::Copy => self.region.copy_within(bytes(io.source_blocks()), at, len),
            _ => {}
        }
        NvmeStatus::SUCCESS
    }
}

impl BdevChannel for Lane {
    fn submit(&mut self, io: BdevIo) {
        self.control.seen.push((io.kind(), io.fua(), io.offset_blocks(), io.num_blocks()));
        self.pending.push(io);
    }

    fn poll(&mut self) -> usize {
        if self.control.hold.load(SeqCst) {
            return 0;
        }
        let ready = std::mem::take(&mut self.pending);
        let count = ready.len();
        for mut io in ready {
            let status = self.perform(&mut io);
            io.complete(status);
        }
        count
    }

    fn is_polled(&self) -> bool {
        true
    }

    fn rest(&self) -> Rest {
        Rest::Poll
    }
}
