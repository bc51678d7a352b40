//! The cases that every block device must pass: the 23 that SPDK's bdevio runs, by their titles,
//! and two more for the callback forms and batches.
//!
//! Each is a function over a [`Dut`]. Where a device stores nothing its data are not compared, and
//! every status still is; the difference lies in [`Dut::same`] and [`Dut::compared`] alone.

mod callback;
mod nvme;
mod scalar;
mod vectored;
mod zeroes;

use anyhow::Result;
use futures::future::LocalBoxFuture;

use crate::fixture::Dut;

pub use callback::{batch, callback_forms};
pub use nvme::{nvme_admin_passthru, nvme_passthru_rw, nvme_passthru_vendor_specific};
pub use scalar::{
    copy, reset, write_read_2_blocks_on_overlapped_address_offset, write_read_8_blocks,
    write_read_block, write_read_invalid_size, write_read_max_offset,
    write_read_offset_nbytes_beyond_size_of_blockdev,
    write_read_offset_nbytes_equals_size_of_blockdev, write_read_size_over_128k,
};
pub use vectored::{
    comparev_and_writev, writev_readv_8_blocks, writev_readv_30_x_1_block, writev_readv_block,
    writev_readv_size_over_128k, writev_readv_size_over_128k_in_two_iovs,
};
pub use zeroes::{
    write_zeroes_read_block, write_zeroes_read_no_split, write_zeroes_read_split,
    write_zeroes_read_split_partial,
};

/// A case, to be run on the reactor of its device.
pub type Case = fn(Dut) -> LocalBoxFuture<'static, Result<()>>;

/// Calls a macro with every case: its function and its title.
#[macro_export]
macro_rules! for_each_bdevio_case {
    ($then:ident) => {
        $then! {
            write_read_block "write read block"
            write_zeroes_read_block "write zeroes read block"
            write_zeroes_read_no_split "write zeroes read no split"
            write_zeroes_read_split "write zeroes read split"
            write_zeroes_read_split_partial "write zeroes read split partial"
            reset "reset"
            write_read_8_blocks "write read 8 blocks"
            write_read_size_over_128k "write read size > 128k"
            write_read_invalid_size "write read invalid size"
            write_read_offset_nbytes_equals_size_of_blockdev
                "write read offset + nbytes == size of blockdev"
            write_read_offset_nbytes_beyond_size_of_blockdev
                "write read offset + nbytes > size of blockdev"
            write_read_max_offset "write read max offset"
            write_read_2_blocks_on_overlapped_address_offset
                "write read 2 blocks on overlapped address offset"
            writev_readv_8_blocks "writev readv 8 blocks"
            writev_readv_30_x_1_block "writev readv 30 x 1 block"
            writev_readv_block "writev readv block"
            writev_readv_size_over_128k "writev readv size > 128k"
            writev_readv_size_over_128k_in_two_iovs "writev readv size > 128k in two iovs"
            comparev_and_writev "comparev and writev"
            nvme_passthru_rw "nvme passthru rw"
            nvme_passthru_vendor_specific "nvme passthru vendor specific"
            nvme_admin_passthru "nvme admin passthru"
            copy "copy"
            callback_forms "callback forms"
            batch "batch"
        }
    };
}

/// Why a case is not for a zoned device, whose blocks are written in order and lose what they hold
/// together; none when it is.
#[must_use]
pub fn not_on_zones(case: &str) -> Option<&'static str> {
    Some(match case {
        "write_read_block"
        | "write_zeroes_read_block"
        | "write_zeroes_read_no_split"
        | "write_zeroes_read_split"
        | "write_zeroes_read_split_partial" => {
            "it writes in the midst of blocks that have to stay as they are"
        }
        "write_read_2_blocks_on_overlapped_address_offset"
        | "nvme_passthru_rw"
        | "callback_forms" => "it writes a block a second time and keeps the one before it",
        "write_read_offset_nbytes_equals_size_of_blockdev"
        | "write_read_offset_nbytes_beyond_size_of_blockdev" => {
            "it writes the last blocks of the device, which may be beyond the capacity of a zone"
        }
        "reset" => "a write that was abandoned leaves the one behind it without its place",
        "batch" => "it writes at places far from each other",
        "comparev_and_writev" => "it needs a compare-and-write, which zones do not have",
        "write_read_max_offset" | "copy" => "it needs a copy, which zones do not have",
        _ => return None,
    })
}

macro_rules! table {
    ($($case:ident $title:literal)+) => {
        /// Every case with its title.
        pub const CASES: &[(&str, Case)] = &[$(($title, |dut| Box::pin($case(dut)))),+];
    };
}
for_each_bdevio_case!(table);

const _: () = assert!(CASES.len() == 23 + 2);
