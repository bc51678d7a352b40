//! What can be wrong with a request of the control plane.

use thiserror::Error;

use super::super::subsystem::NqnError;
use crate::bdev::ClaimError;
use crate::nvmf::reservation::PersistError;
use crate::nvmf::transport::TransportKind;
use crate::reactor::ReactorGone;

/// Coarse kinds of [`NvmfError`], for mapping to the codes of an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NvmfErrorKind {
    /// A parameter is not allowed.
    Invalid,
    /// What was named does not exist.
    NotFound,
    /// It exists already.
    Exists,
    /// Somebody else uses it.
    Busy,
    /// A limit was reached.
    Full,
    /// The system refused.
    Io,
}

/// Why a control operation on the target failed. Nothing was changed then.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NvmfError {
    /// A qualified name is malformed.
    #[error("'{nqn}' is no NVMe qualified name: {source}")]
    Nqn {
        /// The name.
        nqn: String,
        /// What is wrong with it.
        #[source]
        source: NqnError,
    },
    /// A parameter is out of its range.
    #[error("{parameter} is {value}; allowed: {allowed}")]
    Invalid {
        /// The parameter's name.
        parameter: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// There is no such thing.
    #[error("there is no {what} {name}")]
    NotFound {
        /// Its sort.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// There is one already.
    #[error("{what} {name} exists already")]
    Exists {
        /// Its sort.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A limit is reached.
    #[error("there can be no more than {limit} {what}")]
    Full {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u32,
    },
    /// The device cannot be had.
    #[error(transparent)]
    Claim(#[from] ClaimError),
    /// A driver gives no channel to the device.
    #[error("cannot open device '{device}' on every reactor")]
    Open {
        /// The device.
        device: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file of the reservations cannot be used.
    #[error(transparent)]
    Reservations(#[from] PersistError),
    /// No transport of the kind was created.
    #[error("there is no {0} transport; create one first")]
    NoTransport(TransportKind),
    /// The transport cannot listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A reactor has ended.
    #[error(transparent)]
    Reactor(#[from] ReactorGone),
}

impl NvmfError {
    /// The coarse kind.
    #[must_use]
    pub fn kind(&self) -> NvmfErrorKind {
        match self {
            Self::Nqn { .. } | Self::Invalid { .. } => NvmfErrorKind::Invalid,
            Self::NotFound { .. } | Self::NoTransport(_) => NvmfErrorKind::NotFound,
            Self::Exists { .. } => NvmfErrorKind::Exists,
            Self::Full { .. } => NvmfErrorKind::Full,
            Self::Claim(_) => NvmfErrorKind::Busy,
            Self::Listen { .. } | Self::Open { .. } | Self::Reservations(_) | Self::Reactor(_) => {
                NvmfErrorKind::Io
            }
        }
    }

    pub(in crate::nvmf) fn not_found(what: &'static str, name: impl ToString) -> Self {
        Self::NotFound { what, name: name.to_string() }
    }

    pub(in crate::nvmf) fn exists(what: &'static str, name: impl ToString) -> Self {
        Self::Exists { what, name: name.to_string() }
    }

    pub(in crate::nvmf) fn invalid(
        parameter: &'static str,
        value: impl ToString,
        allowed: impl ToString,
    ) -> Self {
        Self::Invalid { parameter, value: value.to_string(), allowed: allowed.to_string() }
    }
}
