//! Where completions of the reactor's ring arrive, for all io_uring channels of the reactor.
//!
//! A transfer that is whole ends here at once. Everything else looks up its channel by the number
//! in the I/O's slot: the rest of a short transfer and the next step of an operation go to the
//! channel's list, from where the channel submits them when it is polled.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use nix::libc;

use crate::NvmeStatus;
use crate::bdev::{BdevCore, BdevIo, IoList, IoType};
use crate::drivers::common::{FileDevice, Outcome, Progress};
use crate::reactor::{ClientId, CompletionClient, Reactor};

/// The operation itself, through the ring.
pub(super) const STAGE_RING: u64 = 0;
/// The operation itself, on a helper thread.
pub(super) const STAGE_OFFLOAD: u64 = 1;
/// An fdatasync(2) after an operation that has no other way to be durable.
pub(super) const STAGE_SYNC: u64 = 2;

/// A channel as its completions see it.
pub(super) struct Home {
    pub(super) device: Arc<FileDevice>,
    /// To be submitted (again) when the channel is polled.
    pub(super) queue: RefCell<IoList>,
    /// The ring lacks the operation for this file: helper threads do it.
    pub(super) unmap_offloaded: Cell<bool>,
    pub(super) zero_offloaded: Cell<bool>,
}

/// The channels of one reactor.
pub(super) struct Client {
    core: Rc<BdevCore>,
    id: OnceCell<ClientId>,
    homes: RefCell<Vec<Option<Rc<Home>>>>,
}

impl Client {
    /// The reactor's client and its number.
    pub(super) fn of(reactor: &Rc<Reactor>) -> std::io::Result<(Rc<Self>, ClientId)> {
        let core = BdevCore::of(reactor);
        let client = reactor
            .extension(|| Rc::new(Self { core, id: OnceCell::new(), homes: RefCell::default() }));
        let id = match client.id.get() {
            Some(&id) => id,
            None => {
                let receiver: Rc<dyn CompletionClient> = Rc::<Self>::clone(&client);
                let id = reactor.add_client(receiver)?;
                *client.id.get_or_init(|| id)
            }
        };
        Ok((client, id))
    }

    /// Adds a channel and returns its number.
    pub(super) fn add(&self, home: &Rc<Home>) -> usize {
        let mut homes = self.homes.borrow_mut();
        let free = homes.iter().position(Option::is_none).unwrap_or_else(|| {
            homes.push(None);
            homes.len() - 1
        });
        homes[free] = Some(Rc::clone(home));
        free
    }

    /// Removes a channel, which has nothing in flight.
    pub(super) fn remove(&self, number: usize) {
        if let Some(place) = self.homes.borrow_mut().get_mut(number) {
            *place = None;
        }
    }

    #[cold]
    fn settle(&self, mut io: BdevIo, result: i32) {
        let number = usize::try_from(Progress::home(&mut io)).unwrap_or(usize::MAX);
        let home = self.homes.borrow().get(number).cloned().flatten();
        match home {
            Some(home) => home.settle(io, result),
            None => {
                tracing::error!(number, "a completion came for a channel that is gone");
                io.complete(NvmeStatus::INTERNAL_ERROR);
            }
        }
    }
}

impl CompletionClient for Client {
    #[inline]
    fn completed(&self, token: u64, result: i32, _flags: u32) {
        let Some(mut io) = self.core.unpark(token) else {
            tracing::error!(token, "a completion came for an I/O that is not in flight");
            return;
        };
        if io.kind().has_data() && Progress::is_whole(&mut io, i64::from(result)) {
            io.complete(NvmeStatus::SUCCESS);
        } else {
            self.settle(io, result);
        }
    }
}

impl Home {
    /// Judges a result that is not simply a whole transfer.
    pub(super) fn settle(&self, mut io: BdevIo, result: i32) {
        if matches!(io.kind(), IoType::Unmap | IoType::WriteZeroes)
            && let Some(stage) = self.next_stage(&mut io, result)
        {
            Progress::set_stage(&mut io, stage);
            self.queue.borrow_mut().push(io);
            return;
        }
        match Progress::settle(&mut io, i64::from(result), self.device.unit()) {
            Outcome::Done(status) => io.complete(status),
            Outcome::Again => self.queue.borrow_mut().push(io),
        }
    }

    /// The step that follows for an operation on space, if one does.
    fn next_stage(&self, io: &mut BdevIo, result: i32) -> Option<u64> {
        let (kind, stage) = (io.kind(), Progress::stage(io));
        if stage != STAGE_RING {
            return None;
        }
        if result == 0 {
            return io.fua().then_some(STAGE_SYNC);
        }
        // EINVAL is also what an old kernel says to a command it does not know; if the range is
        // what is wrong, the helper thread gets the same answer.
        let lacking = matches!(-result, libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL);
        let way = if kind == IoType::Unmap { &self.unmap_offloaded } else { &self.zero_offloaded };
        lacking.then(|| {
            way.set(true);
            STAGE_OFFLOAD
        })
    }
}
