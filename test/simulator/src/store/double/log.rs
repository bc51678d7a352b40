//! The double's log and superblocks on the device.

use spdk_rs::bdev::{IoFuture, IoHandle};
use spdk_rs::env::DmaBuf;

use super::Bug;
use super::state::{Change, State};
use crate::device::{BLOCK_BYTES, to_usize};
use crate::store::{Cause, StoreError, StoreResult};

const RECORD_MAGIC: u64 = 0x10c0_4ec0_4d00_0001;
const SUPER_MAGIC: u64 = 0x10c0_5b10_c000_0001;
/// Bytes before a record's payload: magic, generation, number, length of the change, length of the
/// data, checksum.
const HEADER_BYTES: usize = 48;
/// Blocks before the first area: two superblocks.
const SUPERBLOCKS: u64 = 2;

/// Which area holds the log, and since how many checkpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Superblock {
    pub(super) generation: u64,
    pub(super) area: u64,
}

/// A part of the device, in blocks of 4 KiB.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) first: u64,
    pub(super) blocks: u64,
}

impl Area {
    pub(super) fn of(device: &IoHandle, superblock: Superblock) -> Self {
        let all = device.bdev().size_bytes() / BLOCK_BYTES as u64;
        let blocks = (all - SUPERBLOCKS) / 2;
        Self { first: SUPERBLOCKS + superblock.area * blocks, blocks }
    }
}

/// What a replay leads to.
pub(super) struct Replayed {
    pub(super) state: State,
    pub(super) tail: u64,
    pub(super) next_record: u64,
    /// For [`Bug::ImportForgets`]: what is written back instead.
    pub(super) lasting: Option<State>,
}

fn failed(what: &str, status: spdk_rs::NvmeStatus) -> StoreError {
    StoreError::new(Cause::Device, format!("{what}: {status}"))
}

fn checksum(parts: &[&[u8]]) -> u64 {
    let mut sum = 0x9e37_79b9_7f4a_7c15u64;
    for chunk in parts.iter().flat_map(|part| part.chunks(8)) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        sum = (sum.rotate_left(7) ^ u64::from_le_bytes(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    }
    sum
}

fn words(bytes: &[u8], count: usize) -> Vec<u64> {
    let word = |chunk: &[u8]| chunk.try_into().map_or(0, u64::from_le_bytes);
    bytes.chunks_exact(8).take(count).map(word).collect()
}

pub(super) fn buffer(device: &IoHandle, blocks: u64) -> StoreResult<DmaBuf> {
    let buf = device.dma_malloc(to_usize(blocks) * BLOCK_BYTES);
    let mut buf = buf.map_err(|error| StoreError::new(Cause::Device, error.to_string()))?;
    buf.fill(0);
    Ok(buf)
}

/// Blocks of the device per block of 4 KiB.
fn factor(device: &IoHandle) -> u64 {
    BLOCK_BYTES as u64 / u64::from(device.bdev().info().block_len)
}

/// Writes a buffer to a block of 4 KiB.
pub(super) fn write(device: &IoHandle, block: u64, buf: DmaBuf) -> IoFuture {
    let (factor, blocks) = (factor(device), (buf.len() / BLOCK_BYTES) as u64);
    device.write(buf, block * factor, blocks * factor)
}

async fn read(device: &IoHandle, block: u64, blocks: u64) -> StoreResult<Vec<u8>> {
    let factor = factor(device);
    let done = device.read(buffer(device, blocks)?, block * factor, blocks * factor).await;
    let bufs = done.ok().map_err(|status| failed("a read failed", status))?;
    Ok(bufs.into_one().map(|buf| buf.as_slice().to_vec()).unwrap_or_default())
}

impl Superblock {
    /// The newest superblock of a device.
    pub(super) async fn load(device: &IoHandle) -> StoreResult<Self> {
        let mut newest: Option<Self> = None;
        for slot in 0..SUPERBLOCKS {
            let bytes = read(device, slot, 1).await?;
            let found = words(&bytes, 4);
            let (generation, area) = (found[1], found[2]);
            let good = found[0] == SUPER_MAGIC && found[3] == checksum(&[&bytes[..24]]);
            if good && newest.is_none_or(|newest| newest.generation < generation) {
                newest = Some(Self { generation, area });
            }
        }
        newest.ok_or_else(|| StoreError::new(Cause::Device, "there is no superblock"))
    }

    /// Writes the superblock over the older of the two.
    pub(super) async fn save(self, device: &IoHandle) -> StoreResult {
        let mut buf = buffer(device, 1)?;
        let bytes = buf.as_mut_slice();
        for (place, word) in
            bytes.chunks_exact_mut(8).zip([SUPER_MAGIC, self.generation, self.area])
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let sum = checksum(&[&bytes[..24]]);
        bytes[24..32].copy_from_slice(&sum.to_le_bytes());
        let factor = factor(device);
        let slot = self.generation % SUPERBLOCKS;
        let done = device.write_fua(buf, slot * factor, factor).await;
        done.status.ok().map_err(|status| failed("the superblock was not written", status))
    }
}

/// The change as text. It cannot fail: it holds numbers and names only.
fn text(change: &Change) -> Vec<u8> {
    serde_json::to_vec(change).unwrap_or_default()
}

/// Blocks of 4 KiB that a record takes.
pub(super) fn record_blocks(change: &Change, data: &[u8]) -> u64 {
    ((HEADER_BYTES + text(change).len() + data.len()).div_ceil(BLOCK_BYTES)) as u64
}

/// A record as it goes to the device.
pub(super) fn encode(
    device: &IoHandle,
    place: (u64, u64),
    change: &Change,
    data: &[u8],
) -> StoreResult<DmaBuf> {
    let text = text(change);
    let mut buf = buffer(device, record_blocks(change, data))?;
    let bytes = buf.as_mut_slice();
    let numbers = [RECORD_MAGIC, place.0, place.1, text.len() as u64, data.len() as u64];
    for (place, word) in bytes.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let sum = checksum(&[&bytes[..40], &text, data]);
    bytes[40..48].copy_from_slice(&sum.to_le_bytes());
    let data_at = HEADER_BYTES + text.len();
    bytes[HEADER_BYTES..data_at].copy_from_slice(&text);
    bytes[data_at..data_at + data.len()].copy_from_slice(data);
    Ok(buf)
}

/// Reads one record; none when there is no good one.
async fn decode(
    device: &IoHandle,
    area: Area,
    at: u64,
    expected: (u64, u64),
    bug: Option<Bug>,
) -> StoreResult<Option<(Change, Vec<u8>, u64)>> {
    if at >= area.blocks {
        return Ok(None);
    }
    let first = read(device, area.first + at, 1).await?;
    let found = words(&first, 6);
    if found[0] != RECORD_MAGIC || (found[1], found[2]) != expected {
        return Ok(None);
    }
    let bytes = (HEADER_BYTES as u64).saturating_add(found[3]).saturating_add(found[4]);
    let blocks = bytes.div_ceil(BLOCK_BYTES as u64);
    if blocks > area.blocks - at {
        return Ok(None);
    }
    let all = if blocks == 1 { first } else { read(device, area.first + at, blocks).await? };
    let text_end = HEADER_BYTES + to_usize(found[3]);
    let (text, data) = (&all[HEADER_BYTES..text_end], &all[text_end..to_usize(bytes)]);
    let good = found[5] == checksum(&[&all[..40], text, data]);
    if !good && bug != Some(Bug::NoChecksum) {
        return Ok(None);
    }
    let change = serde_json::from_slice::<Change>(text).ok();
    Ok(change.map(|change| (change, data.to_vec(), blocks)))
}

/// Replays the log from its start to the first record that is not good.
pub(super) async fn replay(
    device: &IoHandle,
    superblock: Superblock,
    bug: Option<Bug>,
) -> StoreResult<Replayed> {
    let area = Area::of(device, superblock);
    let (mut tail, mut next_record) = (0, 1);
    let mut changes = Vec::new();
    while let Some((change, data, blocks)) =
        decode(device, area, tail, (superblock.generation, next_record), bug).await?
    {
        changes.push((change, data));
        tail += blocks;
        next_record += 1;
    }
    if bug == Some(Bug::ReplayOutOfOrder) {
        let is_write = |at: usize| matches!(changes[at].0, Change::Write { .. });
        if let Some(at) = (1..changes.len()).rev().find(|&at| is_write(at - 1) && is_write(at)) {
            changes.swap(at - 1, at);
        }
    }
    let ends_in_zeroes = matches!(changes.last(), Some((Change::Zero { .. }, _)));
    if ends_in_zeroes && bug == Some(Bug::ImportRefuses) {
        return Err(StoreError::new(Cause::Device, "the log ends in zeroes"));
    }
    let forgets = ends_in_zeroes && bug == Some(Bug::ImportForgets);
    let (mut state, mut lasting) = (State::default(), None);
    let mut left = changes.len();
    for (mut change, data) in changes {
        if let Change::Create { blocks, snapshot: false, .. } = &mut change
            && bug == Some(Bug::WrongSize)
        {
            *blocks += 1;
        }
        left -= 1;
        if left == 0 && forgets {
            lasting = Some(state.clone());
        }
        state.apply(&change, &data, bug);
    }
    Ok(Replayed { state, tail, next_record, lasting })
}
