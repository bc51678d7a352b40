//! The exit codes of the binary. Scripts and service managers rely on them: a code never changes
//! its meaning.

use std::fmt::Write as _;

/// How the binary ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ExitCode {
    /// All went well; for the daemon, it was asked to end and did so cleanly.
    Success = 0,
    /// Something failed while running.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The configuration is refused: a URI, a configuration file, a core that does not exist.
    Config = 3,
    /// A resource cannot be had: memory, a file or device, a socket that is in use.
    Resources = 4,
    /// No daemon answers at the socket.
    Unreachable = 5,
    /// The daemon answered with an error.
    Refused = 6,
    /// Data that was read is not the data that was written (`perf -w verify`).
    WrongData = 7,
}

impl ExitCode {
    /// Every code, in order.
    pub const ALL: [Self; 8] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::Config,
        Self::Resources,
        Self::Unreachable,
        Self::Refused,
        Self::WrongData,
    ];

    /// What the code means, for `--help`.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "something failed while running",
            Self::Usage => "the command line is wrong",
            Self::Config => "the configuration is refused (URI, file, core)",
            Self::Resources => "a resource cannot be had (memory, device, socket in use)",
            Self::Unreachable => "no daemon answers at the socket",
            Self::Refused => "the daemon answered with an error",
            Self::WrongData => "data read is not the data written (perf -w verify)",
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// The list of exit codes for `--help`.
pub(super) fn help() -> String {
    ExitCode::ALL.iter().fold("Exit codes:".to_owned(), |mut text, code| {
        let _ = write!(text, "\n  {}  {}", *code as u8, code.meaning());
        text
    })
}

/// Prints an error of the command line, or the help or version that was asked for, and gives the
/// code to end with.
#[must_use]
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to tell anyone when the standard streams are closed.
    let _ = error.print();
    if error.use_stderr() { ExitCode::Usage } else { ExitCode::Success }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_listed_in_order_and_once() {
        for (number, code) in ExitCode::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, number);
            assert!(help().contains(&format!("{number}  {}", code.meaning())));
        }
    }
}
