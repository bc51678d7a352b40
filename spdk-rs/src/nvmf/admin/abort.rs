//! Abort (section 5.1): a command that has not begun is ended, wherever its queue is.

use std::rc::Rc;

use super::AdminQueue;
use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::nvmf::controller::LocalQueues;
use crate::nvmf::qpair::AbortOutcome;
use crate::nvmf::request::Request;

/// Abort commands that may be outstanding at once (ACL + 1).
pub(super) const ABORTS_MAX: u8 = 4;

/// Executes an Abort. Bit 0 of the result is 0 when the command was aborted.
pub(super) fn abort(admin: &Rc<AdminQueue>, request: Request) {
    let fields = request.sqe().cdw10.get().to_le_bytes();
    let sqid = u16::from_le_bytes([fields[0], fields[1]]);
    let cid = u16::from_le_bytes([fields[2], fields[3]]);
    if sqid == 0 {
        let aborted =
            abort_event_request(admin, cid) || request.qpair().abort(cid) == AbortOutcome::Aborted;
        return finish(request, aborted);
    }
    let Some((reactor, key)) = admin.controller.locate(sqid) else {
        return finish(request, false);
    };
    if admin.aborts.get() == ABORTS_MAX {
        return admin.refuse(request, NvmeStatus::ABORT_LIMIT_EXCEEDED);
    }
    admin.aborts.set(admin.aborts.get() + 1);
    let owner = Rc::clone(admin);
    admin.spawn(async move {
        let outcome = reactor
            .call(move |reactor| LocalQueues::of(reactor).find(key).map(|qpair| qpair.abort(cid)))
            .await;
        owner.aborts.set(owner.aborts.get() - 1);
        finish(request, outcome == Ok(Some(AbortOutcome::Aborted)));
    });
}

fn abort_event_request(admin: &AdminQueue, cid: u16) -> bool {
    let found = admin.events.borrow_mut().take(|request| request.sqe().cid.get() == cid);
    let aborted = found.is_some();
    if let Some(request) = found {
        request.finish(NvmeStatus::ABORTED_BY_REQUEST);
    }
    aborted
}

fn finish(request: Request, aborted: bool) {
    request.complete(NvmeStatus::SUCCESS, u64::from(!aborted), IoBuf::None);
}
