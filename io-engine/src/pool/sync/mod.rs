//! Waiting for each other on one reactor.

mod gate;
mod range_lock;
mod wait_list;

pub(super) use gate::{Closed, Gate, Pass};
pub(super) use range_lock::{RangeGuard, RangeLocks};
pub(super) use wait_list::WaitList;
