//! A driver that holds, reorders, fails and loses I/O as it is told to.
//!
//! It does reads, writes and flushes only and never at once: every completion waits for a poll.
//! So a test over it covers what a device that answers at once hides.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering::SeqCst};

use anyhow::Result;
use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{Bdev, BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoType, IoTypes};
use spdk_rs::env::{Memory, SharedRegion};
use spdk_rs::reactor::{Reactor, Rest};

use crate::rng::Rng;

/// What a faulty device is made of.
#[derive(Clone, Debug)]
pub struct FaultyOptions {
    /// Unique name.
    pub name: String,
    /// Bytes per block.
    pub block_len: u32,
    /// Size in blocks.
    pub num_blocks: u64,
    /// What one I/O of the driver may be.
    pub limits: IoLimits,
}

impl FaultyOptions {
    /// A device of 1000 blocks of 512 bytes without limits.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let limits = IoLimits::default();
        Self { name: name.to_owned(), block_len: 512, num_blocks: 1000, limits }
    }
}

/// How the device behaves from the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    /// Keep everything until [`Control::hold`] is cleared.
    pub hold: bool,
    /// Complete a random part of what is there per poll, in random order, by this seed. Otherwise
    /// all of it, in order.
    pub shuffle: Option<u64>,
}

/// Changes how a device behaves, and tells what it saw. From any thread.
#[derive(Debug)]
pub struct Control {
    hold: AtomicBool,
    lose: AtomicBool,
    abort_at_reset: AtomicBool,
    fail_block: AtomicU64,
    fail_status: AtomicU16,
    ignored_polls: AtomicUsize,
    submitted: AtomicUsize,
    completed: AtomicUsize,
    channels: AtomicUsize,
}

impl Control {
    /// Keeps all I/O, or lets it go at the next poll.
    pub fn hold(&self, on: bool) {
        self.hold.store(on, SeqCst);
    }

    /// Does nothing in so many polls with I/O outstanding: a device that takes its time.
    pub fn ignore_polls(&self, count: usize) {
        self.ignored_polls.store(count, SeqCst);
    }

    /// Drops the tokens of I/O that comes from now on, as a driver with a bug does.
    pub fn lose(&self, on: bool) {
        self.lose.store(on, SeqCst);
    }

    /// Completes held I/O as aborted at a reset.
    pub fn abort_at_reset(&self, on: bool) {
        self.abort_at_reset.store(on, SeqCst);
    }

    /// Fails every I/O that touches a block; none for no block.
    pub fn fail(&self, block: Option<u64>, status: NvmeStatus) {
        self.fail_status.store(status.bits(), SeqCst);
        self.fail_block.store(block.unwrap_or(u64::MAX), SeqCst);
    }

    /// I/Os that came in.
    #[must_use]
    pub fn submitted(&self) -> usize {
        self.submitted.load(SeqCst)
    }

    /// I/Os that were completed or lost.
    #[must_use]
    pub fn completed(&self) -> usize {
        self.completed.load(SeqCst)
    }

    /// Channels that are open.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.load(SeqCst)
    }
}

/// Makes a faulty device and what controls it.
///
/// # Errors
/// When there is no memory.
pub fn create(
    memory: &Memory,
    options: FaultyOptions,
    behaviour: Behaviour,
) -> Result<(Arc<Bdev>, Arc<Control>)> {
    let block_len = options.block_len as usize;
    let region = memory.map_region(usize::try_from(options.num_blocks)? * block_len)?;
    let control = Arc::new(Control {
        hold: AtomicBool::new(behaviour.hold),
        lose: AtomicBool::new(false),
        abort_at_reset: AtomicBool::new(false),
        fail_block: AtomicU64::new(u64::MAX),
        fail_status: AtomicU16::new(0),
        ignored_polls: AtomicUsize::new(0),
        submitted: AtomicUsize::new(0),
        completed: AtomicUsize::new(0),
        channels: AtomicUsize::new(0),
    });
    let info = BdevInfo {
        name: options.name,
        aliases: Vec::new(),
        uuid: uuid::Uuid::new_v4(),
        product_name: "Faulty disk".to_owned(),
        driver_name: "faulty",
        block_len: options.block_len,
        phys_block_len: options.block_len,
        num_blocks: options.num_blocks,
        alignment: 512,
        write_cache: true,
        read_only: false,
        limits: options.limits,
    };
    let own = Arc::clone(&control);
    let ops = Faulty { region, block_len, control: own, shuffle: behaviour.shuffle };
    Ok((Bdev::new(info, Box::new(ops)), control))
}

struct Faulty {
    region: SharedRegion,
    block_len: usize,
    control: Arc<Control>,
    shuffle: Option<u64>,
}

struct FaultyChannel {
    region: SharedRegion,
    block_len: usize,
    control: Arc<Control>,
    random: Option<Rng>,
    pending: Vec<BdevIo>,
}

impl BdevOps for Faulty {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[IoType::Read, IoType::Write, IoType::Flush])
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        self.control.channels.fetch_add(1, SeqCst);
        Ok(Box::new(FaultyChannel {
            region: self.region.clone(),
            block_len: self.block_len,
            control: Arc::clone(&self.control),
            random: self.shuffle.map(Rng::new),
            pending: Vec::new(),
        }))
    }
}

impl FaultyChannel {
    fn perform(&self, io: &mut BdevIo) -> NvmeStatus {
        let failing = self.control.fail_block.load(SeqCst);
        if (io.offset_blocks()..io.offset_blocks() + io.num_blocks()).contains(&failing) {
            return NvmeStatus::from_bits(self.control.fail_status.load(SeqCst));
        }
        // Inside the region, since the layer has checked the range.
        let at = usize::try_from(io.offset_blocks()).unwrap_or(usize::MAX) * self.block_len;
        match io.kind() {
            IoType::Read => io.copy_from_region(&self.region, at),
            IoType::Write => io.copy_to_region(&self.region, at),
            _ => {}
        }
        NvmeStatus::SUCCESS
    }

    fn complete(&self, mut io: BdevIo) {
        self.control.completed.fetch_add(1, SeqCst);
        let status = self.perform(&mut io);
        io.complete(status);
    }
}

impl BdevChannel for FaultyChannel {
    fn submit(&mut self, io: BdevIo) {
        self.control.submitted.fetch_add(1, SeqCst);
        if self.control.lose.load(SeqCst) {
            self.control.completed.fetch_add(1, SeqCst);
            drop(io);
        } else {
            self.pending.push(io);
        }
    }

    fn poll(&mut self) -> usize {
        if self.control.hold.load(SeqCst) || self.pending.is_empty() {
            return 0;
        }
        let ignored = |left: usize| left.checked_sub(1);
        if self.control.ignored_polls.fetch_update(SeqCst, SeqCst, ignored).is_ok() {
            return 0;
        }
        let mut done = 0;
        match self.random.clone() {
            None => {
                for io in std::mem::take(&mut self.pending) {
                    self.complete(io);
                    done += 1;
                }
            }
            Some(mut random) => {
                for _ in 0..random.below(self.pending.len() as u64 + 1) {
                    let io = self.pending.swap_remove(random.index(self.pending.len()));
                    self.complete(io);
                    done += 1;
                }
                random.next_u64();
                self.random = Some(random);
            }
        }
        done
    }

    fn is_polled(&self) -> bool {
        true
    }

    fn rest(&self) -> Rest {
        if self.pending.is_empty() { Rest::Sleep } else { Rest::Poll }
    }

    fn reset(&mut self) -> NvmeStatus {
        if self.control.abort_at_reset.load(SeqCst) {
            for io in self.pending.drain(..) {
                self.control.completed.fetch_add(1, SeqCst);
                io.complete(NvmeStatus::ABORTED_SQ_DELETION);
            }
        }
        NvmeStatus::SUCCESS
    }
}

impl Drop for FaultyChannel {
    fn drop(&mut self) {
        self.control.channels.fetch_sub(1, SeqCst);
    }
}
