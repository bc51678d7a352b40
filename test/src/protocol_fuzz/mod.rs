//! A host that speaks valid NVMe/TCP and breaks one thing at a time.
//!
//! A *case* is a seed. It runs the whole life of a host (two connections, fabrics, admin and I/O
//! commands, transfers of every kind) and at one PDU of it breaks one field, one digest, or the
//! stream itself. Up to there everything has to go right; after it the target may answer with an
//! error, ask to terminate, or close, but what it sends must stay well formed. Meanwhile a witness
//! on a subsystem of its own does I/O with checked content the whole time.
//!
//! The encoder is written from the specifications and shares nothing with the engine's.

mod mutation;
mod peer;
mod session;
mod wire;
mod witness;

pub use mutation::{Mutation, Target};
pub use peer::{Answer, PeerError};
pub use session::{Case, CaseOutcome, Digests, Ending, baseline, run_case};
pub use witness::Witness;
