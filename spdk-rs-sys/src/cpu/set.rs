//! [`CoreSet`]: an ordered set of processor cores and its two text forms.

use std::collections::{BTreeSet, btree_set};
use std::fmt;
use std::str::FromStr;

/// Number of a logical processor, as the kernel counts them from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CoreId(pub u32);

/// The most cores a set can name: the largest `NR_CPUS` that Linux is built with.
pub const CORES_MAX: u32 = 8192;

impl fmt::Display for CoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text does not name a set of cores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CoreSetError {
    /// The text names no core at all.
    #[error("core set {text:?} names no core; give a mask such as 0x3 or a list such as 0,2-4")]
    Empty {
        /// The text as given.
        text: String,
    },
    /// A mask with a character that is no hexadecimal digit.
    #[error("core mask {text:?}: {digit:?} is not a hexadecimal digit; a mask looks like 0x3")]
    BadDigit {
        /// The text as given.
        text: String,
        /// The first character that does not fit.
        digit: char,
    },
    /// An element of a list that is neither a number nor a range.
    #[error("core list {text:?}: {part:?} is neither a core number nor a range such as 2-4")]
    BadPart {
        /// The text as given.
        text: String,
        /// The element that does not fit.
        part: String,
    },
    /// A range whose end lies before its start.
    #[error("core list {text:?}: range {part:?} ends before it starts")]
    Reversed {
        /// The text as given.
        text: String,
        /// The range as given.
        part: String,
    },
    /// A list that opens a bracket without closing it, or the other way around.
    #[error("core list {text:?}: unbalanced bracket; write [0,2-4] or 0,2-4")]
    Unbalanced {
        /// The text as given.
        text: String,
    },
    /// A core number that no Linux machine can have.
    #[error("core set {text:?}: core {core} is beyond the largest possible core number {max}", max = CORES_MAX - 1)]
    TooLarge {
        /// The text as given.
        text: String,
        /// The core as far as it could be read.
        core: String,
    },
}

/// An ordered set of processor cores.
///
/// `Display` writes the list form with ranges (`0,2-4`), [`CoreSet::mask_hex`] the mask form, and
/// both parse back to the same set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CoreSet {
    cores: BTreeSet<CoreId>,
}

impl CoreSet {
    /// The empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses a hexadecimal mask, with or without `0x`: bit *n* stands for core *n*.
    ///
    /// # Errors
    ///
    /// [`CoreSetError`] when a digit is not hexadecimal, no bit is set, or a bit is beyond
    /// [`CORES_MAX`].
    pub fn parse_mask(text: &str) -> Result<Self, CoreSetError> {
        let trimmed = text.trim();
        let digits =
            trimmed.strip_prefix("0x").or_else(|| trimmed.strip_prefix("0X")).unwrap_or(trimmed);
        let mut set = Self::new();
        let mut base = 0_u64;
        for digit in digits.chars().rev() {
            let Some(bits) = digit.to_digit(16) else {
                return Err(CoreSetError::BadDigit { text: text.to_owned(), digit });
            };
            for bit in (0..4).filter(|bit| bits & (1 << bit) != 0) {
                let core = base + bit;
                match u32::try_from(core) {
                    Ok(core) if core < CORES_MAX => set.insert(CoreId(core)),
                    _ => return Err(too_large(text, &core.to_string())),
                }
            }
            base += 4;
        }
        set.non_empty(text)
    }

    /// Parses a list of cores and ranges, with or without brackets: `0,2-4` or `[0,2-4]`.
    ///
    /// # Errors
    ///
    /// [`CoreSetError`] naming the element that does not fit.
    pub fn parse_list(text: &str) -> Result<Self, CoreSetError> {
        let trimmed = text.trim();
        let inner = match (trimmed.strip_prefix('['), trimmed.ends_with(']')) {
            (Some(rest), true) => &rest[..rest.len() - 1],
            (None, false) => trimmed,
            _ => return Err(CoreSetError::Unbalanced { text: text.to_owned() }),
        };
        let mut set = Self::new();
        if inner.trim().is_empty() {
            return set.non_empty(text);
        }
        for part in inner.split(',').map(str::trim) {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => {
                    (parse_core(text, part, first)?, parse_core(text, part, last)?)
                }
                None => {
                    let core = parse_core(text, part, part)?;
                    (core, core)
                }
            };
            if last < first {
                let (text, part) = (text.to_owned(), part.to_owned());
                return Err(CoreSetError::Reversed { text, part });
            }
            (first..=last).for_each(|core| set.insert(CoreId(core)));
        }
        set.non_empty(text)
    }

    /// Adds a core; adding one twice changes nothing.
    pub fn insert(&mut self, core: CoreId) {
        self.cores.insert(core);
    }

    /// Whether the set holds `core`.
    #[must_use]
    pub fn contains(&self, core: CoreId) -> bool {
        self.cores.contains(&core)
    }

    /// How many cores the set holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cores.len()
    }

    /// Whether the set holds no core.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cores.is_empty()
    }

    /// The lowest core.
    #[must_use]
    pub fn first(&self) -> Option<CoreId> {
        self.cores.first().copied()
    }

    /// The cores in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = CoreId> + ExactSizeIterator + '_ {
        self.cores.iter().copied()
    }

    /// The mask form: `0x` and lower-case digits, `0x0` for the empty set.
    #[must_use]
    pub fn mask_hex(&self) -> String {
        let digits = self.cores.last().map_or(1, |core| core.0 as usize / 4 + 1);
        let mut nibbles = vec![0_u32; digits];
        for core in &self.cores {
            nibbles[core.0 as usize / 4] |= 1 << (core.0 % 4);
        }
        let digits = nibbles.iter().rev().filter_map(|nibble| char::from_digit(*nibble, 16));
        "0x".chars().chain(digits).collect()
    }

    /// The set itself unless it is empty, which a text never may describe.
    fn non_empty(self, text: &str) -> Result<Self, CoreSetError> {
        if self.is_empty() { Err(CoreSetError::Empty { text: text.to_owned() }) } else { Ok(self) }
    }
}

/// Parses one core number of a list element.
fn parse_core(text: &str, part: &str, number: &str) -> Result<u32, CoreSetError> {
    let number = number.trim();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CoreSetError::BadPart { text: text.to_owned(), part: part.to_owned() });
    }
    match number.parse::<u32>() {
        Ok(core) if core < CORES_MAX => Ok(core),
        _ => Err(too_large(text, number)),
    }
}

/// The error for a core number that is out of range.
fn too_large(text: &str, core: &str) -> CoreSetError {
    CoreSetError::TooLarge { text: text.to_owned(), core: core.to_owned() }
}

impl FromStr for CoreSet {
    type Err = CoreSetError;

    /// Parses what SPDK's `-m` takes: a list when it stands in brackets, otherwise a mask.
    fn from_str(text: &str) -> Result<Self, CoreSetError> {
        if text.trim_start().starts_with('[') {
            Self::parse_list(text)
        } else {
            Self::parse_mask(text)
        }
    }
}

impl fmt::Display for CoreSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cores = self.cores.iter().map(|core| core.0).peekable();
        let mut separator = "";
        while let Some(first) = cores.next() {
            let mut last = first;
            while let Some(next) = cores.next_if(|core| *core == last + 1) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl FromIterator<CoreId> for CoreSet {
    fn from_iter<I: IntoIterator<Item = CoreId>>(cores: I) -> Self {
        Self { cores: cores.into_iter().collect() }
    }
}

impl<'a> IntoIterator for &'a CoreSet {
    type Item = CoreId;
    type IntoIter = std::iter::Copied<btree_set::Iter<'a, CoreId>>;

    fn into_iter(self) -> Self::IntoIter {
        self.cores.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(cores: &[u32]) -> CoreSet {
        cores.iter().copied().map(CoreId).collect()
    }

    #[test]
    fn masks_parse() {
        for (text, cores) in [
            ("0x3", &[0, 1][..]),
            ("3", &[0, 1]),
            ("0X10", &[4]),
            (" 0xF0 ", &[4, 5, 6, 7]),
            ("0x0001", &[0]),
            ("80000000000000001", &[0, 67]),
            ("aA", &[1, 3, 5, 7]),
        ] {
            assert_eq!(CoreSet::parse_mask(text), Ok(set(cores)), "{text:?}");
        }
    }

    #[test]
    fn bad_masks_are_refused_by_name() {
        for (text, message) in [
            ("", "names no core"),
            ("0x", "names no core"),
            ("0x0", "names no core"),
            ("0xG", "'G' is not a hexadecimal digit"),
            ("0x1,2", "',' is not a hexadecimal digit"),
            ("-1", "'-' is not a hexadecimal digit"),
        ] {
            let error = CoreSet::parse_mask(text).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains(&format!("{text:?}")), "{error}");
        }
        let high = format!("1{}", "0".repeat(2048));
        let error = CoreSet::parse_mask(&high).unwrap_err().to_string();
        assert!(error.contains("core 8192 is beyond"), "{error}");
        assert_eq!(CoreSet::parse_mask(&high[..high.len() - 1]), Ok(set(&[8188])));
    }

    #[test]
    fn lists_parse() {
        for (text, cores) in [
            ("0", &[0][..]),
            ("0,2-4", &[0, 2, 3, 4]),
            ("[0,2-4]", &[0, 2, 3, 4]),
            (" [ 1 , 3 - 3 ] ", &[1, 3]),
            ("4,0,4", &[0, 4]),
            ("8191", &[8191]),
        ] {
            assert_eq!(CoreSet::parse_list(text), Ok(set(cores)), "{text:?}");
        }
    }

    #[test]
    fn bad_lists_are_refused_by_name() {
        for (text, message) in [
            ("", "names no core"),
            ("[]", "names no core"),
            ("[0", "unbalanced bracket"),
            ("0]", "unbalanced bracket"),
            ("[", "unbalanced bracket"),
            ("0,,1", "\"\" is neither a core number nor a range"),
            ("0,x", "\"x\" is neither"),
            ("1-", "\"1-\" is neither"),
            ("1-2-3", "\"1-2-3\" is neither"),
            ("+1", "\"+1\" is neither"),
            ("4-2", "range \"4-2\" ends before it starts"),
            ("8192", "core 8192 is beyond the largest possible core number 8191"),
            ("0-99999999999", "core 99999999999 is beyond"),
        ] {
            let error = CoreSet::parse_list(text).unwrap_err().to_string();
            assert!(error.contains(message) && error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn either_form_is_told_by_its_bracket() {
        assert_eq!("[10]".parse(), Ok(set(&[10])));
        assert_eq!("10".parse(), Ok(set(&[4])));
    }

    #[test]
    fn display_joins_neighbours() {
        assert_eq!(set(&[0, 2, 3, 4, 6]).to_string(), "0,2-4,6");
        assert_eq!(set(&[]).to_string(), "");
        assert_eq!(set(&[]).mask_hex(), "0x0");
        assert_eq!(set(&[0, 5]).mask_hex(), "0x21");
    }

    proptest! {
        #[test]
        fn both_forms_round_trip(cores in proptest::collection::btree_set(0..CORES_MAX, 1..40)) {
            let set: CoreSet = cores.into_iter().map(CoreId).collect();
            prop_assert_eq!(&CoreSet::parse_list(&set.to_string()).unwrap(), &set);
            prop_assert_eq!(&CoreSet::parse_mask(&set.mask_hex()).unwrap(), &set);
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "[\\[\\]0-9a-fx, -]{0,20}") {
            let _ = text.parse::<CoreSet>();
            let _ = CoreSet::parse_list(&text);
        }
    }
}
