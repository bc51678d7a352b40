//! Admin commands (section 5), on the reactor of the controller's admin queue.
//!
//! Invariants:
//! * what Identify and the log pages say is computed from what is there: the devices, the limits
//!   of the connection, the commands that are implemented;
//! * every command is answered once, and a command that fails is in the error log page.

mod abort;
mod capabilities;
mod errors;
mod features;
mod identify;
mod logs;
#[cfg(test)]
mod tests;

use std::rc::Rc;

pub(in crate::nvmf) use errors::{ERROR_ENTRIES, ErrorLog};
pub(in crate::nvmf) use features::Features;

use super::controller::{AdminQueue, Answers};
use super::request::Request;
use super::service::FailedCommand;
use super::subsystem::SubsystemKind;
use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::nvme::spec::FusedPart;
use crate::nvme::spec::opcode::admin as opcode;

/// Asynchronous event requests that a host may have outstanding (AERL + 1).
const EVENT_REQUESTS_MAX: usize = 4;

/// What a successful command answers.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    /// Dwords 0 and 1 of the completion.
    result: u64,
    /// Data for the host.
    data: Vec<u8>,
}

impl From<u32> for Answer {
    fn from(result: u32) -> Self {
        Self { result: result.into(), data: Vec::new() }
    }
}

impl From<Vec<u8>> for Answer {
    fn from(data: Vec<u8>) -> Self {
        Self { result: 0, data }
    }
}

/// Executes an admin command that is no fabrics command.
pub(in crate::nvmf) fn execute(admin: &Rc<AdminQueue>, request: Request) {
    let command = request.sqe().opcode;
    if !admin.is_enabled() {
        return admin.refuse(request, NvmeStatus::COMMAND_SEQUENCE_ERROR);
    }
    if request.sqe().fused() != FusedPart::None {
        return admin.refuse(request, NvmeStatus::INVALID_FIELD);
    }
    if !capabilities::admin_opcodes(admin.controller.subsystem().kind()).contains(&command) {
        return admin.refuse(request, NvmeStatus::INVALID_OPCODE);
    }
    match command {
        opcode::IDENTIFY => answer(admin, request, identify::identify),
        opcode::GET_LOG_PAGE => logs::get_log_page(admin, request),
        opcode::GET_FEATURES => answer(admin, request, features::get),
        opcode::SET_FEATURES if features::is_slow(&request) => {
            features::set_persistence(admin, request);
        }
        opcode::SET_FEATURES => answer(admin, request, features::set),
        opcode::ABORT => abort::abort(admin, request),
        opcode::ASYNC_EVENT_REQUEST => admin.request_event(request),
        opcode::KEEP_ALIVE => {
            admin.keep_alive();
            request.finish(NvmeStatus::SUCCESS);
        }
        _ => admin.refuse(request, NvmeStatus::INVALID_OPCODE),
    }
}

/// Answers a command with what `work` makes of it.
fn answer(
    admin: &Rc<AdminQueue>,
    request: Request,
    work: fn(&Rc<AdminQueue>, &Request) -> Result<Answer, NvmeStatus>,
) {
    match work(admin, &request) {
        Ok(Answer { result, data }) => request.complete_bytes(result, &data),
        Err(status) => admin.refuse(request, status),
    }
}

/// Answers event requests with their events.
pub(in crate::nvmf) fn answer_events(answers: Answers<Request>) {
    for (request, event) in answers {
        request.complete(NvmeStatus::SUCCESS, event.result(), IoBuf::None);
    }
}

impl AdminQueue {
    /// Ends a command in an error, and notes it in the error log.
    pub(in crate::nvmf) fn refuse(&self, request: Request, status: NvmeStatus) {
        let sqe = request.sqe();
        let (cid, opcode, nsid) = (sqe.cid.get(), sqe.opcode, sqe.nsid.get());
        self.errors.borrow_mut().note(0, FailedCommand { cid, opcode, nsid, status });
        request.finish(status);
    }

    fn request_event(&self, request: Request) {
        let taken = self.events.borrow_mut().request(request, EVENT_REQUESTS_MAX);
        match taken {
            Ok(answers) => answer_events(answers),
            Err(request) => self.refuse(request, NvmeStatus::AER_LIMIT_EXCEEDED),
        }
    }

    fn is_discovery(&self) -> bool {
        self.controller.subsystem().kind() == SubsystemKind::Discovery
    }
}
