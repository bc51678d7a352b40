//! The commands of other cores at a core's I/O queue.
#![allow(unsafe_code, reason = "hands the memory of other cores' commands to queue pairs")]

use std::rc::Rc;
use std::time::Duration;

use super::forward::{Batch, Job, Origin};
use super::queue::IoQueue;
use crate::nvme::controller::queue::{Command, CommandEnd, CommandOwner, QueuePair};
use crate::reactor::sleep;

/// How often guests that found no room are looked at, beside whenever the queue tells of room.
const LOOK: Duration = Duration::from_millis(1);

/// Commands that were submitted for another core.
struct Guest {
    origin: Origin,
    /// Has to stay until they have ended.
    _queue: Rc<IoQueue>,
}

impl CommandOwner for Guest {
    fn command_done(&self, tag: u64, end: &CommandEnd) {
        // Numbers of origins have 16 bits.
        let number = u16::try_from(tag).unwrap_or(u16::MAX);
        self.origin.tell(number, *end, !end.answered);
    }
}

impl IoQueue {
    /// Submits commands of another core, behind those that wait already.
    pub(super) fn serve(&self, batch: Batch) {
        self.guests().borrow_mut().push_back(batch);
        self.serve_waiting();
    }

    /// Submits what waits, as far as there is room. Without a queue pair it ends.
    pub(super) fn serve_waiting(&self) {
        let Some(pair) = self.pair() else {
            let ended = self.guests().take();
            return drop(ended);
        };
        loop {
            let next = self.guests().borrow_mut().pop_front();
            let Some(batch) = next else { return };
            if let Some(back) = self.submit(&pair, batch) {
                self.guests().borrow_mut().push_front(back);
                return self.look_at_guests();
            }
        }
    }

    /// Submits a batch; gives it back when there is no room for all of it.
    fn submit(&self, pair: &Rc<dyn QueuePair>, mut batch: Batch) -> Option<Batch> {
        let pair_of_two = batch.jobs.len() > 1;
        if pair_of_two && pair.room() < batch.jobs.len() {
            return Some(batch);
        }
        let queue = self.shared()?;
        let guest = Guest { origin: batch.origin.clone(), _queue: queue };
        let guest: Rc<dyn CommandOwner> = Rc::new(guest);
        while !batch.jobs.is_empty() {
            let Job { sqe, data, number } = batch.jobs.remove(0);
            let owner = Rc::clone(&guest);
            let command = Command { sqe, data, tag: number.into(), owner };
            // SAFETY: the origin keeps the memory until it has been told of the command's end.
            match unsafe { pair.submit(command) } {
                Ok(()) => {}
                // There was room for both, so that the connection is ending.
                Err(_) if pair_of_two => batch.origin.tell(number, CommandEnd::LOST, true),
                Err(Command { sqe, data, .. }) => {
                    batch.jobs.push(Job { sqe, data, number });
                    return Some(batch);
                }
            }
        }
        None
    }

    fn look_at_guests(&self) {
        if self.guests_watched().replace(true) {
            return;
        }
        let weak = self.weak();
        self.reactor().spawn("nvme guests", async move {
            loop {
                sleep(LOOK).await;
                let Some(queue) = weak.upgrade() else { return };
                queue.serve_waiting();
                if queue.guests().borrow().is_empty() {
                    queue.guests_watched().set(false);
                    return;
                }
            }
        });
    }
}
