//! Claims: who may write to a device while someone relies on it.

use std::fmt;

use thiserror::Error;

/// What a claim promises its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// Nobody writes; others may claim the same and read.
    ReadOnly,
    /// Nobody but the owner writes; others may read.
    ExclusiveWrite,
}

impl fmt::Display for ClaimKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::ExclusiveWrite => "exclusive write",
        })
    }
}

/// Why a device cannot be opened or claimed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ClaimError {
    /// Someone holds a claim that forbids it.
    #[error("device '{device}' is in use: {holder} holds the {kind} claim on it")]
    Claimed {
        /// The device.
        device: String,
        /// The claim's owner.
        holder: String,
        /// The claim.
        kind: ClaimKind,
    },
    /// Someone has it open for writing.
    #[error("device '{device}' is in use: {writer} has it open for writing")]
    Written {
        /// The device.
        device: String,
        /// Who writes.
        writer: String,
    },
    /// The descriptor was opened for reading.
    #[error("device '{device}' was opened for reading; an exclusive write claim needs writing")]
    NotWritable {
        /// The device.
        device: String,
    },
    /// The device can only be read.
    #[error("device '{device}' is read-only")]
    ReadOnlyDevice {
        /// The device.
        device: String,
    },
    /// The device was removed.
    #[error("device '{device}' was removed")]
    Removed {
        /// The device.
        device: String,
    },
}

/// An open descriptor.
#[derive(Debug)]
struct Opened {
    id: u64,
    owner: String,
    write: bool,
    claim: Option<ClaimKind>,
}

/// The open descriptors of a device and their claims.
///
/// Invariant: under an exclusive claim its owner is the only writer; under read-only claims there
/// is no writer.
#[derive(Debug, Default)]
pub(super) struct Claims {
    opened: Vec<Opened>,
}

impl Claims {
    /// Notes an open descriptor.
    pub(super) fn open(
        &mut self,
        device: &str,
        id: u64,
        owner: &str,
        write: bool,
    ) -> Result<(), ClaimError> {
        if write && let Some((holder, kind)) = self.claims_but(id).next() {
            return Err(claimed(device, holder, kind));
        }
        self.opened.push(Opened { id, owner: owner.to_owned(), write, claim: None });
        Ok(())
    }

    pub(super) fn close(&mut self, id: u64) {
        self.opened.retain(|opened| opened.id != id);
    }

    pub(super) fn claim(
        &mut self,
        device: &str,
        id: u64,
        kind: ClaimKind,
    ) -> Result<(), ClaimError> {
        let conflict =
            self.claims_but(id).find(|&(_, other)| [kind, other] != [ClaimKind::ReadOnly; 2]);
        if let Some((holder, other)) = conflict {
            return Err(claimed(device, holder, other));
        }
        let own_write = self.opened.iter().any(|opened| opened.id == id && opened.write);
        if kind == ClaimKind::ExclusiveWrite && !own_write {
            return Err(ClaimError::NotWritable { device: device.to_owned() });
        }
        let writers =
            |opened: &&Opened| opened.write && (opened.id != id || kind == ClaimKind::ReadOnly);
        if let Some(writer) = self.opened.iter().find(writers) {
            let (device, writer) = (device.to_owned(), writer.owner.clone());
            return Err(ClaimError::Written { device, writer });
        }
        if let Some(own) = self.opened.iter_mut().find(|opened| opened.id == id) {
            own.claim = Some(kind);
        }
        Ok(())
    }

    pub(super) fn release(&mut self, id: u64) {
        if let Some(own) = self.opened.iter_mut().find(|opened| opened.id == id) {
            own.claim = None;
        }
    }

    /// The claims that are held, with their owners.
    pub(super) fn held(&self) -> Vec<(String, ClaimKind)> {
        self.claims_but(0).map(|(owner, kind)| (owner.to_owned(), kind)).collect()
    }

    /// The owners of all open descriptors.
    pub(super) fn openers(&self) -> Vec<String> {
        self.opened.iter().map(|opened| opened.owner.clone()).collect()
    }

    fn claims_but(&self, id: u64) -> impl Iterator<Item = (&str, ClaimKind)> {
        self.opened
            .iter()
            .filter(move |opened| opened.id != id)
            .filter_map(|opened| opened.claim.map(|claim| (opened.owner.as_str(), claim)))
    }
}

fn claimed(device: &str, holder: &str, kind: ClaimKind) -> ClaimError {
    ClaimError::Claimed { device: device.to_owned(), holder: holder.to_owned(), kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exclusive_claim_keeps_writers_out_and_lets_readers_in() {
        let mut claims = Claims::default();
        claims.open("d", 1, "pool p", true).unwrap();
        claims.claim("d", 1, ClaimKind::ExclusiveWrite).unwrap();
        let refused = claims.open("d", 2, "perf", true).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "device 'd' is in use: pool p holds the exclusive write claim on it"
        );
        claims.open("d", 3, "reader", false).unwrap();
        assert!(matches!(
            claims.claim("d", 3, ClaimKind::ReadOnly),
            Err(ClaimError::Claimed { .. })
        ));
        claims.close(1);
        claims.open("d", 2, "perf", true).unwrap();
    }

    #[test]
    fn a_read_only_claim_is_shared_and_refused_while_someone_writes() {
        let mut claims = Claims::default();
        claims.open("d", 1, "writer", true).unwrap();
        claims.open("d", 2, "a", false).unwrap();
        claims.open("d", 3, "b", false).unwrap();
        assert!(matches!(
            claims.claim("d", 2, ClaimKind::ReadOnly),
            Err(ClaimError::Written { .. })
        ));
        claims.close(1);
        claims.claim("d", 2, ClaimKind::ReadOnly).unwrap();
        claims.claim("d", 3, ClaimKind::ReadOnly).unwrap();
        assert_eq!(claims.held().len(), 2);
        assert_eq!(claims.openers(), ["a", "b"]);
        assert!(claims.open("d", 4, "writer", true).is_err());
        claims.release(2);
        assert!(claims.open("d", 4, "writer", true).is_err());
        claims.release(3);
        claims.open("d", 4, "writer", true).unwrap();
    }

    #[test]
    fn a_reader_cannot_claim_writing() {
        let mut claims = Claims::default();
        claims.open("d", 1, "a", false).unwrap();
        assert_eq!(
            claims.claim("d", 1, ClaimKind::ExclusiveWrite),
            Err(ClaimError::NotWritable { device: "d".into() })
        );
    }
}
