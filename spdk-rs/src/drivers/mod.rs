//! The drivers: one file or folder each. None of them knows of another; what the two over files
//! share is in [`common`].

pub mod aio;
pub mod common;
pub mod malloc;
pub mod null;
pub mod nvme;
#[cfg(test)]
mod tests;
pub mod uring;
