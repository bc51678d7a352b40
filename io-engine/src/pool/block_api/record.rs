//! The record of what is allocated, on the volume itself.
//!
//! A store on a volume of a pool writes down what is allocated and what is free again, before it
//! says so, with force unit access. A store that is created anew on the volume knows it from there.
//!
//! Invariants:
//!
//! * a block that a caller was given is in the record, until the caller has freed it;
//! * changes come one after the other;
//! * when it is not known what the record says, because a write of it failed, nothing is allocated
//!   or freed any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{IoBuf, IoRequest, IoType};
use spdk_rs::env::{DmaBuf, Memory};
use spdk_rs::reactor::ReactorHandle;

use super::layout::{Header, Layout, UNIT, UNIT_BYTES, mark};
use super::options::refused;
use super::{BlockApiError, CreateOptions};
use crate::core::{BlockDevice, BlockDeviceDescriptor, CoreError};
use crate::pool::allocator::{Allocator, Block, Space};

/// Blocks of the map that are read at once, and written as one change: 1 MiB, for 4 GiB of space.
const PIECE_BLOCKS: u64 = 256;

/// A volume, and how it is reached.
pub(super) struct Medium {
    pub(super) name: String,
    pub(super) block_len: u64,
    pub(super) alignment: usize,
    pub(super) descriptor: Arc<dyn BlockDeviceDescriptor>,
    pub(super) reactor: ReactorHandle,
    pub(super) memory: Memory,
}

/// The record of a store. Whoever changes it holds the lock.
pub(super) struct Record {
    layout: Layout,
    pub(super) lock: tokio::sync::Mutex<()>,
    /// Whether it is not known what the record says.
    broken: AtomicBool,
}

impl Medium {
    /// Does an I/O of whole blocks of 4 KiB, which is durable when it ends.
    pub(super) async fn io(
        &self,
        kind: IoType,
        offset: u64,
        len: u64,
        buf: Option<DmaBuf>,
    ) -> Result<Option<DmaBuf>, BlockApiError> {
        let (descriptor, block_len) = (Arc::clone(&self.descriptor), self.block_len);
        let work = async move || -> Result<_, CoreError> {
            let io = descriptor.get_io_handle()?;
            let buf = buf.map_or(IoBuf::None, IoBuf::One);
            let request = IoRequest::new(kind, offset / block_len, len / block_len, buf);
            let durable = matches!(kind, IoType::Write | IoType::WriteZeroes);
            let done = io.submit_async(request.fua(durable)).await;
            Ok((done.status, done.buf.into_one()))
        };
        let answered = self.reactor.spawn(move |_| work()).await.map_err(CoreError::from)?;
        let (status, buf) = answered?;
        let device = self.name.clone();
        let failed = |status| BlockApiError::Record { device, kind, offset, len, status };
        status.ok().map(|()| buf).map_err(failed)
    }

    fn buffer(&self, blocks: u64) -> Result<DmaBuf, BlockApiError> {
        let len = usize::try_from(blocks * UNIT).unwrap_or(usize::MAX);
        Ok(self.memory.alloc_aligned(len, self.alignment)?)
    }

    async fn read(&self, block: u64, blocks: u64) -> Result<DmaBuf, BlockApiError> {
        let buf = self.buffer(blocks)?;
        let read = self.io(IoType::Read, block * UNIT, blocks * UNIT, Some(buf)).await?;
        read.map_or_else(|| self.buffer(blocks), Ok)
    }

    async fn write(&self, block: u64, bytes: &[u8]) -> Result<(), BlockApiError> {
        let mut buf = self.buffer((bytes.len() / UNIT_BYTES) as u64)?;
        buf.as_mut_slice().copy_from_slice(bytes);
        let len = bytes.len() as u64;
        self.io(IoType::Write, block * UNIT, len, Some(buf)).await.map(drop)
    }
}

impl Record {
    /// Opens the record of a volume, or makes one on a volume that nobody has used.
    ///
    /// # Errors
    /// When the volume holds anything else, or was used with other options.
    pub(super) async fn open(
        medium: &Medium,
        device: &dyn BlockDevice,
        options: &CreateOptions,
    ) -> Result<(Self, Space, Allocator), BlockApiError> {
        let wanted = options.space(device)?;
        let first = medium.read(0, 1).await?;
        let layout = match Header::parse(first.as_slice()) {
            Header::Store(layout) => check(&layout, device, options)?,
            Header::Blank => Self::make(medium, wanted).await?,
            Header::Other(found) => {
                let allowed = "a volume for blocks is one that was never written, or that has \
                               blocks already";
                return Err(refused("a volume with", found, allowed));
            }
        };
        let space = Space {
            base_offset: layout.start,
            size_bytes: layout.size,
            alignment: layout.alignment,
        };
        let mut allocator = Allocator::new(space)?;
        let mut at = 0;
        while at < layout.map_blocks() {
            let count = PIECE_BLOCKS.min(layout.map_blocks() - at);
            let bytes = medium.read(1 + at, count).await?;
            let damaged = |offset: u64| BlockApiError::Damaged {
                device: medium.name.clone(),
                problem: format!("byte {offset} of the record makes no sense"),
            };
            for block in layout.blocks(at, bytes.as_slice()).map_err(damaged)? {
                allocator.reserve(&block).map_err(|error| BlockApiError::Damaged {
                    device: medium.name.clone(),
                    problem: error.to_string(),
                })?;
            }
            at += count;
        }
        let lock = tokio::sync::Mutex::new(());
        Ok((Self { layout, lock, broken: AtomicBool::new(false) }, space, allocator))
    }

    /// Makes an empty record. The header comes last, so that a record without one is made anew.
    async fn make(medium: &Medium, wanted: Space) -> Result<Layout, BlockApiError> {
        let layout = Layout::new(wanted.size_bytes, wanted.alignment).ok_or_else(|| {
            let least = "there has to be more than 1 MiB, for the record of what is allocated";
            refused("a volume of so many bytes:", wanted.size_bytes, least)
        })?;
        medium.io(IoType::WriteZeroes, UNIT, layout.map_blocks() * UNIT, None).await?;
        let mut header = [0; UNIT_BYTES];
        layout.encode(&mut header);
        medium.write(0, &header).await?;
        Ok(layout)
    }

    /// Writes down that blocks are allocated, or that they are free. Nobody else may do so at the
    /// same time. When it fails, the record is as it was.
    ///
    /// # Errors
    /// [`BlockApiError`]; [`BlockApiError::Damaged`] from the time on when it is not known what the
    /// record says.
    pub(super) async fn note(
        &self,
        medium: &Medium,
        blocks: &[Block],
        allocated: bool,
    ) -> Result<(), BlockApiError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(self.unknown(medium));
        }
        let mut places: BTreeMap<u64, Vec<(u64, usize, u8)>> = BTreeMap::new();
        for block in blocks {
            let (number, byte) = self.layout.place(block);
            let mark = if allocated { mark(block.block_type) } else { 0 };
            places.entry(number / PIECE_BLOCKS).or_default().push((number, byte, mark));
        }
        let mut done: Vec<(u64, Vec<u8>)> = Vec::new();
        for marks in places.values() {
            let first = marks.iter().map(|mark| mark.0).min().unwrap_or(0);
            let last = marks.iter().map(|mark| mark.0).max().unwrap_or(0);
            let changed = self.note_piece(medium, (first, last), marks).await;
            match changed {
                Ok(old) => done.push((first, old)),
                Err((error, old)) => {
                    done.extend(old.map(|old| (first, old)));
                    return Err(self.undo(medium, done, error).await);
                }
            }
        }
        Ok(())
    }

    /// Changes neighbouring blocks of the map; they are given back as they were. An error brings
    /// them when they may have been written.
    async fn note_piece(
        &self,
        medium: &Medium,
        (first, last): (u64, u64),
        marks: &[(u64, usize, u8)],
    ) -> Result<Vec<u8>, (BlockApiError, Option<Vec<u8>>)> {
        let count = last - first + 1;
        let read = medium.read(1 + first, count).await.map_err(|error| (error, None))?;
        let old = read.as_slice().to_vec();
        let mut new = old.clone();
        for (number, byte, mark) in marks {
            let block = usize::try_from(number - first).unwrap_or(0);
            new[block * UNIT_BYTES + byte] = *mark;
        }
        match medium.write(1 + first, &new).await {
            Ok(()) => Ok(old),
            Err(error) => {
                // A full pool has written nothing.
                let full = matches!(&error, BlockApiError::Record { status, .. }
                    if *status == NvmeStatus::CAPACITY_EXCEEDED);
                Err((error, (!full).then_some(old)))
            }
        }
    }

    /// Writes back what was there; returns the error that it is for.
    async fn undo(
        &self,
        medium: &Medium,
        done: Vec<(u64, Vec<u8>)>,
        error: BlockApiError,
    ) -> BlockApiError {
        for (first, old) in done {
            if let Err(second) = medium.write(1 + first, &old).await {
                tracing::error!(device = medium.name, %second, "the record of blocks is unknown");
                self.broken.store(true, Ordering::Relaxed);
            }
        }
        error
    }

    fn unknown(&self, medium: &Medium) -> BlockApiError {
        let problem = "a write of the record failed, so nothing is allocated or freed until the \
                       blocks are closed and created again";
        BlockApiError::Damaged { device: medium.name.clone(), problem: problem.to_owned() }
    }
}

/// Checks that a store that is there is the one that is asked for.
fn check(
    layout: &Layout,
    device: &dyn BlockDevice,
    options: &CreateOptions,
) -> Result<Layout, BlockApiError> {
    let (end, size) = (layout.start + layout.size, device.size_in_bytes());
    if end > size {
        let allowed = format!("its blocks reach up to {end}: the volume shrank");
        return Err(refused("a volume of so many bytes:", size, allowed));
    }
    if options.total_size != 0 && options.total_size != end {
        let allowed = format!("the volume has blocks up to {end}; give that, or 0");
        return Err(refused("total_size", options.total_size, allowed));
    }
    if options.alignment != 0 && options.alignment != layout.alignment {
        let allowed = format!("the volume has blocks with {}; give that, or 0", layout.alignment);
        return Err(refused("alignment", options.alignment, allowed));
    }
    Ok(*layout)
}
