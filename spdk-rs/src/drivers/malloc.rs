//! A device in memory.
//!
//! Submissions are collected and copied in one go when the channel is polled, with the first
//! lines of the blocks that come next on their way from memory meanwhile: random reads of a large
//! device then run faster than one `memcpy` after the other.

use std::rc::Rc;
use std::sync::Arc;

use thiserror::Error;
use uuid::Uuid;

use crate::NvmeStatus;
use crate::bdev::{
    Bdev, BdevChannel, BdevInfo, BdevIo, BdevOps, IoLimits, IoList, IoType, IoTypes, LendPool,
};
use crate::env::{Memory, MemoryError, SharedRegion};
use crate::reactor::{Reactor, Rest};

/// Bytes of a block that are fetched ahead of its copy. The hardware's own prefetcher takes over
/// once a copy has begun to stream; more would crowd out the lines of the copy that is running.
const PREFETCH_BYTES: usize = 512;

/// How many copies ahead blocks are fetched: far enough for a page walk and a trip to memory,
/// near enough for the lines to be there still.
const PREFETCH_AHEAD: usize = 3;

/// What a malloc device is made of.
#[derive(Clone, Debug)]
pub struct MallocOptions {
    /// Unique name.
    pub name: String,
    /// Unique identifier; random when none.
    pub uuid: Option<Uuid>,
    /// Bytes per block.
    pub block_len: u32,
    /// Bytes per physical block.
    pub phys_block_len: u32,
    /// Size in blocks.
    pub num_blocks: u64,
}

/// Why a malloc device cannot be made.
#[derive(Debug, Error)]
pub enum MallocError {
    /// The size in bytes is beyond what memory can be.
    #[error("{num_blocks} blocks of {block_len} bytes are more than this machine can address")]
    TooLarge {
        /// Blocks asked for.
        num_blocks: u64,
        /// Bytes per block.
        block_len: u32,
    },
    /// There is not so much memory.
    #[error("no memory for a malloc device of {bytes} bytes")]
    NoMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Why.
        #[source]
        source: MemoryError,
    },
}

/// Makes a malloc device of zeroes. Takes as long as the kernel needs to give the memory: not
/// for a reactor.
///
/// # Errors
/// [`MallocError`].
pub fn create(memory: &Memory, options: MallocOptions) -> Result<Arc<Bdev>, MallocError> {
    let (num_blocks, block_len) = (options.num_blocks, options.block_len);
    let bytes = num_blocks
        .checked_mul(u64::from(block_len))
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|&bytes| bytes <= isize::MAX.unsigned_abs())
        .ok_or(MallocError::TooLarge { num_blocks, block_len })?;
    let region =
        memory.map_region(bytes).map_err(|source| MallocError::NoMemory { bytes, source })?;
    let info = BdevInfo {
        name: options.name,
        aliases: Vec::new(),
        uuid: options.uuid.unwrap_or_else(Uuid::new_v4),
        product_name: "Malloc disk".to_owned(),
        driver_name: "malloc",
        block_len,
        phys_block_len: options.phys_block_len,
        num_blocks,
        alignment: 1,
        write_cache: false,
        read_only: false,
        limits: IoLimits::default(),
    };
    Ok(Bdev::new(info, Box::new(Malloc { region, block_len: block_len as usize })))
}

struct Malloc {
    region: SharedRegion,
    block_len: usize,
}

impl BdevOps for Malloc {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[
            IoType::Read,
            IoType::Write,
            IoType::Flush,
            IoType::Unmap,
            IoType::WriteZeroes,
            IoType::Compare,
            IoType::Copy,
        ])
    }

    fn create_channel(&self, _reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(MallocChannel {
            region: self.region.clone(),
            block_len: self.block_len,
            pool: LendPool::new(self.region.clone()),
            pending: IoList::new(),
        }))
    }

    fn lends(&self) -> bool {
        true
    }

    fn driver_info(&self) -> serde_json::Value {
        serde_json::json!({ "page_kind": self.region.page_kind().to_string() })
    }
}

struct MallocChannel {
    region: SharedRegion,
    block_len: usize,
    pool: Rc<LendPool>,
    pending: IoList,
}

impl MallocChannel {
    /// The byte offset of a block. The range was checked against the device's size, and that
    /// fits the region.
    #[inline(always)]
    fn bytes(&self, blocks: u64) -> usize {
        usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(self.block_len)
    }

    #[inline(always)]
    fn perform(&self, io: &mut BdevIo) -> NvmeStatus {
        let offset = self.bytes(io.offset_blocks());
        match io.kind() {
            IoType::Read if io.wants_lent() => {
                let lent = self.pool.lend(offset, self.bytes(io.num_blocks()));
                io.lend(lent);
            }
            IoType::Read => io.copy_from_region(&self.region, offset),
            IoType::Write => io.copy_to_region(&self.region, offset),
            IoType::Compare if !io.equals_region(&self.region, offset) => {
                return NvmeStatus::COMPARE_FAILURE;
            }
            IoType::Compare | IoType::Flush => {}
            IoType::Unmap | IoType::WriteZeroes => {
                self.region.fill(offset, self.bytes(io.num_blocks()), 0);
            }
            IoType::Copy => {
                let from = self.bytes(io.source_blocks());
                self.region.copy_within(from, offset, self.bytes(io.num_blocks()));
            }
            _ => return NvmeStatus::INVALID_OPCODE,
        }
        NvmeStatus::SUCCESS
    }
}

impl BdevChannel for MallocChannel {
    #[inline]
    fn submit(&mut self, io: BdevIo) {
        self.pending.push(io);
    }

    fn submit_batch(&mut self, batch: &mut IoList) {
        self.pending.append(batch);
    }

    fn poll(&mut self) -> usize {
        let mut pending = std::mem::take(&mut self.pending);
        let mut near: [Option<BdevIo>; PREFETCH_AHEAD] = std::array::from_fn(|_| None);
        let (mut done, mut place) = (0, 0);
        loop {
            let next = pending.pop();
            let ended = next.is_none();
            if let Some(io) = &next {
                self.region.prefetch(self.bytes(io.offset_blocks()), PREFETCH_BYTES);
            }
            let ready = std::mem::replace(&mut near[place], next);
            place = (place + 1) % PREFETCH_AHEAD;
            if let Some(mut io) = ready {
                let status = self.perform(&mut io);
                io.complete(status);
                done += 1;
            } else if ended && near.iter().all(Option::is_none) {
                return done;
            }
        }
    }

    fn is_polled(&self) -> bool {
        true
    }

    fn rest(&self) -> Rest {
        if self.pending.is_empty() { Rest::Sleep } else { Rest::Poll }
    }
}
