//! The drivers: one file or folder each. None of them knows of another; what the two over files
//! share is in [`common`], what those over another device share is in [`layer`].

pub mod aio;
pub mod common;
pub mod delay;
pub mod error;
pub mod layer;
pub mod malloc;
pub mod null;
pub mod nvme;
pub mod passthru;
pub mod split;
#[cfg(test)]
mod tests;
pub mod uring;
