//! Byte sizes as people write them: `4096`, `4k`, `128KiB`, `1M`, `2GiB`.
//!
//! Every unit is a power of two. The spellings that some tools read as powers of ten (`KB`,
//! `MB`, …) are refused instead of guessed, because a device that is 7 % smaller than its owner
//! thinks is a problem that shows up late.

use std::fmt;

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SizeError {
    /// The text does not start with a decimal digit, or holds something that is not a number.
    #[error(
        "`{text}` is not a size; write bytes or a number with k, M, G or T: 4096, 4k, 1M, 2GiB"
    )]
    NotANumber {
        /// The text as given.
        text: String,
    },
    /// The unit is unknown or ambiguous.
    #[error(
        "`{unit}` in `{text}` is not a unit; allowed are k, KiB, M, MiB, G, GiB, T, TiB (powers of 1024)"
    )]
    Unit {
        /// The text as given.
        text: String,
        /// The part that was read as a unit.
        unit: String,
    },
    /// The size does not fit 64 bits.
    #[error("`{text}` is more than 2^64 - 1 bytes")]
    TooLarge {
        /// The text as given.
        text: String,
    },
}

/// Reads a size in bytes.
///
/// Accepts decimal digits followed by an optional unit: `k`, `M`, `G`, `T` or their IEC forms
/// `KiB`, `MiB`, `GiB`, `TiB`, in either case, each a power of 1024.
///
/// # Errors
///
/// [`SizeError`] names the text and what is allowed.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let digits_len = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits_len);
    if digits.is_empty() {
        return Err(SizeError::NotANumber { text: text.into() });
    }
    let too_large = || SizeError::TooLarge { text: text.into() };
    let number: u64 = digits.parse().map_err(|_| too_large())?;
    let shift: u32 = match unit.to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(SizeError::Unit { text: text.into(), unit: unit.into() }),
    };
    number.checked_mul(1 << shift).ok_or_else(too_large)
}

/// A byte count that prints in the largest unit that divides it evenly, so that the text reads
/// back as the same number: `4KiB`, `1GiB`, `1000`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(
    /// Bytes.
    pub u64,
);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, unit) in units {
            if self.0 != 0 && self.0.trailing_zeros() >= shift {
                return f.pad(&format!("{}{unit}", self.0 >> shift));
            }
        }
        f.pad(&self.0.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_unit_in_either_case() {
        let table = [
            ("0", 0),
            ("512", 512),
            ("4k", 4096),
            ("4K", 4096),
            ("4KiB", 4096),
            ("1M", 1 << 20),
            ("1mib", 1 << 20),
            ("3GiB", 3 << 30),
            ("2T", 2 << 40),
            ("18446744073709551615", u64::MAX),
        ];
        for (text, bytes) in table {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refuses_by_name() {
        for (text, part) in [
            ("", "``"),
            ("k", "`k`"),
            ("-1", "`-1`"),
            ("+1", "`+1`"),
            (" 1", "` 1`"),
            ("4KB", "`KB`"),
            ("1.5G", "`.5G`"),
            ("1 k", "` k`"),
            ("4kk", "`kk`"),
            ("18446744073709551616", "2^64"),
            ("16777216T", "2^64"),
        ] {
            let error = parse_size(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn printed_sizes_read_back(bytes: u64, shift in 0_u32..50) {
            let bytes = bytes >> (shift / 2) << (shift / 2);
            prop_assert_eq!(parse_size(&Size(bytes).to_string()), Ok(bytes));
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse_size(&text);
        }
    }
}
