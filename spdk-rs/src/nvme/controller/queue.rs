//! A queue pair as its users see it, whatever carries it.
//!
//! A command that was taken ends exactly once: [`CommandOwner::command_done`] is called with its
//! tag when the transport touches the command's memory no more. When the connection is lost that
//! is so for every outstanding command, with [`NvmeStatus::ABORTED_SQ_DELETION`].
#![allow(unsafe_code, reason = "a command names its memory by address")]

use std::rc::Rc;

use crate::NvmeStatus;
use crate::env::IoVec;
use crate::nvme::spec::{Cqe, Sqe};

/// The memory of a command's data, by address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum CommandData {
    /// No data.
    None,
    /// One piece.
    One(IoVec),
    /// A table of pieces, which stays in place as long as the memory.
    Many {
        /// The first entry.
        first: *const IoVec,
        /// How many there are.
        count: usize,
    },
}

impl CommandData {
    /// The pieces of a table.
    #[inline(always)]
    pub(crate) fn of(iovs: &[IoVec]) -> Self {
        match iovs {
            [] => Self::None,
            [one] => Self::One(*one),
            many => Self::Many { first: many.as_ptr(), count: many.len() },
        }
    }
}

/// A command on its way to a queue pair. The transport fills in CID and data pointer.
pub(crate) struct Command {
    /// The entry.
    pub(crate) sqe: Sqe,
    /// Its data, either way.
    pub(crate) data: CommandData,
    /// The owner's own number.
    pub(crate) tag: u64,
    /// Who is told of its end.
    pub(crate) owner: Rc<dyn CommandOwner>,
}

/// Who learns of a command's end. Called on the reactor and never from inside a call into the
/// queue pair, so it may submit again.
pub(crate) trait CommandOwner {
    /// The command has ended, and its memory is its owner's again.
    fn command_done(&self, tag: u64, end: &CommandEnd);
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommandEnd {
    /// The status.
    pub(crate) status: NvmeStatus,
    /// Completion dwords 0 and 1.
    pub(crate) result: u64,
    /// Whether the controller answered. Otherwise the connection ended first, and nobody knows
    /// whether the command was executed.
    pub(crate) answered: bool,
}

impl CommandEnd {
    /// The end that a completion tells.
    #[inline(always)]
    pub(crate) fn answered(cqe: &Cqe) -> Self {
        Self { status: cqe.status(), result: cqe.result.get(), answered: true }
    }

    /// The end of a command whose connection was lost.
    pub(crate) const LOST: Self =
        Self { status: NvmeStatus::ABORTED_SQ_DELETION, result: 0, answered: false };
}

/// Who learns what becomes of a queue pair.
pub(crate) trait QueueListener {
    /// The queue pair has ended; every command has ended before. Called exactly once.
    fn queue_closed(&self, why: &str);
    /// There is room again after [`QueuePair::submit`] refused a command.
    fn queue_room(&self) {}
    /// The controller's device is to be given back, or is there no longer. Told by admin queues
    /// of controllers on this machine.
    fn device_leaves(&self, _why: &'static str) {}
}

/// A connected queue pair on one reactor.
pub(crate) trait QueuePair {
    /// Sends a command; gives it back when the queue is full or has ended.
    ///
    /// # Safety
    /// The command's memory, and the table of its pieces, stay in place and belong to the command
    /// until its owner is told of its end. Where that does not happen, for ever.
    unsafe fn submit(&self, command: Command) -> Result<(), Command>;

    /// Commands that can be submitted now.
    fn room(&self) -> usize;

    /// Commands that have not ended.
    fn outstanding(&self) -> usize;

    /// Begins the end: the connection is closed at once.
    fn close(&self, why: &str);

    /// The outstanding commands that were submitted at or before a tick: CID and owner's tag.
    fn overdue(&self, submitted_by: u64) -> Vec<(u16, u64)>;
}
