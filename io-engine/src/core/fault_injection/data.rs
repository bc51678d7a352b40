//! Faults of data: what is written, read, and where.

use std::sync::Arc;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{BdevIo, Below, IoRequest, IoType};
use spdk_rs::env::{DmaBuf, IoVec};

use super::injection::{Injection, SECTOR_BYTES};
use super::kind::{CorruptByte, Kind};
use super::random::{Purpose, draw, fill};

/// Bytes of an I/O's data.
fn data_len(io: &BdevIo) -> usize {
    io.iovs().iter().map(IoVec::len).sum()
}

/// Changes data as the fault says.
fn change(injection: &Injection, hit: u64, data: &mut [u8]) {
    match injection.spec.kind {
        Kind::Corrupt(None) => fill(injection.seed, hit, data),
        Kind::Corrupt(Some(CorruptByte { offset_bytes, value })) => {
            let place = usize::try_from(offset_bytes).ok();
            if let Some(byte) = place.and_then(|place| data.get_mut(place)) {
                *byte ^= value;
            }
        }
        Kind::BitFlip if !data.is_empty() => {
            let bit = draw(injection.seed, hit, Purpose::Place) % (data.len() as u64 * 8);
            let byte = usize::try_from(bit / 8).unwrap_or(0);
            data[byte] ^= 1 << (bit % 8);
        }
        _ => {}
    }
}

/// Changes the data of a read that has ended.
pub(super) fn change_read(injection: &Injection, hit: u64, io: &mut BdevIo) {
    let mut data = vec![0; data_len(io)];
    io.copy_out(0, &mut data);
    change(injection, hit, &mut data);
    io.copy_in(0, &data);
}

/// Does a write with the fault, and ends it. The consumer's buffers stay as they are.
pub(super) fn write(injection: &Arc<Injection>, hit: u64, io: BdevIo) {
    let mut io = io;
    let (below, injection) = (io.below(), Arc::clone(injection));
    let reactor = std::rc::Rc::clone(below.reactor());
    reactor.spawn("write with a fault", async move {
        let written = match injection.spec.kind {
            Kind::Torn => torn(&injection, hit, &io, &below).await,
            Kind::Misdirected(distance) => {
                misdirected(&injection, hit, distance, &io, &below).await
            }
            _ => changed(&injection, hit, &io, &below).await,
        };
        io.complete(written.err().unwrap_or(NvmeStatus::SUCCESS));
    });
}

fn buffer(below: &Below, len: usize) -> Result<DmaBuf, NvmeStatus> {
    below.dma_malloc(len).map_err(|_| NvmeStatus::NOT_READY)
}

async fn put(
    below: &Below,
    offset_blocks: u64,
    num_blocks: u64,
    fua: bool,
    buf: DmaBuf,
) -> Result<(), NvmeStatus> {
    let write = IoRequest::new(IoType::Write, offset_blocks, num_blocks, buf.into()).fua(fua);
    below.submit(write).await.status.ok()
}

async fn changed(
    injection: &Injection,
    hit: u64,
    io: &BdevIo,
    below: &Below,
) -> Result<(), NvmeStatus> {
    let mut buf = buffer(below, data_len(io))?;
    io.copy_out(0, buf.as_mut_slice());
    change(injection, hit, buf.as_mut_slice());
    put(below, io.offset_blocks(), io.num_blocks(), io.fua(), buf).await
}

/// Writes the first sectors only, at least one and not all.
async fn torn(
    injection: &Injection,
    hit: u64,
    io: &BdevIo,
    below: &Below,
) -> Result<(), NvmeStatus> {
    let sectors = injection.sectors(io);
    let random = draw(injection.seed, hit, Purpose::Place);
    let bytes = (1 + random % (sectors - 1).max(1)) * SECTOR_BYTES;
    let block_len = u64::from(injection.bdev.info().block_len);
    let blocks = bytes.div_ceil(block_len);
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut buf = buffer(below, size(blocks * block_len))?;
    if !bytes.is_multiple_of(block_len) {
        // The rest of the last block stays what it was.
        let last = io.offset_blocks() + blocks - 1;
        let old = buffer(below, size(block_len))?;
        let read = below.submit(IoRequest::new(IoType::Read, last, 1, old.into())).await;
        let old = read.ok()?.into_one().ok_or(NvmeStatus::INTERNAL_ERROR)?;
        buf.as_mut_slice()[size((blocks - 1) * block_len)..].copy_from_slice(old.as_slice());
    }
    io.copy_out(0, &mut buf.as_mut_slice()[..size(bytes)]);
    put(below, io.offset_blocks(), blocks, io.fua(), buf).await
}

/// Writes to another place, if the device has one for so many blocks.
async fn misdirected(
    injection: &Injection,
    hit: u64,
    distance: Option<u64>,
    io: &BdevIo,
    below: &Below,
) -> Result<(), NvmeStatus> {
    // Places from which all of it fits.
    let places = below.bdev().num_blocks().saturating_sub(io.num_blocks()) + 1;
    let random = || draw(injection.seed, hit, Purpose::Place);
    let step = match distance {
        Some(distance) => distance % places,
        None if places > 1 => 1 + random() % (places - 1),
        None => 0,
    };
    if step == 0 {
        // Every place is the right one: it arrives nowhere.
        return Ok(());
    }
    let place = io.offset_blocks().checked_add(step).map_or(0, |place| place % places);
    let mut buf = buffer(below, data_len(io))?;
    io.copy_out(0, buf.as_mut_slice());
    put(below, place, io.num_blocks(), io.fua(), buf).await
}
