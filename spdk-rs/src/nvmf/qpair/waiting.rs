//! Commands that wait for memory.

use std::rc::Rc;

use super::Qpair;
use crate::NvmeStatus;
use crate::bdev::IoBuf;

impl Qpair {
    /// Tries the commands that wait, oldest first, until one has to go on waiting.
    pub(crate) fn retry_waiting(self: &Rc<Self>) {}

    pub(super) fn drop_waiting(self: &Rc<Self>) {
        while let Some((at, _)) = self.slots.next_waiting() {
            self.respond(at, NvmeStatus::ABORTED_SQ_DELETION, 0, IoBuf::None, 0);
        }
    }
}
