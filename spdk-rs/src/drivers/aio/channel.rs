//! The device on one core: an AIO context, what waits for it, and what it has completed.
#![allow(unsafe_code, reason = "hands requests that name the I/O's memory to the kernel")]

use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;
use std::sync::Arc;

use nix::libc;
use spdk_rs_sys::aio::{AioContext, AioEvent, Iocb};
use spdk_rs_sys::event::EventFd;

use super::request;
use crate::NvmeStatus;
use crate::bdev::{BdevChannel, BdevCore, BdevIo, IoList, IoType};
use crate::drivers::common::{self, FileDevice, Outcome, Progress, Transfer};
use crate::reactor::{ClientId, CompletionClient, FileOp, Reactor, Rest, submission_group};

/// Completions that are taken at a time.
const REAP_BATCH: usize = 64;

/// Receives the results of the helper threads, for all AIO channels of a reactor.
struct Offloaded {
    core: Rc<BdevCore>,
}

impl CompletionClient for Offloaded {
    fn completed(&self, token: u64, result: i32, _flags: u32) {
        let Some(io) = self.core.unpark(token) else { return late(token) };
        let status =
            if result == 0 { NvmeStatus::SUCCESS } else { NvmeStatus::from_errno(-result, true) };
        io.complete(status);
    }
}

/// The reactor's number for [`Offloaded`].
struct Client(std::io::Result<ClientId>);

fn client(reactor: &Rc<Reactor>) -> std::io::Result<ClientId> {
    let core = BdevCore::of(reactor);
    let client =
        reactor.extension(|| Rc::new(Client(reactor.add_client(Rc::new(Offloaded { core })))));
    client.0.as_ref().copied().map_err(|error| std::io::Error::other(error.to_string()))
}

#[cold]
fn late(token: u64) {
    tracing::error!(token, "a completion came for an I/O that is not in flight");
}

/// A queue of the device on one core.
pub(super) struct AioChannel {
    device: Arc<FileDevice>,
    reactor: Rc<Reactor>,
    core: Rc<BdevCore>,
    client: ClientId,
    depth: usize,
    /// Present until the channel is dropped.
    context: Option<AioContext>,
    /// Signalled by every completion, so that it ends the reactor's sleep.
    bell: EventFd,
    /// Collected and not yet made requests of.
    pending: IoList,
    /// For the helper threads, whose queue was full.
    blocked: IoList,
    /// Requests that the kernel did not take yet, and their tokens.
    requests: Vec<Iocb>,
    tokens: Vec<u64>,
    pointers: Vec<*mut Iocb>,
}

impl AioChannel {
    pub(super) fn open(
        device: &Arc<FileDevice>,
        depth: u32,
        reactor: &Rc<Reactor>,
    ) -> std::io::Result<Self> {
        let context = AioContext::new(depth).map_err(std::io::Error::other)?;
        let bell = EventFd::new()?;
        let client = client(reactor)?;
        reactor.watch(bell.as_fd())?;
        let room = depth as usize;
        Ok(Self {
            device: Arc::clone(device),
            reactor: Rc::clone(reactor),
            core: BdevCore::of(reactor),
            client,
            depth: room,
            context: Some(context),
            bell,
            pending: IoList::new(),
            blocked: IoList::new(),
            requests: Vec::with_capacity(room),
            tokens: Vec::with_capacity(room),
            pointers: Vec::with_capacity(room),
        })
    }

    fn in_flight(&self) -> usize {
        self.context.as_ref().map_or(0, |context| context.in_flight() as usize)
    }

    /// Takes what has completed.
    #[inline]
    fn reap(&mut self) -> usize {
        let mut events = [AioEvent::default(); REAP_BATCH];
        let mut total = 0;
        loop {
            let Some(context) = &mut self.context else { return total };
            let count = context.reap(&mut events);
            for event in &events[..count] {
                self.completed(event.data, event.res);
            }
            total += count;
            if count < REAP_BATCH {
                return total;
            }
        }
    }

    #[inline(always)]
    fn completed(&mut self, token: u64, result: i64) {
        let Some(mut io) = self.core.unpark(token) else { return late(token) };
        match Progress::settle(&mut io, result, self.device.unit()) {
            Outcome::Done(status) => io.complete(status),
            Outcome::Again => self.pending.push(io),
        }
    }

    /// Makes requests of what was collected, as far as there is room, and hands them over.
    #[inline]
    fn submit_collected(&mut self) -> usize {
        let taken = self.in_flight() + self.requests.len();
        for _ in taken..self.depth {
            let Some(io) = self.pending.pop() else { break };
            self.prepare(io);
        }
        self.enter()
    }

    #[inline(always)]
    fn prepare(&mut self, mut io: BdevIo) {
        let fd = self.device.raw_fd();
        let iocb = if io.kind() == IoType::Flush {
            Iocb::fdsync(fd)
        } else {
            request::transfer(fd, &Transfer::rest_of(&mut io, self.device.block_len()))
        };
        let token = io.park();
        self.requests.push(iocb.with_data(token).with_eventfd(self.bell.as_raw_fd()));
        self.tokens.push(token);
    }

    /// Hands the requests over, in groups that grow with what the device has to do already.
    fn enter(&mut self) -> usize {
        let mut total = 0;
        while !self.requests.is_empty() {
            self.pointers.clear();
            self.pointers.extend(self.requests.iter_mut().map(std::ptr::from_mut));
            let Some(context) = &mut self.context else { break };
            let group = submission_group(context.in_flight() as usize).min(self.pointers.len());
            // SAFETY: the pointers are to the elements of `requests`, which nobody touches during
            // the call. What those name belongs to I/Os that are parked until their completion,
            // and the table and the memory of an I/O stay in place until then.
            let submitted = unsafe { context.submit(&mut self.pointers[..group]) };
            match submitted {
                Ok(0) => break,
                Ok(taken) => {
                    self.requests.drain(..taken);
                    self.tokens.drain(..taken);
                    total += taken;
                }
                Err(error) => {
                    self.requests.remove(0);
                    let token = self.tokens.remove(0);
                    self.refused(token, error.raw_os_error().unwrap_or(libc::EIO));
                    total += 1;
                }
            }
        }
        total
    }

    /// The kernel did not take a request at all.
    #[cold]
    fn refused(&mut self, token: u64, errno: i32) {
        let Some(mut io) = self.core.unpark(token) else { return late(token) };
        if io.kind() == IoType::Flush && errno == libc::EINVAL {
            // Before Linux 4.18 there is no asynchronous form, and some file systems have none.
            self.offload(io);
            return;
        }
        match Progress::settle(&mut io, -i64::from(errno), self.device.unit()) {
            Outcome::Done(status) => io.complete(status),
            Outcome::Again => self.pending.push(io),
        }
    }

    /// Gives an I/O to a helper thread.
    fn offload(&mut self, io: BdevIo) {
        let kind = io.kind();
        let block_len = u64::from(self.device.block_len());
        let args = [
            u64::from(self.device.raw_fd().unsigned_abs()),
            io.offset_blocks() * block_len,
            io.num_blocks() * block_len,
            self.flags_of(&io),
        ];
        let run: FileOp = match kind {
            IoType::Flush => common::sync,
            IoType::WriteZeroes => common::zero,
            _ if self.device.is_block_device() => common::discard,
            _ => common::punch,
        };
        let token = io.park();
        if self.reactor.offload_file_op(self.client, token, run, args).is_err()
            && let Some(io) = self.core.unpark(token)
        {
            self.blocked.push(io);
        }
    }

    fn flags_of(&self, io: &BdevIo) -> u64 {
        let block = if self.device.is_block_device() { common::FLAG_BLOCK_DEVICE } else { 0 };
        block | if io.fua() { common::FLAG_SYNC } else { 0 }
    }

    #[cold]
    fn retry_blocked(&mut self) -> usize {
        let mut waiting = std::mem::take(&mut self.blocked);
        let before = waiting.len();
        while let Some(io) = waiting.pop() {
            self.offload(io);
        }
        before - self.blocked.len()
    }
}

impl BdevChannel for AioChannel {
    #[inline]
    fn submit(&mut self, mut io: BdevIo) {
        match io.kind() {
            IoType::Read | IoType::Write | IoType::Flush => {
                Progress::begin(&mut io, self.device.block_len(), 0);
                self.pending.push(io);
            }
            IoType::Unmap | IoType::WriteZeroes => self.offload(io),
            _ => io.complete(NvmeStatus::INVALID_OPCODE),
        }
    }

    #[inline]
    fn poll(&mut self) -> usize {
        let mut work = 0;
        if self.context.as_ref().is_some_and(AioContext::is_ready) {
            work += self.reap();
        }
        if !self.pending.is_empty() || !self.requests.is_empty() {
            work += self.submit_collected();
        }
        if !self.blocked.is_empty() {
            work += self.retry_blocked();
        }
        work
    }

    fn is_polled(&self) -> bool {
        true
    }

    fn rest(&self) -> Rest {
        let in_flight = self.in_flight();
        let has_room = in_flight + self.requests.len() < self.depth;
        // What the kernel did not take waits for a completion, if there is one to come.
        let waits = self.requests.is_empty() || in_flight != 0;
        let collected = !self.pending.is_empty() && has_room;
        if collected || !waits || !self.blocked.is_empty() { Rest::Poll } else { Rest::Sleep }
    }
}

impl Drop for AioChannel {
    fn drop(&mut self) {
        self.reactor.unwatch(self.bell.as_fd());
        // The end of a context takes the kernel a while, even with nothing in flight.
        if let Some(context) = self.context.take() {
            self.reactor.offload().run(move || drop(context));
        }
    }
}
