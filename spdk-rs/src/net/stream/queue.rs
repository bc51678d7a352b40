//! What waits to be sent: a bounded list of pieces, and a ring of copied bytes that some of them
//! name.
#![allow(unsafe_code, reason = "queued pieces name memory by address")]

use std::cell::UnsafeCell;
use std::collections::VecDeque;

use crate::env::IoVec;

/// The queue has no room for what was to be queued; nothing of it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream's send queue is full")]
pub struct SendFull;

/// Pieces in the order of the stream. All room is allocated at the start.
pub(super) struct SendQueue {
    pieces: VecDeque<IoVec>,
    pieces_max: usize,
    /// Tokens and where in the stream they are due, by the count of all bytes queued before.
    tokens: VecDeque<(u64, u64)>,
    /// Bytes queued and bytes sent since the beginning.
    queued: u64,
    sent: u64,
    copies: CopyRing,
}

/// A ring of bytes that the kernel reads while others are added.
struct CopyRing {
    memory: Box<[UnsafeCell<u8>]>,
    /// Where the next byte goes.
    tail: usize,
    used: usize,
}

impl CopyRing {
    fn base(&self) -> *mut u8 {
        UnsafeCell::raw_get(self.memory.as_ptr())
    }

    fn free(&self) -> usize {
        self.memory.len() - self.used
    }

    fn contains(&self, piece: &IoVec) -> bool {
        piece.base().addr().wrapping_sub(self.base().addr()) < self.memory.len()
    }

    /// Copies as many bytes as fit before the ring's end, and names the place.
    fn add(&mut self, bytes: &[u8]) -> IoVec {
        let len = bytes.len().min(self.memory.len() - self.tail);
        let place = self.base().wrapping_add(self.tail);
        // SAFETY: the caller saw to it that so much is free, so the range lies inside the memory
        // and is named by no piece; the ring is private, so that nobody else has a reference.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, len) };
        self.tail = (self.tail + len) % self.memory.len();
        self.used += len;
        IoVec::new(place, len)
    }
}

impl SendQueue {
    pub(super) fn new(copy_bytes: usize, pieces_max: usize) -> Self {
        let memory = (0..copy_bytes).map(|_| UnsafeCell::new(0)).collect();
        Self {
            pieces: VecDeque::with_capacity(pieces_max),
            pieces_max,
            tokens: VecDeque::with_capacity(pieces_max),
            queued: 0,
            sent: 0,
            copies: CopyRing { memory, tail: 0, used: 0 },
        }
    }

    /// Whether there is room for so many copied bytes and so many pieces by address, in one go,
    /// and for a token.
    #[inline]
    pub(super) fn has_room(&self, copied_bytes: usize, pieces: usize) -> bool {
        // Bytes before and after the pieces, each of them cut by the ring's end.
        const COPIED_PIECES_MAX: usize = 4;
        copied_bytes <= self.copies.free()
            && pieces.saturating_add(COPIED_PIECES_MAX) <= self.pieces_max - self.pieces.len()
            && self.tokens.len() < self.pieces_max
    }

    /// Copies bytes to the end of the stream. The caller asked for room.
    #[inline]
    pub(super) fn copy(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let piece = self.copies.add(rest);
            rest = &rest[piece.len()..];
            self.queued += piece.len() as u64;
            match self.pieces.back_mut() {
                // The kernel has its own copy of the pieces that are in flight.
                Some(last)
                    if last.base().wrapping_add(last.len()) == piece.base()
                        && self.copies.contains(last) =>
                {
                    *last = IoVec::new(last.base(), last.len() + piece.len());
                }
                _ => self.pieces.push_back(piece),
            }
        }
    }

    /// Adds a piece by its address. The caller asked for room.
    #[inline]
    pub(super) fn name(&mut self, piece: IoVec) {
        if !piece.is_empty() {
            self.queued += piece.len() as u64;
            self.pieces.push_back(piece);
        }
    }

    /// Adds a token that is due when all that is queued now was sent. The caller asked for room.
    #[inline]
    pub(super) fn mark(&mut self, token: u64) {
        self.tokens.push_back((self.queued, token));
    }

    /// Bytes that were not sent.
    pub(super) fn bytes(&self) -> u64 {
        self.queued - self.sent
    }

    /// Whether there is nothing to send. Tokens may be due.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Copies the first pieces to `out`, and returns how many.
    pub(super) fn first(&self, out: &mut [IoVec]) -> usize {
        for (to, piece) in out.iter_mut().zip(&self.pieces) {
            *to = *piece;
        }
        out.len().min(self.pieces.len())
    }

    /// Accounts bytes that were sent.
    pub(super) fn advance(&mut self, bytes: usize) {
        let mut rest = bytes;
        self.sent += bytes as u64;
        debug_assert!(self.sent <= self.queued, "more was sent than queued");
        while rest > 0 {
            let Some(first) = self.pieces.front_mut() else { return };
            let now = rest.min(first.len());
            if self.copies.contains(first) {
                self.copies.used -= now;
            }
            rest -= now;
            *first = first.advanced(now);
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Takes the next token that is due.
    #[inline]
    pub(super) fn pop_token(&mut self) -> Option<u64> {
        let &(due, token) = self.tokens.front()?;
        if due > self.sent {
            return None;
        }
        self.tokens.pop_front();
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces_of(queue: &SendQueue) -> Vec<Vec<u8>> {
        let mut out = [IoVec::EMPTY; 16];
        let count = queue.first(&mut out);
        let bytes = |piece: &IoVec| {
            // SAFETY: the piece names memory of the queue or of the test.
            unsafe { std::slice::from_raw_parts(piece.base(), piece.len()) }.to_vec()
        };
        out[..count].iter().map(bytes).collect()
    }

    #[test]
    fn copies_join_and_payload_stays_where_it_is() {
        let mut queue = SendQueue::new(16, 8);
        let mut payload = *b"payload";
        queue.copy(b"one");
        queue.copy(b"two");
        queue.mark(1);
        queue.name(IoVec::new(payload.as_mut_ptr(), payload.len()));
        queue.mark(2);
        queue.name(IoVec::EMPTY);
        queue.copy(b"three");
        assert_eq!(pieces_of(&queue), [&b"onetwo"[..], b"payload", b"three"]);
        assert_eq!(queue.bytes(), 18);
        queue.advance(5);
        assert_eq!(queue.pop_token(), None);
        queue.advance(1);
        assert_eq!((queue.pop_token(), queue.pop_token()), (Some(1), None));
        queue.advance(8);
        assert_eq!((queue.pop_token(), queue.pop_token()), (Some(2), None));
        assert_eq!(pieces_of(&queue), [b"hree"]);
        queue.advance(4);
        assert!(queue.is_empty() && queue.bytes() == 0);
    }

    #[test]
    fn copied_bytes_wrap_around_the_ring_and_are_bounded_by_it() {
        let mut queue = SendQueue::new(10, 8);
        queue.copy(b"abcdefgh");
        assert!(queue.has_room(2, 0) && !queue.has_room(3, 0));
        queue.advance(6);
        assert!(queue.has_room(8, 0));
        queue.copy(b"ijklm");
        assert_eq!(pieces_of(&queue), [&b"ghij"[..], b"klm"]);
        queue.advance(7);
        assert!(queue.is_empty() && queue.has_room(10, 0));
    }

    #[test]
    fn pieces_and_tokens_are_bounded() {
        let mut queue = SendQueue::new(64, 8);
        let mut byte = 0;
        assert!(queue.has_room(0, 4) && !queue.has_room(0, 5));
        assert!(!queue.has_room(0, usize::MAX));
        for _ in 0..5 {
            queue.name(IoVec::new(&raw mut byte, 1));
        }
        assert!(!queue.has_room(1, 0));
        queue.advance(5);
        for token in 0..8 {
            assert!(queue.has_room(0, 0));
            queue.mark(token);
        }
        assert!(!queue.has_room(0, 0));
    }
}
