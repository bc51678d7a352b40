//! The reactor's io_uring: one ring per core, shared by everything on it.
//!
//! Entries are queued by anyone during a turn and submitted with one system call; when nothing is
//! queued and the kernel has nothing for us, a turn makes no system call at all.
#![allow(unsafe_code, reason = "registers the buffer arena with the kernel")]

use std::cell::{Cell, RefCell};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use spdk_rs_sys::uring::{BUFFER_BYTES_MAX, Cqe, Ring, RingOptions, UringError, UringFeatures};

use super::mailbox::Mailbox;
use super::source::ClientId;
use super::stats::ReactorCounters;
use crate::env::Memory;

/// Submission entries; when more are queued in one turn, they are submitted in parts.
const ENTRIES: u32 = 256;
/// Completions taken from the ring before their owners run.
const REAP_BATCH: usize = 64;
/// Slots for registered files and for registered buffers.
const FIXED_SLOTS: u32 = 256;
/// A token has 48 bits; the client's number is above it in the user data.
const TOKEN_BITS: u32 = 48;
const TOKEN_MASK: u64 = (1 << TOKEN_BITS) - 1;
/// The token of the ring's own watch of an epoll set; 0 is the bell's.
const GUESTS_TOKEN: u64 = 1;

/// How many requests to hand to the kernel at once while a device works on `in_flight` others.
///
/// The kernel holds the requests of one call back until it has prepared all of them. A device that
/// has little to do should not wait for that: it gets a few at once, and larger groups, which cost
/// less per request, the more it has. Measured on a virtio disk at depth 32 as 10 % more reads
/// than with one call for all.
pub(crate) fn submission_group(in_flight: usize) -> usize {
    const SHARE: usize = 8;
    const GROUP_MAX: usize = 16;
    (in_flight / SHARE).clamp(1, GROUP_MAX)
}

/// The ring of a reactor.
pub struct ReactorRing {
    ring: RefCell<Ring>,
    mailbox: Arc<Mailbox>,
    features: UringFeatures,
    in_flight: Cell<usize>,
    /// The client whose entries are not counted, see [`ReactorRing::push_late`].
    late_client: Cell<u16>,
    /// Whether the kernel watches the descriptors that the ring does not know.
    guests_watched: Cell<bool>,
    free_files: RefCell<Vec<u32>>,
    /// Where the arena is, when it could be registered: buffer `i` is its `i`th gibibyte.
    fixed_arena: Cell<Option<(usize, usize)>>,
    /// Registered with the kernel, so it has to outlive the ring.
    memory: Memory,
    counters: Arc<ReactorCounters>,
}

/// Registers the buffer arena with a ring, so that its pages are looked up once and not per I/O.
fn register_arena(ring: &mut Ring, memory: &Memory) -> Option<(usize, usize)> {
    let (base, len) = memory.arena_range();
    let buffers = u32::try_from(len.div_ceil(BUFFER_BYTES_MAX)).ok()?;
    ring.register_buffers_sparse(buffers).ok()?;
    for index in 0..buffers {
        let offset = index as usize * BUFFER_BYTES_MAX;
        let part = BUFFER_BYTES_MAX.min(len - offset);
        // SAFETY: the arena stays mapped while the ring holds a clone of `memory`.
        let updated = unsafe { ring.update_buffer(index, base.wrapping_add(offset), part) };
        updated.ok()?;
    }
    Some((base.addr(), len))
}

impl ReactorRing {
    /// The client number of the ring's own entries.
    pub(super) const INTERNAL_CLIENT: u16 = u16::MAX;

    pub(super) fn open(
        mailbox: &Arc<Mailbox>,
        memory: &Memory,
        counters: &Arc<ReactorCounters>,
    ) -> Result<Self, UringError> {
        let options = RingOptions { entries: ENTRIES, ..RingOptions::default() };
        let mut ring = Ring::new(options)?;
        let features = ring.features();
        let files = ring.register_files_sparse(FIXED_SLOTS).is_ok();
        let free_files = if files { (0..FIXED_SLOTS).rev().collect() } else { Vec::new() };
        let ring = Self {
            ring: RefCell::new(ring),
            mailbox: Arc::clone(mailbox),
            features,
            in_flight: Cell::new(0),
            late_client: Cell::new(Self::INTERNAL_CLIENT),
            guests_watched: Cell::new(false),
            free_files: RefCell::new(free_files),
            fixed_arena: Cell::new(None),
            memory: memory.clone(),
            counters: Arc::clone(counters),
        };
        ring.arm_bell();
        Ok(ring)
    }

    /// What the kernel's io_uring can do.
    #[must_use]
    pub fn features(&self) -> &UringFeatures {
        &self.features
    }

    /// Registers the buffer arena with the ring, so that its pages are looked up once and not per
    /// I/O. Quick when the pages are there already, see [`Memory::populate`]. False when the kernel
    /// refuses, for lack of lockable memory as a rule; I/O works all the same.
    pub fn register_buffers(&self) -> bool {
        if !self.has_fixed_buffers() {
            self.fixed_arena.set(register_arena(&mut self.ring.borrow_mut(), &self.memory));
        }
        self.has_fixed_buffers()
    }

    /// Whether the buffer arena is registered with the ring.
    #[must_use]
    pub fn has_fixed_buffers(&self) -> bool {
        self.fixed_arena.get().is_some()
    }

    /// The index of the registered buffer that holds these bytes.
    #[inline(always)]
    #[must_use]
    pub fn fixed_buffer(&self, base: *const u8, len: usize) -> Option<u16> {
        let (start, size) = self.fixed_arena.get()?;
        let offset = base.addr().wrapping_sub(start);
        let index = offset / BUFFER_BYTES_MAX;
        let inside = offset < size && len <= size - offset;
        let one_buffer = index == (offset + len.max(1) - 1) / BUFFER_BYTES_MAX;
        if inside && one_buffer { u16::try_from(index).ok() } else { None }
    }

    /// Registers a file and returns its slot; none when all slots are taken.
    pub fn register_file(&self, fd: std::os::fd::BorrowedFd<'_>) -> Option<u32> {
        let slot = self.free_files.borrow_mut().pop()?;
        match self.ring.borrow_mut().register_file(slot, fd.as_raw_fd()) {
            Ok(()) => Some(slot),
            Err(_) => {
                self.free_files.borrow_mut().push(slot);
                None
            }
        }
    }

    /// Gives a slot back.
    pub fn unregister_file(&self, slot: u32) {
        if self.ring.borrow_mut().unregister_file(slot).is_ok() {
            self.free_files.borrow_mut().push(slot);
        }
    }

    /// The user data that routes a completion to `client` with `token` (48 bits).
    #[inline(always)]
    #[must_use]
    pub fn user_data(client: ClientId, token: u64) -> u64 {
        u64::from(client.0) << TOKEN_BITS | token & TOKEN_MASK
    }

    /// Queues an entry. `queue` pushes exactly one and returns false when the ring is full; then
    /// what is queued is submitted and it is called once more. False: the kernel takes no more
    /// now, try again in a later turn.
    #[inline]
    pub fn push(&self, mut queue: impl FnMut(&mut Ring) -> bool) -> bool {
        let mut ring = self.ring.borrow_mut();
        let mut queued = queue(&mut ring);
        if !queued {
            queued = self.submit(&mut ring).is_ok() && queue(&mut ring);
        }
        self.in_flight.set(self.in_flight.get() + usize::from(queued));
        // One entry alone waits for the end of the turn, where the wait submits it. The ring's own
        // entries are queued without being counted.
        let waiting = ring.queued();
        let working_on = self.in_flight.get().saturating_sub(waiting);
        if waiting > 1 && waiting >= submission_group(working_on) {
            self.enter(&mut ring);
        }
        queued
    }

    /// Names the one client that pushes by [`ReactorRing::push_late`], and only so.
    pub(crate) fn set_late_client(&self, client: ClientId) {
        self.late_client.set(client.0);
    }

    /// Queues an entry that leaves with the end of the turn, however many others wait: for sockets,
    /// of which many are served by one system call. As these wait for the world outside and not for
    /// a device, they are not counted as in flight. Otherwise as [`ReactorRing::push`].
    #[inline]
    pub(crate) fn push_late(&self, mut queue: impl FnMut(&mut Ring) -> bool) -> bool {
        let mut ring = self.ring.borrow_mut();
        queue(&mut ring) || self.submit(&mut ring).is_ok() && queue(&mut ring)
    }

    /// Entries that were queued and have not completed, but for those of the late client.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Submits what is queued and hands out what has completed.
    #[inline(always)]
    pub(super) fn turn(&self, complete: impl FnMut(u16, u64, i32, u32)) -> usize {
        let ready = {
            let mut ring = self.ring.borrow_mut();
            if ring.queued() != 0 || ring.needs_enter() {
                self.enter(&mut ring);
            }
            ring.cq_ready()
        };
        if ready { self.reap(complete) } else { 0 }
    }

    fn submit(&self, ring: &mut Ring) -> std::io::Result<usize> {
        self.counters.kernel_entries.add(1);
        ring.submit()
    }

    #[cold]
    fn enter(&self, ring: &mut Ring) {
        if let Err(error) = self.submit(ring) {
            // EBUSY and EAGAIN pass once completions were taken; the entries stay queued.
            tracing::debug!(%error, "io_uring_enter");
        }
    }

    fn reap(&self, mut complete: impl FnMut(u16, u64, i32, u32)) -> usize {
        let mut batch = [Cqe::default(); REAP_BATCH];
        let found = self.ring.borrow_mut().reap(&mut batch);
        for cqe in &batch[..found] {
            let client = u16::try_from(cqe.user_data >> TOKEN_BITS).unwrap_or(u16::MAX);
            if client == Self::INTERNAL_CLIENT {
                match cqe.user_data & TOKEN_MASK {
                    GUESTS_TOKEN => self.guests_watched.set(false),
                    _ => self.bell_rang(cqe.has_more()),
                }
            } else {
                if !cqe.has_more() && client != self.late_client.get() {
                    self.in_flight.set(self.in_flight.get().saturating_sub(1));
                }
                complete(client, cqe.user_data & TOKEN_MASK, cqe.res, cqe.flags);
            }
        }
        found
    }

    /// Lets a message from another thread end a wait on the ring.
    fn arm_bell(&self) {
        let user_data = u64::from(Self::INTERNAL_CLIENT) << TOKEN_BITS;
        let armed = self
            .ring
            .borrow_mut()
            .poll_multishot(self.mailbox.bell().as_raw_fd(), nix::libc::POLLIN, user_data)
            .is_ok();
        if !armed {
            tracing::warn!("io_uring is full: a message may wait until the next timer");
        }
    }

    /// Has the next wait end when something in an epoll set becomes ready.
    pub(super) fn watch_guests(&self, epoll: std::os::fd::RawFd) {
        if self.guests_watched.get() {
            return;
        }
        let user_data = u64::from(Self::INTERNAL_CLIENT) << TOKEN_BITS | GUESTS_TOKEN;
        let watched = self.ring.borrow_mut().poll_once(epoll, nix::libc::POLLIN, user_data);
        // A full ring has completions on their way, which end the wait as well.
        self.guests_watched.set(watched.is_ok());
    }

    fn bell_rang(&self, still_armed: bool) {
        // It fails only when the descriptor is not one, and it is ours.
        let _ = self.mailbox.bell().drain();
        if !still_armed {
            self.arm_bell();
        }
    }

    /// Submits what is queued and waits for a completion, a message, or the time.
    pub(super) fn wait(&self, timeout: Option<Duration>) {
        self.counters.kernel_entries.add(1);
        let waited = self.ring.borrow_mut().submit_and_wait(1, timeout);
        if let Err(error) = waited {
            tracing::debug!(%error, "io_uring_enter");
        }
    }
}
