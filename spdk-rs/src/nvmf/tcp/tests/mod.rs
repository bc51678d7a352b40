//! The transport with a real target on reactors of their own, against a host that does as it is
//! told: it speaks NVMe/TCP over a blocking socket from the test's thread.

mod bad_input;
mod bulk;
mod host;
mod io;
mod limits;
mod rig;
