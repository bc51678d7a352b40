//! How NVMe/TCP cuts a byte stream into PDUs, for a controller and for a host.
//!
//! A [`Receiver`] is given bytes where it asked for them and reports PDUs one [`Step`] at a time; a
//! [`Framer`] writes the headers of PDUs that go out. Neither knows a socket or a clock.
//!
//! Invariants:
//! * a PDU is reported only after its header was found right, and its header digest too;
//! * payload goes to its destination: what arrived together with headers is copied there, the rest
//!   is received there;
//! * an error of the stream is fatal and reported once; nothing that comes after it is looked at;
//! * a wrong data digest is not fatal: it is told with the payload.

mod ahead;
mod check;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod pdu;
mod receiver;
#[cfg(test)]
mod tests;
mod transmit;

pub use ahead::{Coming, Displaced};
pub use check::{ALIGNMENT_MAX, ReceiveRules, Role};
pub use error::{FatalError, FatalStatus};
pub use pdu::{DataPdu, IcReq, IcResp, Pdu, PduType, R2t, TermReq};
pub use receiver::{Destinations, Place, Receiver, Step};
pub use transmit::{Framer, HEADER_SPACE_BYTES, HeaderSpace};
