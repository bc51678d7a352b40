//! What becomes of a command that did not succeed.

use crate::NvmeStatus;
use crate::bdev::IoType;
use crate::nvme::controller::queue::CommandEnd;
use crate::nvme::spec::log::AnaState;

/// Lost connections that one I/O survives: each takes a reconnection, so this is a bound for a
/// command that ends every connection, not for a target that is restarted.
pub(super) const LOSSES_MAX: u32 = 64;

/// What to do with an I/O whose command has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It ends with this status.
    End(NvmeStatus),
    /// It is sent again, at once.
    Again,
    /// It is sent again after a while.
    Later,
    /// The path was lost: it is sent again on another one, or on this one when it is back.
    Elsewhere,
    /// The controller says that the namespace has another state on this path: likewise.
    State(AnaState),
}

/// How often an I/O was sent again already, and may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tries {
    /// After answers.
    pub(super) retries: u32,
    /// After lost connections.
    pub(super) losses: u32,
    /// Retries after answers that are allowed.
    pub(super) retries_max: u32,
}

/// Whether a command can be sent again when nobody knows whether it was executed: doing it twice
/// leaves what doing it once leaves.
///
/// A compare-and-write finds its own data the second time, a copy onto itself reads what it has
/// written, and of other commands nothing is known.
pub(super) const fn is_repeatable(kind: IoType) -> bool {
    matches!(
        kind,
        IoType::Read
            | IoType::Write
            | IoType::Flush
            | IoType::Unmap
            | IoType::WriteZeroes
            | IoType::Compare
    )
}

/// Whether the namespace's state on the path is the reason (section 3.3.3.2.1.4).
fn state_of(status: NvmeStatus) -> Option<AnaState> {
    match (status.sct(), status.sc()) {
        (3, 0x01) => Some(AnaState::PersistentLoss),
        (3, 0x02) => Some(AnaState::Inaccessible),
        (3, 0x03) => Some(AnaState::Change),
        _ => None,
    }
}

/// Decides.
pub(super) fn verdict(end: &CommandEnd, kind: IoType, tries: Tries) -> Verdict {
    let status = end.status;
    if status.is_success() {
        return Verdict::End(status);
    }
    if !end.answered {
        return if is_repeatable(kind) && tries.losses < LOSSES_MAX {
            Verdict::Elsewhere
        } else {
            Verdict::End(status)
        };
    }
    // A compare that found other data finds them again, whatever the controller says.
    if status.with_do_not_retry(true) == NvmeStatus::COMPARE_FAILURE {
        return Verdict::End(NvmeStatus::COMPARE_FAILURE);
    }
    if matches!(kind, IoType::NvmeIo | IoType::NvmeAdmin | IoType::CompareAndWrite) {
        return Verdict::End(status);
    }
    // The state of the path is no answer of the namespace: another path may do it.
    let path = state_of(status);
    let exhausted = tries.retries >= tries.retries_max;
    match path {
        Some(state) if tries.losses < LOSSES_MAX => Verdict::State(state),
        _ if status.do_not_retry() || exhausted => Verdict::End(status),
        _ if status.sct() == 3 => Verdict::Later,
        _ => match status {
            NvmeStatus::NOT_READY
            | NvmeStatus::COMMAND_INTERRUPTED
            | NvmeStatus::FORMAT_IN_PROGRESS
            | NvmeStatus::SANITIZE_IN_PROGRESS => Verdict::Later,
            _ => Verdict::Again,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Tries = Tries { retries: 0, losses: 0, retries_max: 4 };

    fn answered(status: NvmeStatus) -> CommandEnd {
        CommandEnd { status, result: 0, answered: true }
    }

    #[test]
    fn the_do_not_retry_bit_is_heeded_for_every_status() {
        for bits in 0..0x800_u16 {
            let status = NvmeStatus::from_bits(bits);
            let again = verdict(&answered(status), IoType::Write, FRESH);
            let never = verdict(&answered(status.with_do_not_retry(true)), IoType::Write, FRESH);
            let stays = status.is_success()
                || status.with_do_not_retry(true) == NvmeStatus::COMPARE_FAILURE;
            assert_eq!(matches!(again, Verdict::End(_)), stays, "{status}");
            let by_state = state_of(status).map(Verdict::State);
            let expected = by_state.unwrap_or(Verdict::End(status.with_do_not_retry(true)));
            if !status.is_success() {
                assert_eq!(never, expected, "{status}");
            }
        }
    }

    #[test]
    fn retries_are_counted() {
        let spent = Tries { retries: 4, ..FRESH };
        let status = NvmeStatus::INTERNAL_ERROR;
        assert_eq!(verdict(&answered(status), IoType::Read, FRESH), Verdict::Again);
        assert_eq!(verdict(&answered(status), IoType::Read, spent), Verdict::End(status));
        assert_eq!(verdict(&CommandEnd::LOST, IoType::Read, spent), Verdict::Elsewhere);
        let lost = Tries { losses: LOSSES_MAX, ..FRESH };
        let end = Verdict::End(NvmeStatus::ABORTED_SQ_DELETION);
        assert_eq!(verdict(&CommandEnd::LOST, IoType::Read, lost), end);
    }

    #[test]
    fn what_may_have_been_done_is_not_done_twice() {
        for kind in IoType::ALL {
            let again = verdict(&CommandEnd::LOST, kind, FRESH) == Verdict::Elsewhere;
            let repeatable = matches!(
                kind,
                IoType::Read
                    | IoType::Write
                    | IoType::Flush
                    | IoType::Unmap
                    | IoType::WriteZeroes
                    | IoType::Compare
            );
            assert_eq!(again, repeatable, "{kind}");
        }
    }

    #[test]
    fn states_and_moments() {
        let of = |status| verdict(&answered(status), IoType::Read, FRESH);
        assert_eq!(of(NvmeStatus::new(3, 2)), Verdict::State(AnaState::Inaccessible));
        assert_eq!(of(NvmeStatus::new(3, 3)), Verdict::State(AnaState::Change));
        assert_eq!(of(NvmeStatus::INTERNAL_PATH_ERROR), Verdict::Later);
        assert_eq!(of(NvmeStatus::NOT_READY), Verdict::Later);
        let compare = NvmeStatus::COMPARE_FAILURE.with_do_not_retry(false);
        assert_eq!(of(compare), Verdict::End(NvmeStatus::COMPARE_FAILURE));
    }
}
