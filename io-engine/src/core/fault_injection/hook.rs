//! An injection on one core.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use spdk_rs::NvmeStatus;
use spdk_rs::bdev::{
    BdevIo, DelayQueue, Interceptor, InterceptorFactory, IoType, KeptList, Notice, Then,
};
use spdk_rs::reactor::Reactor;

use super::injection::Injection;
use super::kind::Kind;
use super::reorder::Reordering;
use super::{data, removal, tracker};

pub(super) struct Make(pub(super) Arc<Injection>);

impl InterceptorFactory for Make {
    fn make(&self) -> Box<dyn Interceptor> {
        let injection = Arc::clone(&self.0);
        match Reactor::current() {
            Some(reactor) => Box::new(Hook {
                injection,
                reactor,
                kept: KeptList::default(),
                delayed: DelayQueue::default(),
                reordering: Rc::default(),
            }),
            // Channels are opened on reactors only.
            None => Box::new(Nothing),
        }
    }
}

struct Nothing;

impl Interceptor for Nothing {}

struct Hook {
    injection: Arc<Injection>,
    reactor: Rc<Reactor>,
    kept: KeptList,
    delayed: DelayQueue,
    reordering: Rc<Reordering>,
}

impl Hook {
    /// The number of the hit, if the fault happens to an I/O.
    fn hit(&self, io: &BdevIo) -> Option<u64> {
        let injection = &*self.injection;
        if injection.fits(io, self.reactor.now()) { injection.draw() } else { None }
    }

    /// Keeps an I/O as the fault says; gives it back when it is none that does.
    fn keep(&self, hit: u64, io: BdevIo, then: Then) -> Option<BdevIo> {
        let injection = &*self.injection;
        match injection.spec.kind {
            Kind::Delay(delay) => {
                let ticks = self.reactor.clock().ticks_in(delay.sample(injection.seed, hit));
                let due = self.reactor.now().saturating_add(ticks);
                self.delayed.push(&self.reactor, due, io, then);
            }
            Kind::Hang => {
                injection.held.fetch_add(1, Ordering::Relaxed);
                self.kept.push(io, then);
            }
            Kind::Reorder(options) => {
                self.reordering.push(&self.reactor, injection.seed, options, io, then);
            }
            _ => return Some(io),
        }
        None
    }

    /// The status that the fault ends an I/O with, if it does.
    fn status(&self, kind: IoType) -> Option<NvmeStatus> {
        match self.injection.spec.kind {
            Kind::Status(status) => Some(status),
            Kind::Errno(errno) => Some(NvmeStatus::from_errno(errno, kind.modifies())),
            Kind::NoMemory => Some(NvmeStatus::NOT_READY),
            Kind::Lost | Kind::DroppedFlush => Some(NvmeStatus::SUCCESS),
            Kind::Remove => {
                removal::start(&self.reactor, &self.injection);
                Some(NvmeStatus::INVALID_NAMESPACE)
            }
            _ => None,
        }
    }
}

impl Interceptor for Hook {
    fn submission(&self, io: BdevIo) -> Option<BdevIo> {
        let hit =
            if self.injection.at_submission.contains(io.kind()) { self.hit(&io) } else { None };
        if self.injection.spec.kind.watches_changes() {
            return tracker::submission(&self.injection, &self.reactor, io, hit.is_some());
        }
        let Some(hit) = hit else { return Some(io) };
        if let Some(status) = self.status(io.kind()) {
            io.complete(status);
            return None;
        }
        let io = self.keep(hit, io, Then::Resume)?;
        data::write(&self.injection, hit, io);
        None
    }

    fn completion(&self, io: BdevIo, status: NvmeStatus) -> Option<(BdevIo, NvmeStatus)> {
        let injection = &self.injection;
        // Data are there only when the read went well.
        let whole = status.is_success() || injection.spec.kind.can_happen_to_failures();
        let here = whole && injection.at_completion.contains(io.kind());
        let hit = if here { self.hit(&io) } else { None };
        if injection.spec.kind.watches_changes() {
            return tracker::completion(injection, &self.reactor, io, status, hit.is_some());
        }
        let Some(hit) = hit else { return Some((io, status)) };
        if let Some(status) = self.status(io.kind()) {
            return Some((io, status));
        }
        let mut io = self.keep(hit, io, Then::Complete(status))?;
        data::change_read(injection, hit, &mut io);
        Some((io, status))
    }

    fn told(&self, notice: Notice) {
        let released = self.kept.told(notice) as u64;
        self.injection.held.fetch_sub(released, Ordering::Relaxed);
        self.delayed.told(notice);
        self.reordering.told(notice);
        if notice == Notice::Removed {
            tracker::forget(&self.reactor, &self.injection);
        }
    }
}
