//! How many lines of the log one reactor's hosts can cause.
//!
//! Whoever reaches a port can open connections and send what is wrong, as often as the network
//! carries it; each time is worth a line, and ten thousand times are not.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::reactor::Reactor;

/// Lines in one period at the most.
const LINES: u32 = 20;

/// The length of a period.
const PERIOD: Duration = Duration::from_secs(10);

/// What a reactor has logged of connections.
#[derive(Default)]
struct LogBudget {
    /// The tick at which the period began.
    since: Cell<u64>,
    said: Cell<u32>,
    left_out: Cell<u64>,
}

/// Whether another line about a connection may be logged now. When lines were left out, the first
/// one of the next period is preceded by their number.
pub(in crate::nvmf) fn allows(reactor: &Rc<Reactor>) -> bool {
    let budget = reactor.extension(Rc::<LogBudget>::default);
    let (now, period) = (reactor.now(), reactor.clock().ticks_in(PERIOD));
    if now.saturating_sub(budget.since.get()) >= period {
        budget.since.set(now);
        budget.said.set(0);
        let left_out = budget.left_out.take();
        if left_out != 0 {
            tracing::warn!(left_out, "more happened to connections than is logged");
        }
    }
    let allowed = budget.said.get() < LINES;
    if allowed {
        budget.said.set(budget.said.get() + 1);
    } else {
        budget.left_out.set(budget.left_out.get() + 1);
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Clock, Memory, VirtualClock};
    use crate::reactor::{LocalReactor, ReactorConfig, sleep};

    #[test]
    fn so_many_lines_in_a_period_and_then_again() {
        let memory = Memory::ordinary(4 << 20).unwrap();
        let clock = Clock::Virtual(VirtualClock::default());
        let core = spdk_rs_sys::cpu::CoreId(0);
        let config = ReactorConfig { clock, ..ReactorConfig::new(core) };
        let reactor = LocalReactor::new(config, memory).unwrap();
        let count = || (0..1000).filter(|_| allows(&reactor)).count();
        assert_eq!((count(), count()), (20, 0));
        reactor.block_on(sleep(PERIOD / 2));
        assert_eq!(count(), 0);
        reactor.block_on(sleep(PERIOD / 2));
        assert_eq!((count(), count()), (20, 0));
    }
}
