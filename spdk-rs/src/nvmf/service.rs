//! Who answers the commands that are no I/O.

use std::rc::Rc;
use std::sync::Arc;

use super::qpair::Qpair;
use super::request::Request;
use crate::NvmeStatus;

/// The target, as a queue pair without a controller sees it.
pub trait TargetService: Send + Sync {
    /// A Fabrics Connect came on a queue pair that has no controller yet. The target checks it,
    /// calls [`Qpair::attach`] when it accepts, and then completes the request; when it refuses
    /// it only completes the request. Now or later, on this reactor.
    fn connect(self: Arc<Self>, qpair: &Rc<Qpair>, request: Request);
}

/// An I/O command that failed, as the error log tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedCommand {
    /// Its identifier.
    pub cid: u16,
    /// Its opcode.
    pub opcode: u8,
    /// The namespace that it named.
    pub nsid: u32,
    /// How it ended.
    pub status: NvmeStatus,
}

/// The controller, as an attached queue pair sees it. One value per queue pair, on its reactor.
pub trait ControllerService {
    /// A command on the admin queue that is not a fabrics command.
    fn admin(self: Rc<Self>, request: Request);

    /// A fabrics command on any queue, but Connect.
    fn fabrics(self: Rc<Self>, request: Request);

    /// An I/O command of this queue pair has failed; called before its response is sent.
    fn failed(&self, command: FailedCommand);

    /// Called once, when the connection is going away: the service gives up the requests of this
    /// queue pair that it keeps (asynchronous event requests). Dropping them is right.
    fn closing(&self, qpair: &Rc<Qpair>);

    /// Called once, after `closing`, when no command of the queue pair is in flight any more. The
    /// queue identifier is free from now on.
    fn gone(&self, qpair: &Rc<Qpair>);
}
