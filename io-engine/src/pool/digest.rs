//! Digests of blocks.

use sha2::{Digest as _, Sha256};

/// How blocks are digested.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum DigestKind {
    /// SHA-256.
    Sha256 = 1,
}

/// A digest.
pub type Digest = [u8; 32];

impl DigestKind {
    /// By number.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        (byte == 1).then_some(Self::Sha256)
    }
}

/// One digest.
#[must_use]
pub fn digest(_kind: DigestKind, bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

/// Many.
pub fn digest_blocks(kind: DigestKind, blocks: &[&[u8]], out: &mut [Digest]) {
    for (block, out) in blocks.iter().zip(out) {
        *out = digest(kind, block);
    }
}
