//! The model: what may be found after a cut, and what must.
//!
//! * [`content`]: every block names its writer.
//! * [`explain`]: whether some of the operations, in some order, lead to what was found.

pub mod content;
pub mod explain;
