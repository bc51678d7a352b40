//! NVMe qualified names (NVMe Base Specification 2.0, section 4.5).

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::nvmf::target::NvmfError;

pub use crate::nvme::spec::fabrics::DISCOVERY_NQN;
pub use crate::nvme::spec::text::NQN_LEN_MAX as NQN_MAX_BYTES;

const UUID_PREFIX: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// A valid NVMe qualified name: `nqn.yyyy-mm.reverse.domain:string`, the form with a UUID, or the
/// discovery subsystem's well-known name. At most 223 bytes of UTF-8. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nqn(Arc<str>);

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum NqnError {
    /// Too long.
    #[error("it has {0} bytes, at most 223 are allowed")]
    Length(usize),
    /// The fixed beginning is missing.
    #[error("it has to begin with 'nqn.'")]
    Prefix,
    /// The date is malformed.
    #[error("'nqn.' has to be followed by a date as yyyy-mm and a dot")]
    Date,
    /// The domain is malformed.
    #[error(
        "the date has to be followed by a reverse domain name of letters, digits, '-' and dots"
    )]
    Domain,
    /// There is nothing behind the domain.
    #[error("the domain has to be followed by ':' and a name")]
    Name,
    /// The UUID is malformed.
    #[error("'uuid:' has to be followed by a UUID of 36 characters")]
    Uuid,
    /// A control character.
    #[error("it contains a control character")]
    Control,
}

impl Nqn {
    /// The name, if it is valid.
    ///
    /// # Errors
    /// [`NvmfError::Nqn`], which says what is wrong.
    pub fn new(text: &str) -> Result<Self, NvmfError> {
        match check(text) {
            Ok(()) => Ok(Self(text.into())),
            Err(source) => Err(NvmfError::Nqn { nqn: text.to_owned(), source }),
        }
    }

    /// The well-known discovery name.
    #[must_use]
    pub fn discovery() -> Self {
        Self(DISCOVERY_NQN.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the well-known discovery name.
    #[must_use]
    pub fn is_discovery(&self) -> bool {
        &*self.0 == DISCOVERY_NQN
    }
}

fn check(text: &str) -> Result<(), NqnError> {
    if text.len() > NQN_MAX_BYTES {
        return Err(NqnError::Length(text.len()));
    }
    if text.chars().any(char::is_control) {
        return Err(NqnError::Control);
    }
    if text == DISCOVERY_NQN {
        return Ok(());
    }
    if let Some(uuid) = text.strip_prefix(UUID_PREFIX) {
        return check_uuid(uuid);
    }
    let rest = text.strip_prefix("nqn.").ok_or(NqnError::Prefix)?;
    let rest = check_date(rest)?;
    let (domain, name) = rest.split_once(':').ok_or(NqnError::Name)?;
    let label_ok = |label: &str| {
        let edges = [label.bytes().next(), label.bytes().last()];
        (1..=63).contains(&label.len())
            && edges.iter().flatten().all(u8::is_ascii_alphanumeric)
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if !domain.split('.').all(label_ok) {
        return Err(NqnError::Domain);
    }
    if name.is_empty() { Err(NqnError::Name) } else { Ok(()) }
}

fn check_uuid(uuid: &str) -> Result<(), NqnError> {
    let dash = |index| matches!(index, 8 | 13 | 18 | 23);
    let ok = |(index, byte): (usize, u8)| {
        if dash(index) { byte == b'-' } else { byte.is_ascii_hexdigit() }
    };
    if uuid.len() == 36 && uuid.bytes().enumerate().all(ok) { Ok(()) } else { Err(NqnError::Uuid) }
}

/// Checks `yyyy-mm.` and returns what follows.
fn check_date(text: &str) -> Result<&str, NqnError> {
    let (date, rest) = text.split_once('.').ok_or(NqnError::Date)?;
    let (year, month) = date.split_once('-').ok_or(NqnError::Date)?;
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    let month_ok = digits(month, 2) && month.parse().is_ok_and(|m: u8| (1..=12).contains(&m));
    if digits(year, 4) && month_ok { Ok(rest) } else { Err(NqnError::Date) }
}

impl fmt::Display for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Nqn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Nqn({})", self.0)
    }
}

impl std::borrow::Borrow<str> for Nqn {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn why(text: &str) -> Result<(), NqnError> {
        check(text)
    }

    #[test]
    fn names_that_people_use() {
        for good in [
            DISCOVERY_NQN,
            "nqn.2016-06.io.spdk:cnode1",
            "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-55555555abCD",
            "nqn.2019-12.com.3par-x:a b:c:ü",
        ] {
            assert_eq!(why(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn each_fault_has_its_reason() {
        for (bad, reason) in [
            ("", NqnError::Prefix),
            ("iqn.2016-06.io.spdk:a", NqnError::Prefix),
            ("nqn.16-06.io.spdk:a", NqnError::Date),
            ("nqn.2016-13.io.spdk:a", NqnError::Date),
            ("nqn.2016-00.io.spdk:a", NqnError::Date),
            ("nqn.2016-6.io.spdk:a", NqnError::Date),
            ("nqn.2016-06", NqnError::Date),
            ("nqn.2016-06.io.spdk", NqnError::Name),
            ("nqn.2016-06.io.spdk:", NqnError::Name),
            ("nqn.2016-06.:a", NqnError::Domain),
            ("nqn.2016-06.io..spdk:a", NqnError::Domain),
            ("nqn.2016-06.io.-spdk:a", NqnError::Domain),
            ("nqn.2016-06.io.spdk-:a", NqnError::Domain),
            ("nqn.2016-06.io.sp_dk:a", NqnError::Domain),
            ("nqn.2016-06.io.spdk:a\n", NqnError::Control),
            ("nqn.2014-08.org.nvmexpress:uuid:1111", NqnError::Uuid),
            (
                "nqn.2014-08.org.nvmexpress:uuid:1111111122223333444455555555abcdef12",
                NqnError::Uuid,
            ),
        ] {
            assert_eq!(why(bad), Err(reason), "{bad}");
        }
        let label = "a".repeat(64);
        assert_eq!(why(&format!("nqn.2016-06.{label}:a")), Err(NqnError::Domain));
        assert_eq!(why(&format!("nqn.2016-06.{}:a", &label[1..])), Ok(()));
    }

    #[test]
    fn the_length_limit_is_exact() {
        let fill = |len: usize| format!("{:a<len$}", "nqn.2016-06.io.spdk:");
        assert_eq!(why(&fill(223)), Ok(()));
        assert_eq!(why(&fill(224)), Err(NqnError::Length(224)));
    }

    proptest! {
        #[test]
        fn what_is_built_by_the_rule_is_valid(
            year in 0u16..10_000,
            month in 1u8..=12,
            labels in prop::collection::vec("[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", 1..5),
            name in "[ -~]{1,60}",
        ) {
            let text = format!("nqn.{year:04}-{month:02}.{}:{name}", labels.join("."));
            prop_assert!(Nqn::new(&text).is_ok() || text.starts_with(UUID_PREFIX));
        }

        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,300}") {
            if let Ok(nqn) = Nqn::new(&text) {
                prop_assert!(nqn.as_str().starts_with("nqn.") && text.len() <= NQN_MAX_BYTES);
            }
        }
    }
}
