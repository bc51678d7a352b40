//! The device on one core: from an I/O to entries of the reactor's ring.
#![allow(unsafe_code, reason = "hands requests that name the I/O's memory to the kernel")]

use std::cell::{Cell, RefCell};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;

use nix::libc;
use spdk_rs_sys::uring::{Ring, Target};

use super::client::{Client, Home, STAGE_OFFLOAD, STAGE_SYNC};
use super::polled::PolledRing;
use crate::NvmeStatus;
use crate::bdev::{BdevChannel, BdevCore, BdevIo, IoType};
use crate::drivers::common::{self, FileDevice, Pieces, Progress, Transfer};
use crate::reactor::{ClientId, FileOp, Reactor, ReactorRing, Rest};

/// Bytes of one request at the most; the kernel moves no more than 2 GiB at once anyway.
const REQUEST_BYTES_MAX: u32 = 1 << 30;

/// Queues a transfer; false when the ring is full.
///
/// # Safety
/// The memory that the pieces name, and their table, stay in place, used by nobody else, until
/// the completion with `user_data` was reaped.
#[inline(always)]
pub(super) unsafe fn queue_transfer(
    ring: &mut Ring,
    target: Target,
    transfer: &Transfer,
    fixed: Option<u16>,
    user_data: u64,
) -> bool {
    let &Transfer { write, rw_flags, pieces, offset } = transfer;
    let queued = match pieces {
        Pieces::One(iov) => {
            let len = u32::try_from(iov.len()).unwrap_or(u32::MAX).min(REQUEST_BYTES_MAX);
            if write {
                // SAFETY: passed on to the caller.
                unsafe { ring.write(target, iov.base(), len, offset, rw_flags, fixed, user_data) }
            } else {
                // SAFETY: passed on to the caller.
                unsafe { ring.read(target, iov.base(), len, offset, rw_flags, fixed, user_data) }
            }
        }
        // An entry is laid out as the kernel's, see `IoVec`.
        Pieces::Many { first, count } => {
            let (table, n) = (first.cast(), u32::try_from(count).unwrap_or(u32::MAX));
            if write {
                // SAFETY: passed on to the caller.
                unsafe { ring.writev(target, table, n, offset, rw_flags, user_data) }
            } else {
                // SAFETY: passed on to the caller.
                unsafe { ring.readv(target, table, n, offset, rw_flags, user_data) }
            }
        }
    };
    queued.is_ok()
}

/// A queue of the device on one core.
pub(super) struct UringChannel {
    device: Arc<FileDevice>,
    reactor: Rc<Reactor>,
    core: Rc<BdevCore>,
    client: Rc<Client>,
    id: ClientId,
    home: Rc<Home>,
    number: usize,
    target: Target,
    polled: Option<PolledRing>,
    /// The device turned out to have no poll queues: see [`UringChannel::poll_device`].
    polling_refused: bool,
}

impl UringChannel {
    pub(super) fn open(
        device: &Arc<FileDevice>,
        iopoll: bool,
        reactor: &Rc<Reactor>,
    ) -> std::io::Result<Self> {
        let ring = ring_of(reactor)?;
        let (client, id) = Client::of(reactor)?;
        let polled = if iopoll { open_polled(device) } else { None };
        let slot = ring.register_file(device.file().as_fd());
        let _ = device.fixed_buffers.set(ring.has_fixed_buffers());
        let home = Rc::new(Home {
            device: Arc::clone(device),
            queue: RefCell::default(),
            unmap_offloaded: Cell::new(device.is_block_device() && !ring.features().uring_cmd),
            zero_offloaded: Cell::new(!ring.features().fallocate),
        });
        Ok(Self {
            number: client.add(&home),
            target: slot.map_or(Target::Fd(device.raw_fd()), Target::Fixed),
            device: Arc::clone(device),
            reactor: Rc::clone(reactor),
            core: BdevCore::of(reactor),
            client,
            id,
            home,
            polled,
            polling_refused: false,
        })
    }

    /// Queues an I/O, or the next step of one. Gives it back when the ring is full.
    #[inline(always)]
    fn issue(&mut self, io: BdevIo) -> Result<(), BdevIo> {
        match io.kind() {
            IoType::Read | IoType::Write => self.issue_transfer(io),
            _ => self.issue_other(io),
        }
    }

    #[inline(always)]
    fn issue_transfer(&mut self, mut io: BdevIo) -> Result<(), BdevIo> {
        if self.polled.is_some() && !self.polling_refused {
            return self.issue_polled(io);
        }
        let Some(ring) = self.reactor.ring() else { return Err(io) };
        let transfer = Transfer::rest_of(&mut io, self.device.block_len());
        let fixed = match transfer.pieces {
            Pieces::One(iov) => ring.fixed_buffer(iov.base(), iov.len()),
            Pieces::Many { .. } => None,
        };
        let token = io.park();
        let (target, user_data) = (self.target, ReactorRing::user_data(self.id, token));
        // SAFETY: the I/O is parked until its completion; the memory that it owns and the table of
        // its pieces stay in place until then.
        let queued =
            ring.push(|ring| unsafe { queue_transfer(ring, target, &transfer, fixed, user_data) });
        if queued { Ok(()) } else { self.take_back(token) }
    }

    #[cold]
    fn issue_polled(&mut self, mut io: BdevIo) -> Result<(), BdevIo> {
        let transfer = Transfer::rest_of(&mut io, self.device.block_len());
        let Some(polled) = &mut self.polled else { return Err(io) };
        let token = io.park();
        // SAFETY: as in `issue_transfer`.
        let queued = unsafe { polled.push(self.device.raw_fd(), &transfer, token) };
        if queued { Ok(()) } else { self.take_back(token) }
    }

    /// A flush, or a step of an operation on space.
    fn issue_other(&mut self, mut io: BdevIo) -> Result<(), BdevIo> {
        let unmap = io.kind() == IoType::Unmap;
        let stage = Progress::stage(&mut io);
        let offloaded = if unmap { &self.home.unmap_offloaded } else { &self.home.zero_offloaded };
        let sync = io.kind() == IoType::Flush || stage == STAGE_SYNC;
        if !sync && (stage == STAGE_OFFLOAD || offloaded.get()) {
            return self.offload(io);
        }
        let Some(ring) = self.reactor.ring() else { return Err(io) };
        let block_len = u64::from(self.device.block_len());
        let (off, len) = (io.offset_blocks() * block_len, io.num_blocks() * block_len);
        let discard = unmap && self.device.is_block_device();
        // As a write does, zeroing makes a file longer that was cut meanwhile; a hole does not.
        let mode = if unmap {
            libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE
        } else {
            libc::FALLOC_FL_ZERO_RANGE
        };
        let token = io.park();
        let (target, user_data) = (self.target, ReactorRing::user_data(self.id, token));
        let queued = ring.push(|ring| {
            let queued = if sync {
                ring.fsync(target, true, user_data)
            } else if discard {
                ring.blk_discard(target, off, len, user_data)
            } else {
                ring.fallocate(target, mode, off, len, user_data)
            };
            queued.is_ok()
        });
        if queued { Ok(()) } else { self.take_back(token) }
    }

    /// Gives an operation on space to a helper thread, which also makes it durable if need be.
    fn offload(&mut self, mut io: BdevIo) -> Result<(), BdevIo> {
        Progress::set_stage(&mut io, STAGE_OFFLOAD);
        let block_len = u64::from(self.device.block_len());
        let mut flags = 0;
        if self.device.is_block_device() {
            flags |= common::FLAG_BLOCK_DEVICE;
        }
        if io.fua() {
            flags |= common::FLAG_SYNC;
        }
        let fd = u64::from(self.device.raw_fd().unsigned_abs());
        let args = [fd, io.offset_blocks() * block_len, io.num_blocks() * block_len, flags];
        let run: FileOp = match io.kind() {
            IoType::WriteZeroes => common::zero,
            _ if self.device.is_block_device() => common::discard,
            _ => common::punch,
        };
        let token = io.park();
        match self.reactor.offload_file_op(self.id, token, run, args) {
            Ok(()) => Ok(()),
            Err(_full) => self.take_back(token),
        }
    }

    /// Takes an I/O back that was not queued.
    #[cold]
    fn take_back(&self, token: u64) -> Result<(), BdevIo> {
        match self.core.unpark(token) {
            Some(io) => Err(io),
            None => unreachable!("an I/O that was parked here a moment ago is parked"),
        }
    }

    /// Issues what waits, until the ring is full.
    #[cold]
    fn issue_waiting(&mut self) -> usize {
        let mut waiting = self.home.queue.take();
        let mut issued = 0;
        while let Some(io) = waiting.pop() {
            if let Err(io) = self.issue(io) {
                let mut rest = self.home.queue.borrow_mut();
                rest.push(io);
                while let Some(io) = waiting.pop() {
                    rest.push(io);
                }
                return issued;
            }
            issued += 1;
        }
        issued
    }

    /// Polls the device. A kernel or device that cannot be polled says so with the first
    /// completion: then everything goes through the reactor's ring.
    #[cold]
    fn poll_device(&mut self) -> usize {
        let Some(polled) = &mut self.polled else { return 0 };
        let (core, home, refused) = (&self.core, &self.home, &mut self.polling_refused);
        polled.turn(|token, result| {
            let Some(io) = core.unpark(token) else {
                tracing::error!(token, "a completion came for an I/O that is not in flight");
                return;
            };
            if result == -libc::EOPNOTSUPP || *refused && result == -libc::EINVAL {
                *refused = true;
                let reason = "the device has no queues to poll".to_owned();
                if home.device.iopoll_refusal.set(reason).is_ok() {
                    tracing::warn!("a device cannot be polled; its interrupts are waited for");
                }
                home.queue.borrow_mut().push(io);
            } else {
                home.settle(io, result);
            }
        })
    }
}

fn ring_of(reactor: &Reactor) -> std::io::Result<&ReactorRing> {
    reactor.ring().ok_or_else(|| {
        let reason = reactor.ring_refusal().unwrap_or("no reason is known");
        let text = format!("this core has no io_uring ({reason}); use aio:// instead");
        std::io::Error::other(text)
    })
}

/// A ring that polls, if the kernel gives one; the reason why not is kept for listings.
fn open_polled(device: &FileDevice) -> Option<PolledRing> {
    match PolledRing::open() {
        Ok(ring) => Some(ring),
        Err(error) => {
            let _ = device.iopoll_refusal.set(error.to_string());
            None
        }
    }
}

impl BdevChannel for UringChannel {
    #[inline]
    fn submit(&mut self, mut io: BdevIo) {
        Progress::begin(&mut io, self.device.block_len(), self.number as u64);
        let known = matches!(
            io.kind(),
            IoType::Read | IoType::Write | IoType::Flush | IoType::Unmap | IoType::WriteZeroes
        );
        if !known {
            io.complete(NvmeStatus::INVALID_OPCODE);
        } else if let Err(io) = self.issue(io) {
            self.home.queue.borrow_mut().push(io);
        }
    }

    #[inline]
    fn poll(&mut self) -> usize {
        let mut work = 0;
        if !self.home.queue.borrow().is_empty() {
            work += self.issue_waiting();
        }
        if self.polled.is_some() {
            work += self.poll_device();
        }
        work
    }

    fn is_polled(&self) -> bool {
        true
    }

    fn rest(&self) -> Rest {
        let polling = self.polled.as_ref().is_some_and(PolledRing::is_busy);
        if polling || !self.home.queue.borrow().is_empty() { Rest::Poll } else { Rest::Sleep }
    }
}

impl Drop for UringChannel {
    fn drop(&mut self) {
        self.client.remove(self.number);
        if let (Target::Fixed(slot), Some(ring)) = (self.target, self.reactor.ring()) {
            ring.unregister_file(slot);
        }
    }
}
