//! The end of a queue pair.

use std::rc::Rc;

use super::core::PcieCore;
use super::pair::PciePair;
use crate::NvmeStatus;
use crate::nvme::controller::LinkError;
use crate::nvme::spec::{Sqe, opcode};

/// The command specific status "invalid queue identifier" (section 5.7).
const INVALID_QUEUE: u8 = 0x01;

impl PciePair {
    /// Ends the pair: has the controller let go of its memory, ends its commands, and tells whoever
    /// listens.
    pub(super) async fn quiesce(self: Rc<Self>) {
        if !self.delete().await {
            self.controller.halt().await;
        }
        // What the controller answered before that is answered.
        while self.take_completions() != 0 {}
        self.end_all();
        PcieCore::of(&self.reactor).remove(&self);
        let listener = self.listener.borrow_mut().take();
        if let Some(listener) = listener {
            let why = self.why.borrow().clone();
            listener.queue_closed(&why);
        }
    }

    /// Deletes an I/O queue in the controller; false when it may still use the queue.
    ///
    /// The deletion of a submission queue completes after its commands (NVMe Base Specification
    /// 2.0, section 5.7), so nothing of them is touched after it.
    async fn delete(&self) -> bool {
        if self.controller.is_halted() {
            return true;
        }
        if self.qid == 0 {
            return false;
        }
        let controller = &self.controller;
        for (code, what) in [
            (opcode::admin::DELETE_IO_SQ, "delete I/O submission queue"),
            (opcode::admin::DELETE_IO_CQ, "delete I/O completion queue"),
        ] {
            let mut sqe = Sqe::new(code, 0);
            sqe.cdw10.set(self.qid.into());
            let done = controller.queue_command(sqe, what).await;
            // A queue that was never made needs no end.
            let absent = |status: &NvmeStatus| {
                status.with_do_not_retry(false) == NvmeStatus::new(1, INVALID_QUEUE)
            };
            if let Err(error) = done
                && !matches!(&error, LinkError::Refused { status, .. } if absent(status))
            {
                let address = controller.address;
                tracing::warn!(%address, qid = self.qid, %error, "an I/O queue cannot be deleted");
                return controller.is_halted();
            }
        }
        true
    }
}
