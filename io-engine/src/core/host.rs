//! Who an NVMe-oF host is: its qualified name and its identifier.

use uuid::Uuid;

/// What an NQN with a UUID begins with (NVMe Base Specification 2.0, section 4.5).
const UUID_PREFIX: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// Under which host identifiers are made out of names.
const NAMES: Uuid = Uuid::from_u128(0x4f32_66a7_9c1d_4a4b_8f0e_6d1b_1c60_52e7);

/// A host's name and identifier. One name always has the same identifier, so that reservations
/// outlive the process and targets that check the pair are content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostIdentity {
    /// NVMe qualified name.
    pub nqn: String,
    /// Host identifier.
    pub id: Uuid,
}

impl HostIdentity {
    /// A host that nobody knows.
    #[must_use]
    pub fn random() -> Self {
        let id = Uuid::new_v4();
        Self { nqn: format!("{UUID_PREFIX}{id}"), id }
    }

    /// The host of a name: its identifier is the UUID in the name, or made out of the name.
    #[must_use]
    pub fn named(nqn: &str) -> Self {
        let inside = nqn.strip_prefix(UUID_PREFIX).and_then(|text| Uuid::try_parse(text).ok());
        let id = inside.filter(|uuid| !uuid.is_nil());
        Self { nqn: nqn.to_owned(), id: id.unwrap_or_else(|| Uuid::new_v5(&NAMES, nqn.as_bytes())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_identifier() {
        let uuid = "0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60";
        let named = HostIdentity::named(&format!("{UUID_PREFIX}{uuid}"));
        assert_eq!(named.id.to_string(), uuid);
        let (a, b) = ("nqn.2016-06.io.spdk:a", "nqn.2016-06.io.spdk:b");
        assert_eq!(HostIdentity::named(a), HostIdentity::named(a));
        assert_ne!(HostIdentity::named(a).id, HostIdentity::named(b).id);
        assert!(!HostIdentity::named(&format!("{UUID_PREFIX}{}", Uuid::nil())).id.is_nil());
        let random = HostIdentity::random();
        assert_eq!(HostIdentity::named(&random.nqn), random);
        assert_ne!(random, HostIdentity::random());
    }
}
