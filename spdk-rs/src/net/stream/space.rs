//! Where received bytes go: the final buffers of payload first, then a buffer for what follows.
#![allow(unsafe_code, reason = "the kernel writes to the buffer behind what was received")]

use std::cell::{Cell, UnsafeCell};
use std::ops::Deref;
use std::rc::Rc;

use crate::env::IoVec;

/// Pieces of memory for the next receive, in the order in which they are filled.
pub struct ReadSpace {
    /// One more than can be pushed: the buffer's free part comes last.
    iovs: [IoVec; ReadSpace::PIECES_MAX + 1],
    count: usize,
    /// Bytes of the pieces that were pushed.
    direct_bytes: usize,
    buffer: Option<ReadBuffer>,
    /// Bytes of the buffer that may be used at the most.
    buffer_max: usize,
    /// The buffer's free part is among the pieces.
    lent: bool,
    /// Bytes that are worth a wake-up.
    low_water: usize,
}

impl ReadSpace {
    /// Pieces that can be pushed.
    pub const PIECES_MAX: usize = 64;

    pub(crate) const fn new() -> Self {
        let iovs = [IoVec::EMPTY; Self::PIECES_MAX + 1];
        Self {
            iovs,
            count: 0,
            direct_bytes: 0,
            buffer: None,
            buffer_max: usize::MAX,
            lent: false,
            low_water: 0,
        }
    }

    /// Adds a piece of memory; false, and nothing added, when [`ReadSpace::PIECES_MAX`] were.
    /// A piece without bytes is left out.
    ///
    /// # Safety
    /// The memory is valid for writing, and nobody else uses it, until
    /// [`received`](super::StreamHandler::received) reports bytes (those that are not filled then
    /// are free again too) or [`closed`](super::StreamHandler::closed) is called. Where neither
    /// happens, it stays so for ever; the stream keeps its handler for as long.
    #[inline]
    pub unsafe fn push(&mut self, piece: IoVec) -> bool {
        if piece.is_empty() {
            return true;
        }
        if self.count == Self::PIECES_MAX {
            return false;
        }
        self.iovs[self.count] = piece;
        self.count += 1;
        self.direct_bytes += piece.len();
        true
    }

    /// Lets what arrives beyond the pieces go to the free part of `buffer`.
    #[inline]
    pub fn then_buffer(&mut self, buffer: &ReadBuffer) {
        self.buffer = Some(buffer.clone());
    }

    /// As [`ReadSpace::then_buffer`], with at most `bytes` of the free part.
    #[inline]
    pub fn then_buffer_up_to(&mut self, buffer: &ReadBuffer, bytes: usize) {
        self.buffer = Some(buffer.clone());
        self.buffer_max = bytes;
    }

    /// Pieces that can still be pushed.
    #[inline]
    #[must_use]
    pub fn pieces_left(&self) -> usize {
        Self::PIECES_MAX - self.count
    }

    /// The receive may wait until so many bytes are there, because they are certain to come. It
    /// ends with fewer at the end of the stream, when memory for received bytes is short, or when
    /// they take too long ([`LOW_WATER_LIMIT`](super::LOW_WATER_LIMIT)); and where the kernel
    /// offers no cheap way to wait for them.
    #[inline]
    pub fn wait_for(&mut self, bytes: usize) {
        self.low_water = bytes;
    }

    /// What [`ReadSpace::wait_for`] was told; 0 when it was not.
    #[inline]
    #[must_use]
    pub fn waits_for(&self) -> usize {
        self.low_water
    }

    /// Forgets all pieces. No receive that names them is in flight.
    pub(crate) fn clear(&mut self) {
        if let Some(buffer) = self.buffer.take()
            && self.lent
        {
            buffer.0.lent.set(false);
        }
        (self.count, self.direct_bytes, self.lent) = (0, 0, false);
        (self.buffer_max, self.low_water) = (usize::MAX, 0);
    }

    /// The pieces with the free part of the buffer behind them, and their bytes in all.
    pub(crate) fn seal(&mut self) -> (&mut [IoVec], usize) {
        let mut bytes = self.direct_bytes;
        if let Some(buffer) = &self.buffer {
            let free = buffer.make_room().truncated(self.buffer_max);
            if !free.is_empty() {
                buffer.0.lent.set(true);
                self.lent = true;
                bytes += free.len();
                self.iovs[self.count] = free;
                self.count += 1;
            }
        }
        (&mut self.iovs[..self.count], bytes)
    }

    /// Accounts what arrived.
    pub(crate) fn fill(&self, bytes: usize) {
        let beyond = bytes.saturating_sub(self.direct_bytes);
        if let Some(buffer) = &self.buffer {
            debug_assert!(beyond == 0 || self.lent);
            buffer.extend(beyond);
        }
    }
}

/// A buffer of fixed size for bytes whose place is not known before they are seen: headers, and
/// small payload between them. Clones share it. It serves one stream: the receives of a second one
/// would find no room in it while the first waits for bytes.
///
/// Bytes are received at its end and consumed from its start.
#[derive(Clone)]
pub struct ReadBuffer(Rc<Buffer>);

struct Buffer {
    memory: Box<[UnsafeCell<u8>]>,
    start: Cell<usize>,
    end: Cell<usize>,
    /// Views of the bytes that exist: while there are any, nothing moves.
    views: Cell<usize>,
    /// The free part is named by a receive; no other one may name it.
    lent: Cell<bool>,
}

/// The bytes of a [`ReadBuffer`] that were received and not consumed.
pub struct Received<'a> {
    buffer: &'a Buffer,
    bytes: &'a [u8],
}

impl Deref for Received<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl Drop for Received<'_> {
    #[inline]
    fn drop(&mut self) {
        self.buffer.views.set(self.buffer.views.get() - 1);
    }
}

impl ReadBuffer {
    /// A buffer of `bytes` bytes, at least 1.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let memory = (0..bytes.max(1)).map(|_| UnsafeCell::new(0)).collect();
        let (start, end, views) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Self(Rc::new(Buffer { memory, start, end, views, lent: Cell::new(false) }))
    }

    /// Bytes it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.memory.len()
    }

    /// Bytes that were received and not consumed.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.end.get() - self.0.start.get()
    }

    /// Whether nothing is left to consume.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes that were received and not consumed.
    #[inline]
    #[must_use]
    pub fn data(&self) -> Received<'_> {
        let (buffer, start) = (&*self.0, self.0.start.get());
        let first = UnsafeCell::raw_get(buffer.memory.as_ptr()).wrapping_add(start).cast_const();
        // SAFETY: the range lies inside the memory (see `extend`). Only the part behind `end` is
        // given to the kernel, and nothing is moved while the view exists.
        let bytes = unsafe { std::slice::from_raw_parts(first, self.len()) };
        buffer.views.set(buffer.views.get() + 1);
        Received { buffer, bytes }
    }

    /// Drops the first `bytes` bytes; at most all there are.
    #[inline]
    pub fn consume(&self, bytes: usize) {
        self.0.start.set(self.0.start.get() + bytes.min(self.len()));
    }

    /// The free part. What is left is moved to the start first, unless somebody looks at it.
    fn make_room(&self) -> IoVec {
        let buffer = &*self.0;
        if buffer.lent.get() {
            return IoVec::EMPTY;
        }
        let len = self.len();
        let base = UnsafeCell::raw_get(buffer.memory.as_ptr());
        // Little is moved at once, much only when there is no other room.
        let worth = len <= Self::MOVE_MAX || buffer.end.get() == buffer.memory.len();
        if buffer.start.get() != 0 && worth && buffer.views.get() == 0 {
            let from = base.wrapping_add(buffer.start.get());
            // SAFETY: both ranges lie inside the memory, no view of it exists, and no receive
            // names it.
            unsafe { std::ptr::copy(from, base, len) };
            buffer.start.set(0);
            buffer.end.set(len);
        }
        IoVec::new(base.wrapping_add(buffer.end.get()), buffer.memory.len() - buffer.end.get())
    }

    /// Leftovers of at most so many bytes are moved to the start whenever there is a chance.
    const MOVE_MAX: usize = 512;

    /// Adds a copy of bytes behind those that are there. There has to be room, which is not named
    /// by a receive.
    pub(crate) fn append(&self, bytes: &[u8]) {
        let free = self.make_room();
        assert!(bytes.len() <= free.len(), "more bytes are added than there is room for");
        // SAFETY: the free part is as long as `bytes` at least, and nobody else has a reference to
        // it, so that it does not overlap them.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), free.base(), bytes.len()) };
        self.extend(bytes.len());
    }

    fn extend(&self, bytes: usize) {
        let end = self.0.end.get() + bytes;
        assert!(end <= self.0.memory.len(), "more bytes arrived than there was room for");
        self.0.end.set(end);
    }
}
