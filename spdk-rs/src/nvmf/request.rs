//! A command that somebody has to answer.

use std::rc::Rc;

use super::qpair::{Qpair, SlotRef};
use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::nvme::spec::Sqe;

/// A command on its way through the core: whoever holds it owes the answer, once.
///
/// The token cannot be cloned, and completing consumes it. One that is dropped is answered with
/// [`NvmeStatus::INTERNAL_ERROR`], with an error in the log, unless its connection has ended. It
/// may be kept for as long as need be (asynchronous event requests), on its reactor.
#[derive(Debug)]
pub struct Request {
    qpair: Rc<Qpair>,
    slot: SlotRef,
    sqe: Sqe,
    data: IoBuf,
    data_len: u32,
    answered: bool,
}

impl Request {
    pub(super) fn new(
        qpair: &Rc<Qpair>,
        slot: SlotRef,
        sqe: Sqe,
        data: IoBuf,
        data_len: u32,
    ) -> Self {
        Self { qpair: Rc::clone(qpair), slot, sqe, data, data_len, answered: false }
    }

    /// The command.
    #[must_use]
    pub fn sqe(&self) -> &Sqe {
        &self.sqe
    }

    /// The queue pair it came on.
    #[must_use]
    pub fn qpair(&self) -> &Rc<Qpair> {
        &self.qpair
    }

    /// The host-to-controller data; empty when the command has none. Transports deliver those of
    /// admin and fabrics commands in one buffer.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        match &self.data {
            IoBuf::One(buf) => buf.as_slice(),
            _ => &[],
        }
    }

    /// Bytes that the command's SGL names, in either direction: what an answer may have at most.
    #[must_use]
    pub fn data_len(&self) -> u32 {
        self.data_len
    }

    /// The host-to-controller data, in however many buffers they came.
    pub(super) fn buf(&self) -> &IoBuf {
        &self.data
    }

    /// The command's place.
    pub(super) fn place(&self) -> SlotRef {
        self.slot
    }

    /// Gives the token up: the queue pair itself answers the command.
    pub(super) fn forget(mut self) {
        self.answered = true;
    }

    /// Takes the host-to-controller data out.
    #[must_use]
    pub fn take_data(&mut self) -> IoBuf {
        std::mem::take(&mut self.data)
    }

    /// Ends the command. `result` is dwords 0 and 1 of the completion entry. Of `data` as many
    /// bytes go to the host as the command asked for, and none unless `status` is success.
    pub fn complete(mut self, status: NvmeStatus, result: u64, data: IoBuf) {
        self.answered = true;
        let len = if status.is_success() { data.len() } else { 0 };
        let data_len = u32::try_from(len).unwrap_or(u32::MAX).min(self.data_len);
        let data = if data_len == 0 { self.take_data() } else { data };
        self.qpair.respond(self.slot, status, result, data, data_len);
    }

    /// Ends the command without data and with result 0.
    pub fn finish(self, status: NvmeStatus) {
        self.complete(status, 0, IoBuf::None);
    }

    /// Ends the command with success and a copy of these bytes, of which as many go to the host
    /// as it asked for. Without memory for the copy the command ends in a retryable error.
    pub fn complete_bytes(self, result: u64, bytes: &[u8]) {
        let len = bytes.len().min(self.data_len as usize);
        if len == 0 {
            return self.complete(NvmeStatus::SUCCESS, result, IoBuf::None);
        }
        match self.qpair.reactor().memory().alloc(len) {
            Ok(mut buf) => {
                buf.as_mut_slice().copy_from_slice(&bytes[..len]);
                self.complete(NvmeStatus::SUCCESS, result, IoBuf::One(buf));
            }
            Err(_) => self.finish(NvmeStatus::INTERNAL_ERROR),
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        if self.qpair.is_live() {
            tracing::error!(
                opcode = self.sqe.opcode,
                cid = self.sqe.cid.get(),
                "a command was dropped unanswered; it ends in an internal error"
            );
        }
        let (slot, status) = (self.slot, NvmeStatus::INTERNAL_ERROR);
        self.qpair.respond(slot, status, 0, IoBuf::None, 0);
    }
}
