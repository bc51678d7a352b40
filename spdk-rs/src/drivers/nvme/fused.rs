//! Compare-and-write as a fused pair of commands (section 3.4.2).
#![allow(unsafe_code, reason = "hands the memory of I/O to queue pairs")]

use std::rc::Rc;

use super::channel::{ChannelCore, ChannelPath};
use super::command::{WORD_CONTROLLER, block};
use crate::NvmeStatus;
use crate::bdev::BdevIo;
use crate::nvme::controller::queue::{Command, CommandData, CommandEnd, QueuePair};
use crate::nvme::spec::{FusedPart, opcode};

/// Marks the tags of fused commands: numbers of parked I/O have 48 bits.
const MARK: u64 = 1 << 63;

/// The I/Os whose pair of commands is outstanding.
#[derive(Default)]
pub(super) struct FusedTable {
    places: Vec<Option<Pair>>,
}

struct Pair {
    io: BdevIo,
    ends: [Option<CommandEnd>; 2],
}

impl FusedTable {
    /// Whether a tag is one of a fused command.
    #[inline(always)]
    pub(super) const fn is_tag(tag: u64) -> bool {
        tag & MARK != 0
    }

    fn insert(&mut self, io: BdevIo) -> usize {
        let pair = Some(Pair { io, ends: [None; 2] });
        match self.places.iter().position(Option::is_none) {
            Some(index) => {
                self.places[index] = pair;
                index
            }
            None => {
                self.places.push(pair);
                self.places.len() - 1
            }
        }
    }

    fn take(&mut self, index: usize) -> Option<Pair> {
        self.places.get_mut(index)?.take()
    }

    /// Notes the end of one command; the pair when both have ended.
    fn end(&mut self, tag: u64, end: &CommandEnd) -> Option<Pair> {
        let index = usize::try_from((tag & !MARK) >> 1).ok()?;
        let pair = self.places.get_mut(index)?.as_mut()?;
        pair.ends[usize::from(tag & 1 == 1)] = Some(*end);
        if pair.ends.iter().all(Option::is_some) { self.take(index) } else { None }
    }
}

/// Blocks that a controller compares and writes as one.
fn blocks_max(path: &ChannelPath) -> u64 {
    path.info.as_ref().map_or(0, |info| u64::from(info.identify.acwu.get()) + 1)
}

impl ChannelCore {
    /// Sends both commands, one behind the other; gives the I/O back when there is no room.
    #[cold]
    pub(super) fn send_fused(
        &self,
        path: &ChannelPath,
        pair: &Rc<dyn QueuePair>,
        mut io: BdevIo,
    ) -> Option<BdevIo> {
        let &[expected, new] = io.iovs() else {
            io.complete(NvmeStatus::DATA_SGL_LENGTH_INVALID);
            return None;
        };
        if io.num_blocks() > blocks_max(path) {
            io.complete(NvmeStatus::ATOMIC_WRITE_UNIT_EXCEEDED);
            return None;
        }
        if pair.room() < 2 {
            return Some(io);
        }
        io.driver_context()[WORD_CONTROLLER] = path.controller.id;
        let compare = block(&io, opcode::nvm::COMPARE, path.nsid);
        let write = block(&io, opcode::nvm::WRITE, path.nsid);
        let index = self.fused.borrow_mut().insert(io);
        let halves = [(compare, expected, FusedPart::First), (write, new, FusedPart::Second)];
        for (part, (mut sqe, piece, place)) in (0..).zip(halves) {
            sqe.flags |= if place == FusedPart::First { 1 } else { 2 };
            let tag = MARK | (index as u64) << 1 | part;
            let owner = self.owner()?;
            let command = Command { sqe, data: CommandData::One(piece), tag, owner };
            // SAFETY: the I/O stays in the table, and its memory in place, until both commands
            // have ended.
            let sent = unsafe { pair.submit(command) };
            if sent.is_err() {
                // There was room for both, so the connection is ending, and with it the first.
                self.fused_done(tag, &CommandEnd::LOST);
            }
        }
        None
    }

    /// One of the two commands has ended.
    #[cold]
    pub(super) fn fused_done(&self, tag: u64, end: &CommandEnd) {
        let ended = self.fused.borrow_mut().end(tag, end);
        let Some(Pair { mut io, ends: [Some(compare), Some(write)] }) = ended else { return };
        // The write of a pair whose compare failed was aborted for that reason alone.
        let end = if compare.status.is_success() { write } else { compare };
        self.count(&mut io, end.status);
        if end.status.is_success() {
            io.complete(NvmeStatus::SUCCESS);
        } else {
            self.failed(io, &end);
        }
    }
}
