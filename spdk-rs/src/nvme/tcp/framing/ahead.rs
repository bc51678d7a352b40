//! Receives that reach beyond one PDU.
//!
//! Who has asked for data knows what comes next, as a rule: headers of known lengths, with known
//! payload between them. A receive is laid out for that: headers go to *gaps*, payload to its
//! destination. Afterwards the headers are looked at as always. As long as they are those that were
//! expected, payload is where it belongs; from the first that is not, what is left is collected in
//! memory of its own, and goes on from there as from any buffer.
//!
//! Invariants:
//! * nothing is believed: a part counts as payload only when the header before it was found right
//!   and its owner placed it exactly there;
//! * the destinations of what was not looked at yet may hold anything, and are complete only after
//!   the step that reports them;
//! * memory for what is displaced is bounded, and reserved before anything can be displaced.
#![allow(unsafe_code, reason = "the kernel writes to the gaps")]

use std::cell::{Cell, RefCell, UnsafeCell};
use std::ops::Deref;
use std::rc::Rc;

use super::check::ReceiveRules;
use super::pdu::PduType;
use super::receiver::{Destinations, Payload};
use crate::env::IoVec;
use crate::net::{ReadBuffer, ReadSpace, Received};
use crate::nvme::tcp::digest::DIGEST_BYTES;

/// Bytes of headers that one receive is laid out for.
const GAP_BYTES: usize = 8192;

/// A data PDU that an owner takes to come next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coming {
    /// Commands without data that are taken to come before it.
    pub commands: u32,
    /// The tag of its destination.
    pub tag: u32,
    /// Where in the destination its data go.
    pub offset: u32,
    /// Bytes of data.
    pub bytes: u32,
}

/// A stretch of a receive.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// Headers and digests, from this place of the gaps on.
    Gap { from: usize, len: usize },
    /// Payload.
    Data { tag: u32, offset: u32, len: usize },
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Gap { len, .. } | Self::Data { len, .. } => *len,
        }
    }
}

/// Memory for what arrived elsewhere than expected, shared by the receivers of a reactor.
///
/// There is one spare buffer; others are made when they are needed, which is when a receiver cannot
/// go on with what was displaced, and another one's is displaced meanwhile.
pub struct Displaced {
    spare: RefCell<Option<ReadBuffer>>,
    /// Receivers that may need a buffer.
    reserved: Cell<usize>,
}

impl Displaced {
    /// Bytes of payload that a receive may be laid out for at the most.
    pub const AHEAD_MAX: usize = 2 << 20;
    /// Receivers that may reach ahead at the same time, each with as many bytes.
    const RESERVED_MAX: usize = 32;
    /// With headers, digests, and what is in a receiver's own buffer.
    const BUFFER_BYTES: usize = Self::AHEAD_MAX + GAP_BYTES + (128 << 10);

    /// No memory yet.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self { spare: RefCell::default(), reserved: Cell::new(0) })
    }

    /// How many receivers reach ahead now.
    #[inline]
    #[must_use]
    pub fn reaching(&self) -> usize {
        self.reserved.get()
    }

    #[cold]
    fn take(&self) -> ReadBuffer {
        let spare = self.spare.borrow_mut().take();
        spare.unwrap_or_else(|| ReadBuffer::new(Self::BUFFER_BYTES))
    }

    fn give(&self, buffer: ReadBuffer) {
        buffer.consume(buffer.len());
        *self.spare.borrow_mut() = Some(buffer);
    }
}

/// The next bytes that were received, as far as they lie together.
pub(super) enum Front<'a> {
    Gap(&'a [u8]),
    Buffer(Received<'a>),
}

impl<'a> Front<'a> {
    #[inline]
    pub(super) fn of(ahead: Option<&'a Ahead>, own: &'a ReadBuffer) -> Self {
        match ahead {
            Some(ahead) if ahead.has_bytes() => ahead.front(),
            _ => Self::Buffer(own.data()),
        }
    }
}

impl Deref for Front<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Gap(bytes) => bytes,
            Self::Buffer(bytes) => bytes,
        }
    }
}

/// What a receiver has beyond the payload that it was in.
pub(super) struct Ahead {
    displaced: Rc<Displaced>,
    reserved: bool,
    gaps: Box<[UnsafeCell<u8>]>,
    /// The parts of the last receive in their order, and the one that is looked at.
    parts: Vec<Part>,
    at: usize,
    /// Bytes of all parts.
    total: usize,
    /// Bytes of them that have arrived and have not been looked at.
    left: usize,
    /// What was collected, before the receiver's own buffer.
    collected: Option<ReadBuffer>,
    /// Bytes that had to be moved.
    moved: usize,
}

impl Ahead {
    pub(super) fn new(displaced: &Rc<Displaced>) -> Self {
        Self {
            displaced: Rc::clone(displaced),
            reserved: false,
            gaps: (0..GAP_BYTES).map(|_| UnsafeCell::new(0)).collect(),
            parts: Vec::with_capacity(ReadSpace::PIECES_MAX),
            at: 0,
            total: 0,
            left: 0,
            collected: None,
            moved: 0,
        }
    }

    /// Forgets everything that has not been looked at.
    pub(super) fn clear(&mut self) {
        (self.total, self.left) = (0, 0);
        if let Some(buffer) = self.collected.take() {
            self.displaced.give(buffer);
        }
        if std::mem::take(&mut self.reserved) {
            self.displaced.reserved.set(self.displaced.reserved.get().saturating_sub(1));
        }
    }

    /// Sees to it that there will be memory for what is displaced; false when too many others may
    /// need some.
    pub(super) fn reserve(&mut self) -> bool {
        let reserved = self.displaced.reserved.get();
        if !self.reserved && reserved < Displaced::RESERVED_MAX {
            self.displaced.reserved.set(reserved + 1);
            self.reserved = true;
        }
        self.reserved
    }

    /// Adds room for what comes next, at most `bytes_max` bytes of payload; returns how many bytes
    /// there are if the data come, 0 when there is no room for any. `digest`: that of the payload
    /// under way comes first.
    pub(super) fn expect(
        &mut self,
        rules: &ReceiveRules,
        digest: bool,
        places: &impl Destinations,
        coming: impl Iterator<Item = Coming>,
        bytes_max: usize,
        out: &mut ReadSpace,
    ) -> usize {
        let behind_header = if rules.header_digest { DIGEST_BYTES } else { 0 };
        let behind_data = if rules.data_digest { DIGEST_BYTES } else { 0 };
        let header = PduType::H2cData.header_bytes() + behind_header;
        let command = PduType::CapsuleCmd.header_bytes() + behind_header;
        let mut from = 0;
        let mut len = if digest { DIGEST_BYTES } else { 0 };
        let mut room = bytes_max.min(Displaced::AHEAD_MAX);
        self.parts.clear();
        (self.at, self.total, self.left) = (0, 0, 0);
        for Coming { commands, tag, offset, bytes } in coming {
            let bytes = bytes as usize;
            len += header + commands as usize * command;
            let table = places.table(tag);
            let Some(mut payload) = Payload::new(tag, bytes, offset, table) else { break };
            let mut pieces = 0;
            let mut count = payload;
            count.each_piece(table, bytes, |_, _| pieces += 1);
            if bytes > room || pieces >= out.pieces_left() || from + len > GAP_BYTES {
                break;
            }
            self.push_gap(from, len, out);
            payload.each_piece(table, bytes, |_, piece| {
                // SAFETY: the owner keeps the memory for the receiver alone until its payload is
                // reported.
                unsafe { out.push(piece) };
            });
            self.parts.push(Part::Data { tag, offset, len: bytes });
            self.total += len + bytes;
            room -= bytes;
            (from, len) = (from + len, behind_data);
        }
        self.total
    }

    fn push_gap(&mut self, from: usize, len: usize, out: &mut ReadSpace) {
        let base = UnsafeCell::raw_get(self.gaps.as_ptr()).wrapping_add(from);
        // SAFETY: the range lies inside the gaps, which are not read before the receive has ended.
        unsafe { out.push(IoVec::new(base, len)) };
        self.parts.push(Part::Gap { from, len });
    }

    /// So many bytes have arrived behind the payload that was under way; those beyond the parts are
    /// in the receiver's buffer.
    #[inline]
    pub(super) fn received(&mut self, bytes: usize) {
        self.left = bytes.min(std::mem::take(&mut self.total));
        if self.left == 0 && self.reserved {
            self.clear();
        }
    }

    /// Whether there are bytes before those of the receiver's buffer.
    #[inline]
    pub(super) fn has_bytes(&self) -> bool {
        self.left != 0 || self.collected.is_some()
    }

    /// Whether the next bytes lie where a receive was laid out for them.
    #[inline]
    pub(super) fn is_scattered(&self) -> bool {
        self.left != 0
    }

    /// The next bytes, as far as they lie together; none in front of payload.
    fn front(&self) -> Front<'_> {
        if let Some(buffer) = &self.collected {
            return Front::Buffer(buffer.data());
        }
        match self.parts.get(self.at) {
            Some(&Part::Gap { from, len }) => Front::Gap(self.gap(from, len.min(self.left))),
            _ => Front::Gap(&[]),
        }
    }

    fn gap(&self, from: usize, len: usize) -> &[u8] {
        let range = &self.gaps[from..from + len];
        // SAFETY: the range is one of the gaps; no receive names them while something is left to
        // look at.
        unsafe { std::slice::from_raw_parts(range.as_ptr().cast(), range.len()) }
    }

    /// Drops bytes of the front.
    pub(super) fn consume(&mut self, bytes: usize) {
        if let Some(buffer) = &self.collected {
            buffer.consume(bytes);
            if buffer.is_empty() {
                self.clear();
            }
        } else {
            self.advance(bytes);
        }
    }

    /// Goes on by `bytes`, at most the rest of the part.
    fn advance(&mut self, bytes: usize) {
        self.left -= bytes;
        let Some(part) = self.parts.get_mut(self.at) else { return };
        match part {
            Part::Gap { from, len } => (*from, *len) = (*from + bytes, *len - bytes),
            Part::Data { offset, len, .. } => {
                // A part is no longer than a PDU.
                *offset = offset.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
                *len -= bytes;
            }
        }
        if part.len() == 0 {
            self.at += 1;
        }
        if self.left == 0 {
            self.clear();
        }
    }

    /// How many of the next `left` bytes have arrived in their place, at `offset` of a tag. They
    /// count as looked at.
    pub(super) fn take_in_place(&mut self, tag: u32, offset: u32, left: usize) -> usize {
        let here = match self.parts.get(self.at) {
            Some(&Part::Data { tag: of, offset: at, len }) if (of, at) == (tag, offset) => {
                left.min(len).min(self.left)
            }
            _ => 0,
        };
        if here != 0 {
            self.advance(here);
        }
        here
    }

    /// Collects what is left: in the receiver's buffer where it fits, else in memory of its own,
    /// with what is in the receiver's buffer behind it. Returns whether there was anything.
    pub(super) fn gather(&mut self, places: &impl Destinations, own: &ReadBuffer) -> bool {
        if let Some(buffer) = self.collected.take() {
            // The start of a header, which the own buffer can hold: it was emptied before.
            own.append(&buffer.data());
            self.displaced.give(buffer);
            self.clear();
            return false;
        }
        if self.left == 0 {
            return false;
        }
        if own.is_empty() && self.left <= own.capacity() {
            self.collect(places, own);
            self.clear();
            return true;
        }
        let buffer = self.displaced.take();
        self.collect(places, &buffer);
        buffer.append(&own.data());
        own.consume(own.len());
        self.left = 0;
        self.collected = Some(buffer);
        true
    }

    fn collect(&mut self, places: &impl Destinations, to: &ReadBuffer) {
        self.moved += self.left;
        let mut left = self.left;
        for part in &self.parts[self.at..] {
            let here = part.len().min(left);
            left -= here;
            match *part {
                Part::Gap { from, .. } => to.append(self.gap(from, here)),
                Part::Data { tag, offset, .. } => {
                    let table = places.table(tag);
                    let payload = Payload::new(tag, here, offset, table);
                    debug_assert!(payload.is_some(), "the destination of a receive changed");
                    let Some(mut payload) = payload else { return };
                    payload.each_piece(table, here, |_, piece| {
                        // SAFETY: the bytes have been received, and are the receiver's alone.
                        let bytes =
                            unsafe { std::slice::from_raw_parts(piece.base(), piece.len()) };
                        to.append(bytes);
                    });
                }
            }
            if left == 0 {
                return;
            }
        }
    }

    pub(super) fn take_moved(&mut self) -> usize {
        std::mem::take(&mut self.moved)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests;
