//! I/O that is larger than the driver takes: done in parts, completed as one.
#![allow(unsafe_code, reason = "the parts reach their parent by address")]

use std::ptr::NonNull;

use super::IoType;
use super::buf::IoBuf;
use super::channel::Channel;
use super::core::{NO_SLOT, Request};
use super::io::{BdevIo, IoFlags};
use super::slot::{Done, INLINE_IOVS, IoSlot, SplitState};
use crate::NvmeStatus;
use crate::env::IoVec;

/// Parts of one I/O that are in flight at a time.
const PARTS_IN_FLIGHT: u32 = 16;

/// As above for what writes to a zone, where the next part begins where the one before has ended.
const PARTS_IN_FLIGHT_ZONED: u32 = 1;

/// Whether an I/O goes beyond what the driver takes at once.
pub(super) fn is_needed(channel: &Channel, io: &BdevIo) -> bool {
    // The others are one operation, whatever the number of blocks and pieces.
    if !io.kind().has_data() && !moves_blocks(io.kind()) {
        return false;
    }
    let boundary = channel.bdev().info().limits.boundary_blocks;
    let crosses = boundary != 0 && io.num_blocks() > boundary - io.offset_blocks() % boundary;
    io.num_blocks() > blocks_max(channel, io.kind())
        || io.iovs().len() > channel.segments_max
        || crosses
}

/// Whether a kind without buffers does something to each block.
const fn moves_blocks(kind: IoType) -> bool {
    matches!(kind, IoType::Unmap | IoType::WriteZeroes | IoType::Copy)
}

/// Blocks of one part of a kind at the most.
fn blocks_max(channel: &Channel, kind: IoType) -> u64 {
    match kind {
        IoType::Unmap | IoType::WriteZeroes => channel.bdev().info().limits.dataless_blocks_max,
        _ => channel.blocks_max,
    }
}

/// Parts of an I/O of a kind that may be in flight at a time.
fn parts_in_flight(channel: &Channel, kind: IoType) -> u32 {
    let in_order = kind.modifies() && channel.bdev().zones().is_some();
    if in_order { PARTS_IN_FLIGHT_ZONED } else { PARTS_IN_FLIGHT }
}

/// Starts an I/O in parts.
pub(super) fn start(channel: &Channel, mut io: BdevIo) {
    if !pieces_make_blocks(channel, io.iovs()) {
        io.complete(NvmeStatus::DATA_SGL_LENGTH_INVALID);
        return;
    }
    io.get_mut().split = SplitState { status: NvmeStatus::SUCCESS, ..SplitState::default() };
    advance(channel, io.into_slot());
}

/// Whether every part can be whole blocks, with as few pieces as a part may have.
///
/// A part begins inside a piece at worst, so all but one of its pieces are whole.
fn pieces_make_blocks(channel: &Channel, iovs: &[IoVec]) -> bool {
    let block_len = channel.block_len as usize;
    let whole_pieces = INLINE_IOVS.min(channel.segments_max) - 1;
    let shortest = iovs.iter().map(IoVec::len).min().unwrap_or(block_len);
    iovs.iter().all(|iov| iov.len() % block_len == 0) || shortest * whole_pieces >= block_len
}

/// A part has ended.
pub(super) fn part_done(channel: &Channel, parent: NonNull<IoSlot>, status: NvmeStatus) {
    // SAFETY: the parent's token is given up until its last part has ended: see `advance`.
    let fields = unsafe { &mut *parent.as_ptr() };
    fields.split.in_flight -= 1;
    if fields.split.status.is_success() {
        fields.split.status = status;
    }
    advance(channel, parent);
}

/// Issues further parts; completes the parent after the last one.
fn advance(channel: &Channel, parent: NonNull<IoSlot>) {
    let Some(shared) = channel.shared() else { return };
    loop {
        // SAFETY: nobody else has access to the parent while it is being split. The borrow ends
        // before a part is submitted.
        let fields = unsafe { &mut *parent.as_ptr() };
        let rest = fields.num_blocks - fields.split.issued_blocks;
        if rest == 0 || !fields.split.status.is_success() {
            if fields.split.in_flight == 0 {
                let status = fields.split.status;
                // SAFETY: no part is left, so the token may exist again.
                unsafe { BdevIo::from_slot(parent) }.complete(status);
            }
            return;
        }
        if fields.split.in_flight == parts_in_flight(channel, fields.kind) {
            return;
        }
        let request = Request {
            kind: fields.kind,
            flags: fields.flags & IoFlags::FUA | IoFlags::INTERNAL,
            offset_blocks: fields.offset_blocks + fields.split.issued_blocks,
            num_blocks: part_blocks(channel, fields),
            argument: fields.argument + fields.split.issued_blocks,
            iovs: NonNull::from(&[]),
            buf: IoBuf::None,
            done: Done::Parent(parent),
            tag: 0,
        };
        let blocks = request.num_blocks;
        match channel.core().start(&shared, request) {
            Ok(mut part) => {
                let taken = take_pieces(channel, fields, part.get_mut(), blocks);
                part.get_mut().num_blocks = taken;
                fields.split.issued_blocks += taken;
                fields.split.in_flight += 1;
                channel.submit_slow(part);
            }
            // Parts in flight free slots and come back here; without any, the I/O fails.
            Err(_) if fields.split.in_flight > 0 => return,
            Err(_) => fields.split.status = NO_SLOT,
        }
    }
}

/// Blocks of the next part as far as the driver's limits go.
fn part_blocks(channel: &Channel, parent: &IoSlot) -> u64 {
    let rest = parent.num_blocks - parent.split.issued_blocks;
    let blocks = rest.min(blocks_max(channel, parent.kind));
    match channel.bdev().info().limits.boundary_blocks {
        0 => blocks,
        boundary => {
            let at = parent.offset_blocks + parent.split.issued_blocks;
            blocks.min(boundary - at % boundary)
        }
    }
}

/// Gives a part the parent's next pieces, as many as fit; returns the blocks that they make.
fn take_pieces(channel: &Channel, parent: &mut IoSlot, part: &mut IoSlot, blocks: u64) -> u64 {
    if parent.iov_count == 0 {
        return blocks;
    }
    let block_len = channel.block_len as usize;
    let wanted = usize::try_from(blocks).map_or(usize::MAX, |b| b.saturating_mul(block_len));
    // SAFETY: the table belongs to the parent, which is not completed.
    let iovs = unsafe { std::slice::from_raw_parts(parent.iovs, parent.iov_count) };
    let pieces_max = INLINE_IOVS.min(channel.segments_max);
    let (mut count, mut bytes) = (0, 0);
    let (mut index, mut offset) = (parent.split.iov_index, parent.split.iov_offset);
    while count < pieces_max && bytes < wanted && index < iovs.len() {
        let piece = iovs[index].advanced(offset).truncated(wanted - bytes);
        part.inline_iovs[count] = piece;
        (count, bytes, offset) = (count + 1, bytes + piece.len(), offset + piece.len());
        if offset == iovs[index].len() {
            (index, offset) = (index + 1, 0);
        }
    }
    // A part is whole blocks: give back what is beyond the last one.
    let mut excess = bytes % block_len;
    bytes -= excess;
    while excess > 0 && count > 0 {
        let last = part.inline_iovs[count - 1];
        let back = excess.min(last.len());
        if offset == 0 {
            index -= 1;
            offset = iovs[index].len();
        }
        offset -= back;
        excess -= back;
        if back == last.len() {
            count -= 1;
        } else {
            part.inline_iovs[count - 1] = IoVec::new(last.base(), last.len() - back);
        }
    }
    (parent.split.iov_index, parent.split.iov_offset) = (index, offset);
    part.iovs = part.inline_iovs.as_ptr();
    part.iov_count = count;
    (bytes / block_len) as u64
}
