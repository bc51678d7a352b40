//! Commands on lists of ranges: dataset management and copy.

use std::borrow::Cow;
use std::rc::Rc;

use super::super::core_view::NsView;
use super::super::request::Request;
use super::limits::{COPY_BLOCKS_MAX, COPY_RANGE_BLOCKS_MAX, COPY_RANGES_MAX};
use super::task::{self, Ended, ended};
use super::{flush, for_host};
use crate::NvmeStatus;
use crate::bdev::{IoBuf, IoHandle};
use crate::nvme::spec::nvm::{
    CopyCommand, CopyRanges, CopySource, DsmCommand, DsmRange, dsm_attribute,
};

/// The data of a command in one piece.
fn bytes(data: &IoBuf) -> Cow<'_, [u8]> {
    match data {
        IoBuf::None | IoBuf::Lent(_) => Cow::Borrowed(&[]),
        IoBuf::One(buf) => Cow::Borrowed(buf.as_slice()),
        IoBuf::List(list) => {
            Cow::Owned(list.bufs().iter().flat_map(|buf| buf.as_slice()).copied().collect())
        }
    }
}

fn inside(handle: &IoHandle, slba: u64, blocks: u64) -> bool {
    slba.checked_add(blocks).is_some_and(|end| end <= handle.num_blocks())
}

/// Gives ranges back to the device. All of them are checked before the first is, and the command
/// ends when all have ended; the first failure is its result. Attributes other than deallocation
/// are hints.
pub(super) async fn manage(request: &Request, ns: &Rc<NsView>) -> NvmeStatus {
    let command = DsmCommand(request.sqe());
    let data = bytes(request.buf());
    let Ok(ranges) = DsmRange::read(&data, command.ranges()) else {
        return NvmeStatus::DATA_SGL_LENGTH_INVALID;
    };
    if command.attributes() & dsm_attribute::DEALLOCATE == 0 {
        return NvmeStatus::SUCCESS;
    }
    let handle = ns.handle();
    if !ranges.iter().all(|range| inside(handle, range.slba.get(), range.blocks.get().into())) {
        return NvmeStatus::LBA_OUT_OF_RANGE;
    }
    let mut under_way = Vec::with_capacity(ranges.len());
    for range in ranges.iter().filter(|range| range.blocks.get() != 0) {
        task::slot(handle).await;
        under_way.push(handle.unmap(range.slba.get(), range.blocks.get().into()));
    }
    let mut result = NvmeStatus::SUCCESS;
    for one in under_way {
        let status = one.await.status;
        if result.is_success() {
            result = status;
        }
    }
    result
}

/// Copies ranges one after the other to consecutive blocks. When one fails, dword 0 of the
/// completion entry is its number (NVM Command Set Specification 1.0, section 3.2.2).
pub(super) async fn copy(request: &Request, ns: &Rc<NsView>) -> Ended {
    let data = bytes(request.buf());
    let sources = match copy_sources(request, ns.handle(), &data) {
        Ok(sources) => sources,
        Err(status) => return ended(status),
    };
    let (handle, command) = (ns.handle(), CopyCommand(request.sqe()));
    let mut to = command.sdlba();
    for (number, source) in sources.iter().enumerate() {
        let blocks = u64::from(source.blocks);
        task::slot(handle).await;
        let status = handle.copy(to, source.slba, blocks).await.status;
        if !status.is_success() {
            return (for_host(status), number as u64, IoBuf::None);
        }
        to += blocks;
    }
    if command.control().fua() && handle.bdev().info().write_cache {
        return ended(flush::device(handle).await);
    }
    ended(NvmeStatus::SUCCESS)
}

/// The source ranges of a copy, checked.
fn copy_sources(
    request: &Request,
    handle: &IoHandle,
    data: &[u8],
) -> Result<Vec<CopySource>, NvmeStatus> {
    let command = CopyCommand(request.sqe());
    let control = command.control();
    if control.prinfor() != 0 || control.prinfow() != 0 {
        return Err(NvmeStatus::INVALID_PROTECTION_INFORMATION);
    }
    if control.format() != 0 {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    if command.ranges() > COPY_RANGES_MAX {
        return Err(NvmeStatus::COMMAND_SIZE_LIMIT_EXCEEDED);
    }
    let ranges = CopyRanges::read(data, 0, command.ranges())
        .map_err(|_| NvmeStatus::DATA_SGL_LENGTH_INVALID)?;
    let sources: Vec<_> = ranges.iter().collect();
    if sources.iter().any(|source| source.blocks > u32::from(COPY_RANGE_BLOCKS_MAX)) {
        return Err(NvmeStatus::COMMAND_SIZE_LIMIT_EXCEEDED);
    }
    let total: u64 = sources.iter().map(|source| u64::from(source.blocks)).sum();
    if total > u64::from(COPY_BLOCKS_MAX) {
        return Err(NvmeStatus::COMMAND_SIZE_LIMIT_EXCEEDED);
    }
    let whole = sources.iter().all(|source| inside(handle, source.slba, source.blocks.into()));
    if !whole || !inside(handle, command.sdlba(), total) {
        return Err(NvmeStatus::LBA_OUT_OF_RANGE);
    }
    Ok(sources)
}
