//! From a command to what carries it out.

use std::rc::Rc;

use super::super::core_view::{AnaState, NsView};
use super::super::qpair::{Attached, Qpair, SlotRef};
use super::access::Access;
use super::{flush, task, transfer};
use crate::NvmeStatus;
use crate::bdev::IoBuf;
use crate::nvme::spec::opcode::nvm;
use crate::nvme::spec::{NSID_ALL, Sqe};

/// A command with its data.
pub(crate) struct Command {
    pub(crate) sqe: Sqe,
    pub(crate) data: IoBuf,
    /// Bytes that the command's SGL names.
    pub(crate) data_len: u32,
}

/// What became of an attempt to start a command.
pub(crate) enum Outcome {
    /// The device has it; the queue pair is told of its end. So many bytes go to the host then.
    Device { reply_len: u32 },
    /// It runs as a task, which holds its request.
    Task,
    /// There is no memory or no slot for it now.
    Short(Command),
    /// It ended, with the memory it came with.
    Ended(NvmeStatus, IoBuf),
}

impl Outcome {
    #[cold]
    #[inline(never)]
    pub(super) fn failed(status: NvmeStatus, command: Command) -> Self {
        Self::Ended(status, command.data)
    }
}

/// The namespace of a command, if it may be used on this path by this host.
#[inline(always)]
pub(crate) fn admit(attached: &Attached, sqe: &Sqe) -> Result<Rc<NsView>, NvmeStatus> {
    let Some(ns) = attached.subsystem.namespace(sqe.nsid.get()) else {
        return Err(NvmeStatus::INVALID_NAMESPACE);
    };
    if attached.listener.is_restricted() || ns.is_reserved() {
        check(attached, &ns, sqe.opcode)?;
    }
    Ok(ns)
}

/// Checks path and reservation.
#[cold]
pub(super) fn check(attached: &Attached, ns: &NsView, opcode: u8) -> Result<(), NvmeStatus> {
    match attached.listener.state(ns.ana_group()) {
        AnaState::Optimized | AnaState::NonOptimized => {}
        AnaState::Inaccessible => return Err(NvmeStatus::ANA_INACCESSIBLE),
        AnaState::PersistentLoss => return Err(NvmeStatus::ANA_PERSISTENT_LOSS),
        AnaState::Change => return Err(NvmeStatus::ANA_TRANSITION),
    }
    if !ns.access().permits(&attached.host, Access::of(opcode)) {
        return Err(NvmeStatus::RESERVATION_CONFLICT);
    }
    Ok(())
}

/// Starts a command of a namespace.
#[inline(always)]
pub(crate) fn run(
    qpair: &Rc<Qpair>,
    at: SlotRef,
    ns: Option<&Rc<NsView>>,
    command: Command,
) -> Outcome {
    match (command.sqe.opcode, ns) {
        (nvm::READ, Some(ns)) => transfer::read(qpair, at, ns, command),
        (nvm::WRITE, Some(ns)) => transfer::write(qpair, at, ns, command),
        (_, ns) => run_other(qpair, at, ns, command),
    }
}

#[inline(never)]
fn run_other(qpair: &Rc<Qpair>, at: SlotRef, ns: Option<&Rc<NsView>>, command: Command) -> Outcome {
    let Some(ns) = ns else {
        // Only a flush may name all namespaces.
        if command.sqe.opcode == nvm::FLUSH && command.sqe.nsid.get() == NSID_ALL {
            return task::start(qpair, at, None, command);
        }
        return Outcome::failed(NvmeStatus::INVALID_NAMESPACE, command);
    };
    match command.sqe.opcode {
        nvm::COMPARE => transfer::compare(qpair, at, ns, command),
        nvm::FLUSH => flush::one(qpair, at, ns, command),
        nvm::WRITE_ZEROES => transfer::write_zeroes(qpair, at, ns, command),
        nvm::DATASET_MANAGEMENT
        | nvm::VERIFY
        | nvm::COPY
        | nvm::RESERVATION_REGISTER
        | nvm::RESERVATION_REPORT
        | nvm::RESERVATION_ACQUIRE
        | nvm::RESERVATION_RELEASE => task::start(qpair, at, Some(ns), command),
        _ => Outcome::failed(NvmeStatus::INVALID_OPCODE, command),
    }
}
