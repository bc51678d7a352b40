//! The drivers: one file or folder each. None of them knows of another.

pub mod malloc;
pub mod null;
