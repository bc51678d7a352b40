//! I/O of a device that lies on another one, done by the other one as it is.
#![allow(unsafe_code, reason = "the I/O below brings the I/O above to its end by address")]

use std::ptr::NonNull;

use super::below::in_range;
use super::core::{BdevCore, NO_SLOT, Request};
use super::handle::IoHandle;
use super::io::{BdevIo, IoFlags};
use super::slot::Done;
use super::{IoBuf, IoType};
use crate::NvmeStatus;
use crate::env::iovec::total_len;

impl IoHandle {
    /// Does an I/O of a device above on this device; it ends as the one below does.
    ///
    /// The I/O keeps its memory, which both use. It is checked as any other: what is refused ends
    /// at once.
    #[inline]
    pub fn forward(&self, io: BdevIo) {
        self.forward_at(io, 0);
    }

    /// The same for a device above whose first block is block `first` of this one. Not for NVMe
    /// commands and zones, which carry places of their own.
    #[inline]
    pub fn forward_at(&self, io: BdevIo, first: u64) {
        if let Err(status) = self.check_forwarded(&io, first) {
            return io.complete(status);
        }
        let (kind, num_blocks) = (io.kind(), io.num_blocks());
        let few = io.iovs().len() <= self.channel().segments_max;
        let command =
            matches!(kind, IoType::NvmeAdmin | IoType::NvmeIo).then(|| *io.nvme_command());
        let request = Request {
            kind,
            flags: io.flags() & IoFlags::FUA,
            offset_blocks: io.offset_blocks().saturating_add(first),
            num_blocks,
            // The first block that a copy reads; of no meaning otherwise.
            argument: io.source_blocks().saturating_add(first),
            iovs: NonNull::from(io.iovs()),
            buf: IoBuf::None,
            done: Done::Nobody,
            tag: 0,
        };
        match self.channel().core().start(self.channel(), request) {
            Ok(mut below) => {
                let slot = below.get_mut();
                if let Some(command) = command {
                    slot.command = command;
                }
                slot.done = std::mem::ManuallyDrop::new(Done::Upper(io.into_slot()));
                if few {
                    BdevCore::submit(self.channel(), below, kind, num_blocks);
                } else {
                    self.channel().submit_slow(below);
                }
            }
            Err(_) => io.complete(NO_SLOT),
        }
    }

    fn check_forwarded(&self, io: &BdevIo, first: u64) -> Result<(), NvmeStatus> {
        let kind = io.kind();
        if kind.modifies() && !self.desc().is_writable() {
            return Err(NvmeStatus::WRITE_TO_READ_ONLY);
        }
        if !self.bdev().io_types().contains(kind) {
            return Err(NvmeStatus::INVALID_OPCODE);
        }
        let place = |block: u64| block.saturating_add(first);
        in_range(self.channel(), kind, place(io.offset_blocks()), io.num_blocks())?;
        if kind == IoType::Copy {
            in_range(self.channel(), kind, place(io.source_blocks()), io.num_blocks())?;
        }
        let bytes = io.num_blocks().saturating_mul(u64::from(self.channel().block_len));
        let wanted = match kind {
            IoType::CompareAndWrite => bytes.saturating_mul(2),
            _ if kind.has_data() => bytes,
            _ => return Ok(()),
        };
        if total_len(io.iovs()) as u64 == wanted {
            Ok(())
        } else {
            Err(NvmeStatus::DATA_SGL_LENGTH_INVALID)
        }
    }
}
