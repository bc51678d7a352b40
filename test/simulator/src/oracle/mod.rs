//! The model: what may be found after a cut, and what must.
//!
//! * [`content`]: every block names its writer.
//! * [`history`]: what clients asked for and were told.
//! * [`explain`]: whether some of the operations, in some order, lead to what was found.
//! * [`check`]: the history against what was found.
//! * [`failure`]: the rules, and what breaks them.
//!
//! Invariants:
//! * without a flush, an operation is there or not, but wholly, and in no other order than that
//!   in which clients can have seen it;
//! * what a flush or FUA covers is there; changes of names are durable when they are acknowledged;
//! * a snapshot never changes;
//! * the model knows nothing of how a store works.

pub mod check;
pub mod content;
pub mod explain;
pub mod failure;
pub mod history;

pub use check::{Circumstances, Found, Observed};
pub use content::{Content, Tag};
pub use explain::{Effect, Moment};
pub use failure::{Failure, Rule};
pub use history::{Change, Entry, History, Instance, InstanceId, Outcome, Taken};
