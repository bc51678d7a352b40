//! The digests of headers and data: CRC-32C (section 3.3.1.1).
#![allow(unsafe_code, reason = "digests are taken of memory that is named by address")]

use crc_fast::{CrcAlgorithm, Digest, checksum_combine, crc32_iscsi};

use crate::env::{IoVec, Work};

/// Bytes of a digest behind a header or data.
pub const DIGEST_BYTES: usize = 4;

/// The state of the algorithm before the first byte.
const START: u32 = u32::MAX;

/// A CRC-32C that grows piece by piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crc32c {
    /// The state; the value is its complement.
    state: u32,
    bytes: u64,
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl Crc32c {
    /// The digest of no bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self { state: START, bytes: 0 }
    }

    /// The digest of one run of bytes.
    #[inline]
    #[must_use]
    pub fn of(bytes: &[u8]) -> u32 {
        Work::Crc32c.count(1, bytes.len());
        crc32_iscsi(bytes)
    }

    /// Adds bytes behind those that were added so far.
    #[inline]
    pub fn update(&mut self, bytes: &[u8]) {
        Work::Crc32c.count(1, bytes.len());
        self.state = if self.bytes == 0 {
            !crc32_iscsi(bytes)
        } else {
            let mut digest =
                Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(self.state));
            digest.update(bytes);
            low(digest.get_state())
        };
        self.bytes += bytes.len() as u64;
    }

    /// Adds the bytes of a piece of memory.
    ///
    /// # Safety
    /// The memory is readable, and nobody writes to it during the call.
    #[inline]
    pub unsafe fn update_piece(&mut self, piece: IoVec) {
        if !piece.is_empty() {
            // SAFETY: as the caller promises.
            let bytes = unsafe { std::slice::from_raw_parts(piece.base(), piece.len()) };
            self.update(bytes);
        }
    }

    /// Adds `other` as though its bytes had been added behind those of this one: pieces may be
    /// digested where and when they are at hand, in any order.
    pub fn append(&mut self, other: &Self) {
        let (first, second) = (u64::from(self.value()), u64::from(other.value()));
        let joined = checksum_combine(CrcAlgorithm::Crc32Iscsi, first, second, other.bytes);
        self.state = !low(joined);
        self.bytes += other.bytes;
    }

    /// The digest, as it goes out: little endian.
    #[inline]
    #[must_use]
    pub const fn value(&self) -> u32 {
        !self.state
    }
}

/// The algorithm is 32 bits wide, its interface 64.
const fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bit by bit, from the definition.
    fn naive(bytes: &[u8]) -> u32 {
        let mut state = u32::MAX;
        for &byte in bytes {
            state ^= u32::from(byte);
            for _ in 0..8 {
                state = if state & 1 == 1 { state >> 1 ^ 0x82f6_3b78 } else { state >> 1 };
            }
        }
        !state
    }

    #[test]
    fn values_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(Crc32c::of(&[0; 32]), 0x8a91_36aa);
        assert_eq!(Crc32c::of(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(Crc32c::of(b"123456789"), 0xe306_9283);
        assert_eq!(Crc32c::new().value(), 0);
    }

    proptest! {
        #[test]
        fn pieces_add_up(bytes in proptest::collection::vec(any::<u8>(), 0..3000),
                         cuts in proptest::collection::vec(0..3000_usize, 0..5)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.sort_unstable();
            cuts.push(bytes.len());
            let (mut grown, mut joined, mut from) = (Crc32c::new(), Crc32c::new(), 0);
            for cut in cuts {
                let piece = &bytes[from..cut];
                let at = IoVec::new(piece.as_ptr().cast_mut(), piece.len());
                // SAFETY: the piece is borrowed.
                unsafe { grown.update_piece(at) };
                let mut alone = Crc32c::new();
                alone.update(piece);
                joined.append(&alone);
                from = cut;
            }
            prop_assert_eq!(grown.value(), naive(&bytes));
            prop_assert_eq!(joined, grown);
        }
    }
}
