//! Faults on demand: what happens to the I/O of a device, when, how often and to which blocks.
//!
//! An injection is an interceptor of the block device layer, so that a fault is seen by every
//! consumer of the device. A device without injections pays nothing for them.
//!
//! Invariants:
//! * an I/O that does not fit costs comparisons; what is counted is counted once it fits;
//! * no lock is taken: what cores share is counted by atomics, and what was on a device before is
//!   kept by one reactor, which the others ask by message;
//! * a fault happens `retries` times over all cores, never more, and never less when enough fits;
//! * all that is random comes from the seed and the number of the hit;
//! * the buffers of a consumer are never changed by a fault of its write.

mod data;
mod delay;
mod error;
mod hook;
mod injection;
mod kind;
mod manager;
mod operation;
mod random;
mod removal;
mod reorder;
mod shadow;
mod spec;
mod tracker;

pub use delay::Delay;
pub use error::FaultError;
pub use kind::{CorruptByte, Kind, Reorder};
pub use manager::{FaultInjections, InjectionInfo};
pub use operation::Stage;
pub use spec::{InjectionSpec, SCHEME};
