//! A command that is outstanding on a connection.
#![allow(unsafe_code, reason = "a command's pieces are named by address")]

use std::rc::Rc;

use crate::env::IoVec;
use crate::env::iovec::total_len;
use crate::nvme::controller::cid::CommandTable;
use crate::nvme::controller::queue::{Command, CommandData, CommandEnd, CommandOwner};
use crate::nvme::spec::{DataDirection, Sqe, opcode};
use crate::nvme::tcp::framing::{Destinations, R2t};

/// An outstanding command.
pub(super) struct Entry {
    pub(super) sqe: Sqe,
    pub(super) owner: Rc<dyn CommandOwner>,
    pub(super) tag: u64,
    pub(super) data: CommandData,
    pub(super) data_len: u32,
    pub(super) direction: Direction,
    /// Tick of the reactor's clock.
    pub(super) submitted: u64,
    /// Bytes that came from the controller.
    pub(super) received: u32,
    /// Bytes that the controller has asked for, or had inside the capsule.
    pub(super) requested: u32,
    /// The transfer that is being sent: what is left of it.
    pub(super) transfer: Option<R2t>,
    /// Pieces of its memory that wait to be sent.
    pub(super) unsent: u16,
    /// Data came with a wrong digest.
    pub(super) damaged: bool,
    /// The controller's answer, while pieces wait to be sent.
    pub(super) end: Option<CommandEnd>,
}

/// Which way a command's data go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    None,
    /// To the controller.
    Out,
    /// From the controller.
    In,
}

impl Direction {
    /// The direction of a command's opcode, of Fabrics commands of their type.
    #[inline(always)]
    pub(super) fn of(sqe: &Sqe) -> Option<Self> {
        let bits = if sqe.opcode == opcode::FABRICS {
            return match sqe.fctype() & 3 {
                0 => Some(Self::None),
                1 => Some(Self::Out),
                2 => Some(Self::In),
                _ => None,
            };
        } else {
            sqe.direction()
        };
        match bits {
            DataDirection::None => Some(Self::None),
            DataDirection::HostToController => Some(Self::Out),
            DataDirection::ControllerToHost => Some(Self::In),
            DataDirection::Bidirectional => None,
        }
    }
}

impl Entry {
    /// The command as it will be outstanding; none when its data and its opcode contradict.
    #[inline(always)]
    pub(super) fn of(command: &Command, now: u64) -> Option<Self> {
        let data_len = u32::try_from(total_len(pieces_of(&command.data))).ok()?;
        let direction = match (Direction::of(&command.sqe)?, data_len) {
            (_, 0) => Direction::None,
            (Direction::None, _) => return None,
            (direction, _) => direction,
        };
        Some(Self {
            sqe: command.sqe,
            owner: Rc::clone(&command.owner),
            tag: command.tag,
            data: command.data,
            data_len,
            direction,
            submitted: now,
            received: 0,
            requested: 0,
            transfer: None,
            unsent: 0,
            damaged: false,
            end: None,
        })
    }

    /// The pieces of its memory.
    #[inline(always)]
    pub(super) fn pieces(&self) -> &[IoVec] {
        pieces_of(&self.data)
    }
}

/// The pieces of a command's memory.
#[inline(always)]
fn pieces_of(data: &CommandData) -> &[IoVec] {
    match data {
        CommandData::None => &[],
        CommandData::One(piece) => std::slice::from_ref(piece),
        // SAFETY: whoever submits a command promises that the table stays in place until the
        // command has ended, and the data live in the entry until then.
        CommandData::Many { first, count } => unsafe { std::slice::from_raw_parts(*first, *count) },
    }
}

// SAFETY: a command stays in the table while data are placed in it (it ends by an answer or by the
// end of the connection, and both come after the payload), its pieces do not change meanwhile, and
// its submitter gave up the memory.
unsafe impl Destinations for CommandTable<Entry> {
    #[inline]
    fn table(&self, tag: u32) -> &[IoVec] {
        let entry = u16::try_from(tag).ok().and_then(|cid| self.get(cid));
        entry.map_or(&[], Entry::pieces)
    }
}
