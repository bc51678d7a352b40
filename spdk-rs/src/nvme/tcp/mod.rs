//! NVMe/TCP: the transport's framing, which both sides share, and the host's queue pairs.
//!
//! Sections are those of the NVMe/TCP Transport Specification 1.0.

pub mod digest;
pub mod framing;
pub(crate) mod host;
