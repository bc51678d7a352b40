//! Commands on one range of blocks that are one operation of the device.

use std::rc::Rc;

use super::super::core_view::NsView;
use super::super::qpair::{Qpair, SlotRef};
use super::start::{Command, Outcome};
use super::{for_host, task};
use crate::NvmeStatus;
use crate::bdev::{IoBuf, IoConsumer, IoFlags, IoRequest, IoType};
use crate::nvme::spec::nvm::BlockCommand;

/// A range of blocks, and its length in bytes.
pub(super) struct Range {
    pub(super) slba: u64,
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

/// The range of a command, with the fields checked that all commands on blocks have.
///
/// Namespaces here have no metadata, so nothing may be said of protection information, and there
/// is nothing for a metadata pointer to point at.
#[inline(always)]
pub(super) fn range(ns: &NsView, command: &Command) -> Result<Range, NvmeStatus> {
    let block = BlockCommand(&command.sqe);
    if block.control().prinfo() != 0 {
        return Err(NvmeStatus::INVALID_PROTECTION_INFORMATION);
    }
    if command.sqe.mptr.get() != 0 {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    let blocks = u64::from(block.blocks());
    Ok(Range { slba: block.slba(), blocks, bytes: blocks << ns.block_shift() })
}

/// As [`range`], for a command whose data are those blocks.
#[inline(always)]
pub(super) fn data_range(
    qpair: &Qpair,
    ns: &NsView,
    command: &Command,
) -> Result<Range, NvmeStatus> {
    let range = range(ns, command)?;
    if range.bytes > u64::from(qpair.max_data_len()) {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    if range.bytes != u64::from(command.data_len) {
        return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
    }
    Ok(range)
}

/// As [`data_range`], for data that have come.
#[inline(always)]
pub(super) fn brought_range(
    qpair: &Qpair,
    ns: &NsView,
    command: &Command,
) -> Result<Range, NvmeStatus> {
    let range = data_range(qpair, ns, command)?;
    if command.data.len() as u64 != range.bytes {
        return Err(NvmeStatus::DATA_SGL_LENGTH_INVALID);
    }
    Ok(range)
}

#[inline(always)]
pub(super) fn read(qpair: &Rc<Qpair>, at: SlotRef, ns: &Rc<NsView>, command: Command) -> Outcome {
    let range = match data_range(qpair, ns, &command) {
        Ok(range) => range,
        Err(status) => return Outcome::failed(status, command),
    };
    let fua = BlockCommand(&command.sqe).control().fua();
    let handle = ns.handle();
    if fua && handle.bdev().info().write_cache {
        // The data have to be on the medium before they are returned.
        return task::start(qpair, at, Some(ns), command);
    }
    let mut request = IoRequest::new(IoType::Read, range.slba, range.blocks, IoBuf::None);
    if qpair.info().lend && handle.lends(range.blocks) {
        request.flags |= IoFlags::LEND;
    } else {
        // At most max_data_len, so it fits.
        #[expect(clippy::cast_possible_truncation, reason = "checked against a 32-bit limit")]
        let Ok(buf) = handle.dma_malloc(range.bytes as usize) else {
            return Outcome::Short(command);
        };
        request.buf = IoBuf::One(buf);
    }
    let reply_len = command.data_len;
    submit(qpair, at, ns, request, command, reply_len)
}

#[inline(always)]
pub(super) fn write(
    qpair: &Rc<Qpair>,
    at: SlotRef,
    ns: &Rc<NsView>,
    mut command: Command,
) -> Outcome {
    let range = match brought_range(qpair, ns, &command) {
        Ok(range) => range,
        Err(status) => return Outcome::failed(status, command),
    };
    let fua = BlockCommand(&command.sqe).control().fua();
    let data = std::mem::take(&mut command.data);
    let request = IoRequest::new(IoType::Write, range.slba, range.blocks, data).fua(fua);
    submit(qpair, at, ns, request, command, 0)
}

pub(super) fn compare(
    qpair: &Rc<Qpair>,
    at: SlotRef,
    ns: &Rc<NsView>,
    mut command: Command,
) -> Outcome {
    let range = match brought_range(qpair, ns, &command) {
        Ok(range) => range,
        Err(status) => return Outcome::failed(status, command),
    };
    let data = std::mem::take(&mut command.data);
    let request = IoRequest::new(IoType::Compare, range.slba, range.blocks, data);
    submit(qpair, at, ns, request, command, 0)
}

/// Deallocation (DEAC) is a wish that the device may follow by itself: the blocks have to read as
/// zeroes, which an unmapped block need not.
pub(super) fn write_zeroes(
    qpair: &Rc<Qpair>,
    at: SlotRef,
    ns: &Rc<NsView>,
    command: Command,
) -> Outcome {
    let range = match range(ns, &command) {
        Ok(range) => range,
        Err(status) => return Outcome::failed(status, command),
    };
    let fua = BlockCommand(&command.sqe).control().fua();
    if fua && ns.handle().bdev().info().write_cache {
        // A driver need not know FUA of anything but writes, so a flush follows.
        return task::start(qpair, at, Some(ns), command);
    }
    let kind = IoType::WriteZeroes;
    let request = IoRequest::new(kind, range.slba, range.blocks, IoBuf::None);
    submit(qpair, at, ns, request, command, 0)
}

/// Hands an operation to the device. The data of `command` are those of `request`.
#[inline(always)]
pub(super) fn submit(
    qpair: &Rc<Qpair>,
    at: SlotRef,
    ns: &Rc<NsView>,
    request: IoRequest,
    command: Command,
    reply_len: u32,
) -> Outcome {
    let consumer: Rc<dyn IoConsumer> = Rc::<Qpair>::clone(qpair);
    let (kind, stats) = (request.kind, qpair.stats());
    match ns.handle().submit(request, &consumer, at.tag()) {
        Ok(()) => {
            if kind == IoType::Read {
                stats.reads.add(1);
                stats.read_bytes.add(command.data_len.into());
            } else if kind == IoType::Write {
                stats.writes.add(1);
                stats.write_bytes.add(command.data_len.into());
            }
            Outcome::Device { reply_len }
        }
        Err(refused) => {
            let buf = refused.buf;
            if refused.status == NvmeStatus::NOT_READY {
                // The one refusal that passes: the core has no slot. A read's buffer goes back.
                let data = if reply_len == 0 { buf } else { IoBuf::None };
                return Outcome::Short(Command { data, ..command });
            }
            Outcome::Ended(for_host(refused.status), buf)
        }
    }
}
