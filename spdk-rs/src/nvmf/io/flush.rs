//! Flush: of one namespace, or of all.

use std::rc::Rc;

use super::super::core_view::NsView;
use super::super::qpair::{Attached, Qpair, SlotRef};
use super::start::{Command, Outcome, check};
use super::task;
use super::transfer::submit;
use crate::NvmeStatus;
use crate::bdev::{IoBuf, IoHandle, IoRequest, IoType};
use crate::nvme::spec::opcode::nvm;

/// Whether a device has nothing to flush: it loses no completed write, and knows no flush.
fn has_none(handle: &IoHandle) -> bool {
    let bdev = handle.bdev();
    !bdev.info().write_cache && !bdev.io_types().contains(IoType::Flush)
}

/// Flushes a namespace.
pub(super) fn one(qpair: &Rc<Qpair>, at: SlotRef, ns: &Rc<NsView>, command: Command) -> Outcome {
    let handle = ns.handle();
    if has_none(handle) {
        return Outcome::Ended(NvmeStatus::SUCCESS, command.data);
    }
    let blocks = handle.num_blocks();
    let request = IoRequest::new(IoType::Flush, 0, blocks, IoBuf::None);
    submit(qpair, at, ns, request, command, 0)
}

/// Flushes a device from a task.
pub(super) async fn device(handle: &IoHandle) -> NvmeStatus {
    if has_none(handle) {
        return NvmeStatus::SUCCESS;
    }
    task::slot(handle).await;
    handle.flush().await.status
}

/// Flushes every namespace that can be reached on this path; the first failure is the result.
pub(super) async fn all(attached: &Attached) -> NvmeStatus {
    let mut result = NvmeStatus::SUCCESS;
    for ns in attached.subsystem.namespaces() {
        ns.enter();
        let status = match check(attached, &ns, nvm::FLUSH) {
            Ok(()) => device(ns.handle()).await,
            Err(status) => status,
        };
        ns.leave();
        if result.is_success() {
            result = status;
        }
    }
    result
}
