//! When to try again to reach a lost controller, and what I/O does meanwhile.

use std::time::Duration;

use super::options::ControllerOptions;

/// The longest time between two attempts, unless the first delay is longer already.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// What to do about a controller that is not connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Try at once.
    Now,
    /// Try after this time.
    After(Duration),
    /// Give it up.
    Never,
}

/// The next step for a controller that was lost `lost_for` ago and could not be reached by
/// `failed` attempts since. `random` spreads hosts that lost the same target.
pub(crate) fn next_attempt(
    options: &ControllerOptions,
    lost_for: Duration,
    failed: u32,
    random: u64,
) -> Attempt {
    if failed == 0 {
        return Attempt::Now;
    }
    let rest = match options.loss_timeout() {
        Some(limit) if lost_for >= limit => return Attempt::Never,
        Some(limit) => limit - lost_for,
        None => Duration::MAX,
    };
    let base = Duration::from_secs(options.reconnect_delay_sec.into());
    let doubled = base.saturating_mul(1 << (failed - 1).min(16));
    let delay = doubled.min(DELAY_MAX.max(base));
    // Three quarters to the whole of it.
    let spread = delay / 4;
    let permille = u32::try_from(random % 1001).unwrap_or(0);
    let jittered = delay - spread * permille / 1000;
    // The last attempt comes before the controller is given up.
    Attempt::After(jittered.min(rest))
}

/// Whether I/O is to fail now rather than wait for a controller that was lost `lost_for` ago.
pub(crate) fn io_fails(options: &ControllerOptions, lost_for: Duration) -> bool {
    let fast = options.fast_io_fail_timeout_sec;
    fast != 0 && lost_for >= Duration::from_secs(fast.into())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn options(loss: i32, delay: u32, fast: u32) -> ControllerOptions {
        ControllerOptions {
            ctrlr_loss_timeout_sec: loss,
            reconnect_delay_sec: delay,
            fast_io_fail_timeout_sec: fast,
            ..ControllerOptions::new("nqn.2014-08.org.nvmexpress:uuid:1", Uuid::from_u128(1))
        }
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_first_attempt_is_at_once_and_the_delay_doubles() {
        let options = options(-1, 2, 0);
        assert_eq!(next_attempt(&options, secs(0), 0, 0), Attempt::Now);
        for (failed, delay) in [(1, 2), (2, 4), (3, 8), (5, 32), (6, 60), (40, 60)] {
            assert_eq!(next_attempt(&options, secs(1), failed, 0), Attempt::After(secs(delay)));
        }
    }

    #[test]
    fn the_delay_is_spread_by_a_quarter() {
        let options = options(-1, 4, 0);
        assert_eq!(next_attempt(&options, secs(1), 1, 1000), Attempt::After(secs(3)));
        for random in 0..2000 {
            let Attempt::After(delay) = next_attempt(&options, secs(1), 1, random) else {
                panic!("it is to be tried again");
            };
            assert!((secs(3)..=secs(4)).contains(&delay), "{delay:?}");
        }
    }

    #[test]
    fn a_lost_controller_is_given_up_in_time() {
        let limited = options(10, 4, 0);
        assert_eq!(next_attempt(&limited, secs(9), 2, 0), Attempt::After(secs(1)));
        assert_eq!(next_attempt(&limited, secs(10), 3, 0), Attempt::Never);
        assert_eq!(next_attempt(&options(0, 0, 0), secs(0), 1, 0), Attempt::Never);
        assert_eq!(next_attempt(&options(-1, 70, 0), secs(900), 9, 0), Attempt::After(secs(70)));
    }

    #[test]
    fn io_waits_until_the_fast_limit() {
        assert!(!io_fails(&options(-1, 1, 0), secs(1_000_000)));
        assert!(!io_fails(&options(-1, 1, 5), secs(4)));
        assert!(io_fails(&options(-1, 1, 5), secs(5)));
    }
}
