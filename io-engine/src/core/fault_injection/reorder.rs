//! I/O that changes places: gathered, and let go in another order.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use spdk_rs::bdev::{BdevIo, KeptList, Notice, Then};
use spdk_rs::reactor::{Reactor, sleep};

use super::kind::Reorder;
use super::random::{Purpose, draw};

/// What one core has gathered.
#[derive(Default)]
pub(super) struct Reordering {
    gathered: KeptList,
    /// Counts what was let go, so that a late timer leaves the next ones alone.
    round: Cell<u64>,
}

impl Reordering {
    pub(super) fn push(
        self: &Rc<Self>,
        reactor: &Rc<Reactor>,
        seed: u64,
        options: Reorder,
        io: BdevIo,
        then: Then,
    ) {
        self.gathered.push(io, then);
        if self.gathered.len() >= options.window {
            return self.let_go(seed);
        }
        if self.gathered.len() == 1 {
            let (own, round) = (Rc::clone(self), self.round.get());
            reactor.spawn("reordered I/O", async move {
                sleep(Duration::from_micros(options.limit_us)).await;
                if own.round.get() == round {
                    own.let_go(seed);
                }
            });
        }
    }

    /// Lets all go in an order drawn from the seed.
    fn let_go(&self, seed: u64) {
        let round = self.round.replace(self.round.get() + 1);
        let all = std::iter::from_fn(|| self.gathered.take(0));
        let mut all: Vec<_> = all.map(Some).collect();
        let count = all.len();
        for index in (1..count).rev() {
            let random = draw(seed ^ round, index as u64, Purpose::Order);
            // The one at an end moves at least: two always change places.
            let limit = if index == count - 1 { index } else { index + 1 };
            let other = usize::try_from(random % limit as u64).unwrap_or(0);
            all.swap(index, other);
        }
        for (io, then) in all.into_iter().flatten() {
            then.apply(io);
        }
    }

    pub(super) fn told(&self, notice: Notice) {
        self.round.set(self.round.get() + 1);
        self.gathered.told(notice);
    }
}
