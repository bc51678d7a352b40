//! Compare and write as one operation (NVM Command Set Specification 1.0, section 3.4).

use std::rc::Rc;

use super::super::core_view::NsView;
use super::super::qpair::Attached;
use super::super::request::Request;
use super::start::{Command, admit};
use super::transfer::{Range, brought_range};
use super::{for_host, task};
use crate::NvmeStatus;
use crate::bdev::{IoBuf, IoHandle};
use crate::env::DmaBuf;
use crate::nvme::spec::opcode::nvm;

/// Carries out a pair whose second command has come right after its first.
pub(crate) fn pair(attached: &Attached, mut first: Request, mut second: Request) {
    if second.sqe().opcode != nvm::WRITE {
        first.finish(NvmeStatus::ABORTED_MISSING_FUSED);
        return second.finish(NvmeStatus::INVALID_OPCODE);
    }
    let checked = admit(attached, first.sqe())
        .and_then(|ns| admit(attached, second.sqe()).map(|other| (ns, other)))
        .and_then(|(ns, other)| check(&ns, &other, &mut first, &mut second));
    let (ns, range, [expected, new]) = match checked {
        Ok(checked) => checked,
        Err(status) => return end(first, second, (status, status)),
    };
    let qpair = Rc::clone(first.qpair());
    qpair.occupy(first.place(), &ns);
    qpair.occupy(second.place(), &ns);
    qpair.reactor().spawn("compare and write", async move {
        let statuses = run(&second, &ns, &range, expected, new).await;
        end(first, second, statuses);
    });
}

/// Ends both, the first one first.
fn end(first: Request, second: Request, statuses: (NvmeStatus, NvmeStatus)) {
    first.finish(for_host(statuses.0));
    second.finish(for_host(statuses.1));
}

type Checked = (Rc<NsView>, Range, [IoBuf; 2]);

/// Both commands name the same blocks of the same namespace and have brought as much data.
fn check(
    ns: &Rc<NsView>,
    other: &Rc<NsView>,
    first: &mut Request,
    second: &mut Request,
) -> Result<Checked, NvmeStatus> {
    let command = |request: &mut Request| Command {
        sqe: *request.sqe(),
        data_len: request.data_len(),
        data: request.take_data(),
    };
    let (compare, write) = (command(first), command(second));
    let one = brought_range(first.qpair(), ns, &compare)?;
    let two = brought_range(second.qpair(), other, &write)?;
    if !Rc::ptr_eq(ns, other) || (one.slba, one.blocks) != (two.slba, two.blocks) {
        return Err(NvmeStatus::INVALID_FIELD);
    }
    Ok((Rc::clone(ns), one, [compare.data, write.data]))
}

/// The status of the compare and that of the write.
async fn run(
    second: &Request,
    ns: &NsView,
    range: &Range,
    expected: IoBuf,
    new: IoBuf,
) -> (NvmeStatus, NvmeStatus) {
    let handle = ns.handle();
    let (expected, new) = (one(handle, expected).await, one(handle, new).await);
    task::slot(handle).await;
    let done = handle.compare_and_write(expected, new, range.slba, range.blocks).await;
    let fua = crate::nvme::spec::nvm::BlockCommand(second.sqe()).control().fua();
    let mut status = done.status;
    if status.is_success() && fua && handle.bdev().info().write_cache {
        status = super::flush::device(handle).await;
    }
    match status {
        NvmeStatus::SUCCESS => (NvmeStatus::SUCCESS, NvmeStatus::SUCCESS),
        // The compare failed: the write has not begun.
        NvmeStatus::COMPARE_FAILURE => (status, NvmeStatus::ABORTED_FAILED_FUSED),
        other => (NvmeStatus::ABORTED_FAILED_FUSED, other),
    }
}

/// The data in one buffer, copied there when they came in several.
async fn one(handle: &IoHandle, data: IoBuf) -> DmaBuf {
    let list = match data {
        IoBuf::One(buf) => return buf,
        other => other.into_list(),
    };
    let pieces = list.map(|list| list.into_bufs()).unwrap_or_default();
    let len = pieces.iter().map(DmaBuf::len).sum::<usize>().max(1);
    let mut whole = task::buffer(handle, len).await;
    let mut at = 0;
    for piece in &pieces {
        whole.as_mut_slice()[at..at + piece.len()].copy_from_slice(piece.as_slice());
        at += piece.len();
    }
    whole
}
