//! Reservations: which hosts may use a namespace (NVMe Base Specification 2.0, section 8.19).
//!
//! [`ReservationState`] is the state machine, without I/O or time. [`NsReservations`] keeps one per
//! namespace for all cores: it runs one command at a time, writes what has to persist through a
//! loss of power, and gives every core an [`AccessView`] to check commands against.
//!
//! Invariants:
//! * a command ends only after its effect is on the medium (with persistence) and every core
//!   checks against it;
//! * a command that fails has no effect.

mod access;
mod persist;
mod shared;
mod state;
#[cfg(test)]
mod tests;

pub use access::AccessView;
pub use persist::PersistError;
pub use shared::{Notify, NsReservations, ReservationNotice, ReservationOptions};
pub use state::{Effects, Notice, NoticeKind, REGISTRANTS_MAX, ReservationState};
