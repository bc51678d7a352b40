//! The block allocator of io-engine, compiled alone from the same sources.
#![forbid(unsafe_code)]

#[path = "../../../io-engine/src/pool/allocator/mod.rs"]
pub mod allocator;
