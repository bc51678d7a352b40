//! Which kind of access a command is, for reservations (section 8.19, command groups).

use crate::nvme::spec::opcode::nvm;

/// What a command does with the blocks of its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// The read command group.
    Read,
    /// The write command group.
    Write,
    /// Neither: reservation commands decide for themselves.
    Free,
}

impl Access {
    /// The group of an I/O command.
    pub(crate) const fn of(opcode: u8) -> Self {
        match opcode {
            nvm::READ | nvm::COMPARE | nvm::VERIFY => Self::Read,
            nvm::RESERVATION_REGISTER
            | nvm::RESERVATION_REPORT
            | nvm::RESERVATION_ACQUIRE
            | nvm::RESERVATION_RELEASE => Self::Free,
            _ => Self::Write,
        }
    }
}
