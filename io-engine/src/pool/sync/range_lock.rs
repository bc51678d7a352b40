//! Locks on ranges of a volume: changes that overlap happen one after the other, in the order in
//! which they came.

use std::cell::{Cell, RefCell};

use super::WaitList;

/// The ranges that are locked or waited for, in order of arrival.
#[derive(Default)]
pub(in crate::pool) struct RangeLocks {
    entries: RefCell<Vec<Entry>>,
    next_ticket: Cell<u64>,
    waiters: WaitList,
}

struct Entry {
    ticket: u64,
    ranges: Vec<(u64, u64)>,
}

/// Holds the ranges of one ticket, or its place in the queue.
pub(in crate::pool) struct RangeGuard<'a> {
    locks: &'a RangeLocks,
    ticket: u64,
}

impl RangeLocks {
    /// Locks ranges `(start, end)`, all together.
    pub(in crate::pool) async fn lock(&self, ranges: Vec<(u64, u64)>) -> RangeGuard<'_> {
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        self.entries.borrow_mut().push(Entry { ticket, ranges });
        let guard = RangeGuard { locks: self, ticket };
        self.waiters.until(|| self.is_first(ticket).then_some(())).await;
        guard
    }

    /// Whether nobody who came earlier overlaps.
    fn is_first(&self, ticket: u64) -> bool {
        let entries = self.entries.borrow();
        let Some(at) = entries.iter().position(|entry| entry.ticket == ticket) else { return true };
        let own = &entries[at].ranges;
        !entries[..at].iter().flat_map(|entry| &entry.ranges).any(|&(start, end)| {
            own.iter().any(|&(own_start, own_end)| start < own_end && own_start < end)
        })
    }
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        self.locks.entries.borrow_mut().retain(|entry| entry.ticket != self.ticket);
        self.locks.waiters.wake_all();
    }
}
