//! Why a controller cannot be connected or asked.

use std::time::Duration;

use thiserror::Error;

use crate::NvmeStatus;
use crate::net::NetError;
use crate::nvme::spec::ReadError;
use crate::nvme::spec::fabrics::FabricsStatus;

/// Why a controller cannot be connected or asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No connection.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The connection was set up wrongly by the controller.
    #[error("the controller's answer to the connection request is wrong: {why}")]
    Handshake {
        /// What is wrong.
        why: String,
    },
    /// The controller did not answer in time.
    #[error("no answer to '{what}' within {after:?}")]
    Timeout {
        /// The command.
        what: &'static str,
        /// The limit.
        after: Duration,
    },
    /// The connection ended.
    #[error("the connection ended during '{what}'")]
    Closed {
        /// The command.
        what: &'static str,
    },
    /// The controller refused a command.
    #[error("the controller refused '{what}': {status}")]
    Refused {
        /// The command.
        what: &'static str,
        /// How.
        status: NvmeStatus,
    },
    /// The controller refused the Connect command.
    #[error("the controller refused to connect: {}", FabricsStatus(*status))]
    Connect {
        /// How.
        status: NvmeStatus,
    },
    /// The controller's data are not what the specification says.
    #[error("the controller's {what} cannot be used: {why}")]
    Data {
        /// Which data.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// The controller did not become ready.
    #[error("the controller did not become ready within {after:?}, its own limit (CAP.TO)")]
    NotReady {
        /// The limit.
        after: Duration,
    },
    /// The controller reports a fatal error.
    #[error("the controller reports a fatal error (CSTS.CFS)")]
    Fatal,
    /// The PCI function of the controller cannot be used.
    #[error("{why}")]
    Device {
        /// Which, and why.
        why: String,
    },
    /// The PCI function of the controller is not there.
    #[error("{why}")]
    Absent {
        /// Which.
        why: String,
    },
    /// There is no memory for the data.
    #[error("no buffer memory")]
    Memory(#[from] crate::env::MemoryError),
    /// The controller granted no further I/O queue.
    #[error("the controller granted {granted} I/O queues, all of them are in use")]
    NoQueue {
        /// How many it granted.
        granted: u16,
    },
}

impl LinkError {
    /// Data that could not be read.
    pub(crate) fn data(what: &'static str, why: &ReadError) -> Self {
        Self::Data { what, why: why.to_string() }
    }
}
