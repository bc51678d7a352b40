//! What can be wrong with bytes that should be a structure of variable length.

use zerocopy::FromBytes;

/// Why bytes are not the structure they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Fewer bytes than the structure, or than its own counts, ask for.
    #[error("{what} needs {needed} bytes, but there are {have}")]
    Truncated {
        /// The structure.
        what: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes there are.
        have: usize,
    },
    /// A field has a value that is not allowed.
    #[error("{what} is {value:#x}, which is not allowed")]
    Value {
        /// The structure and field.
        what: &'static str,
        /// The value found.
        value: u64,
    },
    /// A text field is empty, too long or not UTF-8.
    #[error("{what} is not a text of 1 to 223 bytes of UTF-8 ended by a zero")]
    Text {
        /// The field.
        what: &'static str,
    },
}

/// The first `len` bytes and the rest.
pub(crate) fn split<'a>(
    what: &'static str,
    bytes: &'a [u8],
    len: usize,
) -> Result<(&'a [u8], &'a [u8]), ReadError> {
    bytes.split_at_checked(len).ok_or(ReadError::Truncated { what, needed: len, have: bytes.len() })
}

/// A structure at the front of some bytes, and the bytes behind it.
pub(crate) fn front<'a, T>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(&'a T, &'a [u8]), ReadError>
where
    T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    T::ref_from_prefix(bytes).map_err(|_| ReadError::Truncated {
        what,
        needed: size_of::<T>(),
        have: bytes.len(),
    })
}

/// `count` structures at the front of some bytes, and the bytes behind them.
pub(crate) fn front_slice<'a, T>(
    what: &'static str,
    bytes: &'a [u8],
    count: usize,
) -> Result<(&'a [T], &'a [u8]), ReadError>
where
    T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    <[T]>::ref_from_prefix_with_elems(bytes, count).map_err(|_| ReadError::Truncated {
        what,
        needed: size_of::<T>().saturating_mul(count),
        have: bytes.len(),
    })
}
