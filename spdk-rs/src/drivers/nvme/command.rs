//! From an I/O to a command.
#![allow(unsafe_code, reason = "descriptors lie in the I/O's own memory")]

use zerocopy::IntoBytes;

use crate::NvmeStatus;
use crate::bdev::{BdevIo, IoType, IoTypes, NvmeCommand};
use crate::env::IoVec;
use crate::nvme::controller::link::LinkInfo;
use crate::nvme::controller::queue::CommandData;
use crate::nvme::controller::scan::Namespace;
use crate::nvme::spec::identify::{fuses, oncs};
use crate::nvme::spec::nvm::{BlockControl, CopyRange32, DsmRange, dsm_attribute};
use crate::nvme::spec::{DataDirection, Sqe, opcode};

/// Blocks that one command names at the most: NLB is 0's based and has 16 bits.
pub(super) const COMMAND_BLOCKS_MAX: u64 = 1 << 16;

/// Pieces of memory of one command: those of one data PDU.
pub(super) const SEGMENTS_MAX: usize = 16;

/// The I/O's context word that counts how often it was sent again: answers in the low half, lost
/// connections in the high half.
pub(super) const WORD_TRIES: usize = 0;
/// The context word with the number of the controller that has it.
pub(super) const WORD_CONTROLLER: usize = 1;
/// The context word with the tick from which on it had no path; 0 while it had one.
pub(super) const WORD_WAITS: usize = 2;
/// The first context word of a descriptor that a command sends.
const WORD_DESCRIPTOR: usize = 4;

/// What a namespace can be asked for through a controller.
pub(super) fn io_types(info: &LinkInfo, namespace: &Namespace) -> IoTypes {
    let known = info.identify.oncs.get();
    let mut types = IoTypes::of(&[
        IoType::Read,
        IoType::Write,
        IoType::Flush,
        IoType::Reset,
        IoType::NvmeAdmin,
        IoType::NvmeIo,
    ]);
    let optional = [
        (oncs::COMPARE, IoType::Compare),
        (oncs::DATASET_MANAGEMENT, IoType::Unmap),
        (oncs::WRITE_ZEROES, IoType::WriteZeroes),
    ];
    for (bit, kind) in optional {
        if known & bit != 0 {
            types = types.with(IoTypes::of(&[kind]));
        }
    }
    let copies = known & oncs::COPY != 0 && namespace.copy_blocks_max != 0;
    if copies && info.identify.ocfs.get() & 1 != 0 {
        types = types.with(IoTypes::of(&[IoType::Copy]));
    }
    if info.identify.fuses.get() & fuses::COMPARE_AND_WRITE != 0 && known & oncs::COMPARE != 0 {
        types = types.with(IoTypes::of(&[IoType::CompareAndWrite]));
    }
    if namespace.zones.is_some() {
        // What gives up, copies or replaces blocks wherever they are is not for zones.
        types = types.without(NOT_ZONED).with(ZONED);
    }
    types
}

/// What only namespaces with zones can be asked for.
const ZONED: IoTypes =
    IoTypes::of(&[IoType::ZoneManagement, IoType::ZoneAppend, IoType::ZoneReport]);

/// What namespaces with zones are not asked for.
const NOT_ZONED: IoTypes = IoTypes::of(&[IoType::Unmap, IoType::Copy, IoType::CompareAndWrite]);

/// The command of an I/O that is one command, with its data.
#[inline(always)]
pub(super) fn command_of(io: &mut BdevIo, nsid: u32) -> Result<(Sqe, CommandData), NvmeStatus> {
    match io.kind() {
        IoType::Read => Ok((block(io, opcode::nvm::READ, nsid), CommandData::of(io.iovs()))),
        IoType::Write => Ok((block(io, opcode::nvm::WRITE, nsid), CommandData::of(io.iovs()))),
        _ => other_command(io, nsid),
    }
}

/// A command on the I/O's blocks.
#[inline(always)]
pub(super) fn block(io: &BdevIo, opcode: u8, nsid: u32) -> Sqe {
    // At most as many as the limits of the device allow.
    let blocks = u32::try_from(io.num_blocks()).unwrap_or(u32::MAX);
    let mut sqe = Sqe::block(opcode, nsid, io.offset_blocks(), blocks);
    if io.fua() {
        sqe.cdw12.set(BlockControl(sqe.cdw12.get()).with_fua(true).0);
    }
    sqe
}

fn other_command(io: &mut BdevIo, nsid: u32) -> Result<(Sqe, CommandData), NvmeStatus> {
    match io.kind() {
        IoType::Flush => Ok((Sqe::new(opcode::nvm::FLUSH, nsid), CommandData::None)),
        IoType::Compare => Ok((block(io, opcode::nvm::COMPARE, nsid), CommandData::of(io.iovs()))),
        IoType::WriteZeroes => Ok((block(io, opcode::nvm::WRITE_ZEROES, nsid), CommandData::None)),
        IoType::Unmap => {
            let blocks = u32::try_from(io.num_blocks()).map_err(|_| NvmeStatus::INVALID_FIELD)?;
            let range = DsmRange::new(io.offset_blocks(), blocks);
            let sqe = Sqe::dataset_management(nsid, 1, dsm_attribute::DEALLOCATE);
            Ok((sqe, descriptor(io, range.as_bytes())))
        }
        IoType::Copy => {
            let blocks = u32::try_from(io.num_blocks()).map_err(|_| NvmeStatus::INVALID_FIELD)?;
            let range = CopyRange32::new(io.source_blocks(), blocks);
            let mut sqe = Sqe::copy(nsid, io.offset_blocks(), 1, 0);
            if io.fua() {
                sqe.cdw12.set(sqe.cdw12.get() | 1 << 30);
            }
            Ok((sqe, descriptor(io, range.as_bytes())))
        }
        IoType::ZoneAppend => {
            Ok((block(io, opcode::nvm::ZONE_APPEND, nsid), CommandData::of(io.iovs())))
        }
        IoType::ZoneManagement => {
            let (action, all) = io.zone_action().ok_or(NvmeStatus::INVALID_FIELD)?;
            Ok((Sqe::zone_send(nsid, io.offset_blocks(), action, all), CommandData::None))
        }
        IoType::ZoneReport => {
            let bytes = crate::env::iovec::total_len(io.iovs());
            let bytes = u32::try_from(bytes).map_err(|_| NvmeStatus::INVALID_FIELD)?;
            let sqe = Sqe::zone_report(nsid, io.offset_blocks(), bytes);
            Ok((sqe, CommandData::of(io.iovs())))
        }
        IoType::NvmeIo => passthrough(io.nvme_command(), Some(nsid), io.iovs()),
        _ => Err(NvmeStatus::INVALID_OPCODE),
    }
}

/// Puts a descriptor (at most 32 bytes) where it stays while the command is outstanding.
fn descriptor(io: &mut BdevIo, bytes: &[u8]) -> CommandData {
    let place = io.driver_context()[WORD_DESCRIPTOR..].as_mut_bytes();
    place[..bytes.len()].copy_from_slice(bytes);
    CommandData::One(IoVec::new(place.as_mut_ptr(), bytes.len()))
}

/// A command that is passed on as it is, but for its data pointer and its identifier.
pub(super) fn passthrough(
    command: &NvmeCommand,
    nsid: Option<u32>,
    iovs: &[IoVec],
) -> Result<(Sqe, CommandData), NvmeStatus> {
    let words = &command.0;
    let mut sqe = Sqe::new(command.opcode(), nsid.unwrap_or(words[1]));
    // Fused commands are pairs, which one command is not.
    if words[0] >> 8 & 3 != 0 {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    let bytes = crate::env::iovec::total_len(iovs);
    // Fabrics commands are the driver's own business; both ways at once NVMe/TCP cannot do.
    if sqe.opcode == opcode::FABRICS || sqe.direction() == DataDirection::Bidirectional {
        return Err(NvmeStatus::INVALID_OPCODE);
    }
    if bytes != 0 && sqe.direction() == DataDirection::None {
        return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
    }
    (sqe.cdw2, sqe.cdw3) = (words[2].into(), words[3].into());
    (sqe.cdw10, sqe.cdw11) = (words[10].into(), words[11].into());
    (sqe.cdw12, sqe.cdw13) = (words[12].into(), words[13].into());
    (sqe.cdw14, sqe.cdw15) = (words[14].into(), words[15].into());
    Ok((sqe, CommandData::of(iovs)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_are_passed_on() {
        let mut byte = [0_u8; 512];
        let iovs = [IoVec::new(byte.as_mut_ptr(), byte.len())];
        let command = NvmeCommand::new(opcode::nvm::READ).with_cdw(10, 7);
        let (sqe, _) = passthrough(&command, Some(3), &iovs).unwrap();
        assert_eq!((sqe.opcode, sqe.nsid.get(), sqe.cdw10.get()), (opcode::nvm::READ, 3, 7));
        let refused = |opcode: u8| passthrough(&NvmeCommand::new(opcode), None, &iovs).unwrap_err();
        assert_eq!(refused(0xff), NvmeStatus::INVALID_OPCODE);
        assert_eq!(refused(opcode::FABRICS), NvmeStatus::INVALID_OPCODE);
        assert_eq!(refused(opcode::nvm::FLUSH), NvmeStatus::DATA_SGL_LENGTH_INVALID);
        let mut fused = NvmeCommand::new(opcode::nvm::WRITE);
        fused.0[0] |= 1 << 8;
        assert_eq!(passthrough(&fused, None, &iovs).unwrap_err(), NvmeStatus::INVALID_FIELD);
    }
}
