//! The host's queue pairs over NVMe/TCP.
//!
//! Invariants:
//! * a command's memory is touched by the connection until its end is reported, and not after: a
//!   completion that overtakes data still waiting to be sent is held back until they have left;
//! * everything a controller names (command, offset, length) is checked against what was asked of
//!   it; the first thing that is wrong ends the connection, with a termination request;
//! * sending a command, asking for its data and completing it allocate nothing.

mod connect;
mod entry;
mod pair;
mod receive;
mod send;

pub(crate) use connect::connect;
