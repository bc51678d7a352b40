//! What the block API refuses.

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::IoType;
use spdk_rs::env::MemoryError;
use thiserror::Error;

use crate::bdev::BdevError;
use crate::core::CoreError;
use crate::pool::allocator::{AllocError, Block, BlockError, SpaceError};

/// Why the block API could not do what it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlockApiError {
    /// An option has a value that it cannot have.
    #[error("{option} {value}: {allowed}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// The device cannot be made.
    #[error(transparent)]
    Bdev(#[from] BdevError),
    /// The device cannot be opened, claimed or reached.
    #[error(transparent)]
    Core(#[from] CoreError),
    /// The space cannot be allocated from.
    #[error(transparent)]
    Space(#[from] SpaceError),
    /// There are not so many blocks.
    #[error(transparent)]
    Alloc(#[from] AllocError),
    /// A block is not allocated as it is described.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// There is no buffer.
    #[error("no buffer for an I/O")]
    Memory(#[from] MemoryError),
    /// An I/O is no whole number of the device's blocks.
    #[error(
        "{len} bytes at {offset} of a block: device '{device}' does multiples of {block_len} bytes, \
         and at least that many"
    )]
    Unaligned {
        /// The device.
        device: String,
        /// Where the I/O begins in the block, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// The device's block size in bytes.
        block_len: u64,
    },
    /// An I/O reaches beyond its block.
    #[error("{len} bytes at {offset} reach beyond the {block}")]
    Beyond {
        /// The block.
        block: Block,
        /// Where the I/O begins in the block, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// The device ended an I/O with an error.
    #[error("the {kind} of {len} bytes at {offset} of the {block} on '{device}' failed: {status}")]
    Io {
        /// The device.
        device: String,
        /// What was asked for.
        kind: IoType,
        /// The block.
        block: Block,
        /// Where the I/O begins in the block, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// How it ended.
        status: NvmeStatus,
    },
    /// The record of what is allocated cannot be read or written.
    #[error(
        "the {kind} of {len} bytes at {offset} of '{device}', for the record of what is allocated, \
         failed: {status}"
    )]
    Record {
        /// The device.
        device: String,
        /// What was asked for.
        kind: IoType,
        /// Where on the device, in bytes.
        offset: u64,
        /// Its length in bytes.
        len: u64,
        /// How it ended.
        status: NvmeStatus,
    },
    /// The record of what is allocated says what cannot be, or is not known.
    #[error("the record of what is allocated on '{device}' cannot be used: {problem}")]
    Damaged {
        /// The device.
        device: String,
        /// What is wrong.
        problem: String,
    },
    /// A magazine hands out blocks without a record of them.
    #[error(
        "what is allocated on '{device}' is recorded there; allocate and free with the store, not \
         from a magazine"
    )]
    Recorded {
        /// The device.
        device: String,
    },
    /// The store was closed.
    #[error("the blocks of device '{device}' are closed")]
    Closed {
        /// The device.
        device: String,
    },
    /// There is no store of that name.
    #[error("no blocks are managed on a device '{name}'; block_create does that")]
    NotFound {
        /// The name.
        name: String,
    },
    /// A thread that must not wait, or that has no reactor, asked for what needs the other.
    #[error("{0}")]
    WrongThread(&'static str),
}
