//! What goes to the host: data, responses, requests for data.
#![allow(unsafe_code, reason = "data are sent from where they are")]

use super::slots::{Slot, Stage};
use super::{Connection, Phase};
use crate::bdev::IoBuf;
use crate::env::IoVec;
use crate::net::{SendFull, Stream};
use crate::nvme::spec::Cqe;
use crate::nvme::tcp::digest::{Crc32c, DIGEST_BYTES};
use crate::nvme::tcp::framing::{DataPdu, Framer, HEADER_SPACE_BYTES, R2t};

/// Pieces of data that are queued at a time.
const PIECES: usize = 16;

impl Connection {
    /// The queue pair's answer to a command.
    #[inline]
    pub(super) fn answer(&self, tag: u32, cqe: Cqe, data: IoBuf, data_len: u32) {
        let kept = {
            let slots = &mut self.wire.borrow_mut().slots;
            let slot = slots.get(tag).filter(|slot| slot.stage == Stage::Executing);
            match slot {
                Some(slot) if self.phase.get() == Phase::Running => {
                    slot.stage = Stage::Answered;
                    (slot.cqe, slot.data_len) = (cqe, data_len);
                    if data_len == 0 {
                        Some(data)
                    } else {
                        slot.data = data;
                        None
                    }
                }
                // The connection ends.
                _ => return drop(data),
            }
        };
        self.outstanding.set(self.outstanding.get().saturating_sub(1));
        if let Some(data) = kept
            && !data.is_empty()
        {
            drop(data);
            self.group.memory_freed();
        }
        self.queue(tag);
    }

    /// Sends what a command in stage `Answered` or `Asking` has to send, after what waits already.
    #[inline]
    pub(super) fn queue(&self, tag: u32) {
        if self.wire.borrow().slots.unsent.is_empty() && self.send(tag).is_ok() {
            return;
        }
        self.wire.borrow_mut().slots.unsent.push_back(tag);
    }

    /// There is room: sends what waits for it.
    #[cold]
    pub(super) fn send_unsent(&self) {
        loop {
            let next = self.wire.borrow().slots.unsent.front().copied();
            let Some(tag) = next else { return };
            if self.send(tag).is_err() {
                return;
            }
            self.wire.borrow_mut().slots.unsent.pop_front();
        }
    }

    fn send(&self, tag: u32) -> Result<(), SendFull> {
        let Some(stream) = self.stream.get() else { return Ok(()) };
        let framer = self.framer.get();
        let freed = {
            let slots = &mut self.wire.borrow_mut().slots;
            let Some(slot) = slots.get(tag) else { return Ok(()) };
            match (slot.stage, slot.data_len) {
                (Stage::Asking, _) => {
                    ask(stream, &framer, tag, slot)?;
                    slot.stage = Stage::Fetching;
                    slots.ask(tag);
                    false
                }
                (_, 0) => {
                    let mut out = [0; HEADER_SPACE_BYTES];
                    let len = framer.response(&slot.cqe, &mut out);
                    stream.send(&out[..len], None)?;
                    let _ = slots.free(tag);
                    slots.note_answer();
                    true
                }
                _ => {
                    let success = self.group.shared.options.c2h_success && is_plain(&slot.cqe);
                    send_data(stream, &framer, tag, slot, success)?;
                    slot.stage = Stage::Sending;
                    slots.note_answer();
                    false
                }
            }
        };
        self.note_progress();
        if freed && self.is_stalled() {
            self.go_on_later();
        }
        Ok(())
    }

    /// The data of a command have left.
    pub(super) fn has_left(&self, token: u64) {
        let tag = u32::try_from(token).unwrap_or(u32::MAX);
        let data = self.wire.borrow_mut().slots.free(tag);
        drop(data);
        self.note_progress();
        self.group.memory_freed();
        if self.is_stalled() {
            self.go_on_with_slot();
        }
    }

    /// A place has become free in the middle of something: the command that waits for one goes on
    /// afterwards.
    #[cold]
    fn go_on_later(&self) {
        let this = self.this.clone();
        self.group.reactor.spawn("nvmf tcp goes on", async move {
            if let Some(connection) = this.upgrade() {
                connection.go_on_with_slot();
            }
        });
    }
}

/// Whether a completion says nothing but success.
fn is_plain(cqe: &Cqe) -> bool {
    cqe.status().is_success() && cqe.result.get() == 0
}

/// Asks for all data of a command at once.
fn ask(stream: &Stream, framer: &Framer, tag: u32, slot: &Slot) -> Result<(), SendFull> {
    let mut out = [0; HEADER_SPACE_BYTES];
    let request = R2t {
        cccid: slot.sqe.cid.get(),
        // There are at most twice as many places as the largest queue has entries.
        ttag: u16::try_from(tag).unwrap_or(u16::MAX),
        offset: 0,
        length: slot.data_len,
    };
    let len = framer.r2t(&request, &mut out);
    stream.send(&out[..len], None)
}

/// Sends a command's data from where they are, and its response unless `success` stands for it.
fn send_data(
    stream: &Stream,
    framer: &Framer,
    tag: u32,
    slot: &Slot,
    success: bool,
) -> Result<(), SendFull> {
    let data = DataPdu {
        cccid: slot.cqe.cid.get(),
        ttag: 0,
        datao: 0,
        datal: slot.data_len,
        last: true,
        success,
    };
    let (mut head, mut tail) = ([0; HEADER_SPACE_BYTES], [0; DIGEST_BYTES + HEADER_SPACE_BYTES]);
    let head_len = framer.c2h_data(&data, &mut head);
    let mut tail_len = 0;
    let len = usize::try_from(slot.data_len).unwrap_or(usize::MAX);
    let table = slot.data.io_vecs();
    if framer.data_digest {
        tail[..DIGEST_BYTES].copy_from_slice(&digest(table, len).to_le_bytes());
        tail_len = DIGEST_BYTES;
    }
    if !success {
        let mut response = [0; HEADER_SPACE_BYTES];
        let response_len = framer.response(&slot.cqe, &mut response);
        tail[tail_len..tail_len + response_len].copy_from_slice(&response[..response_len]);
        tail_len += response_len;
    }
    queue_pieces(stream, &head[..head_len], table, len, &tail[..tail_len], tag)
}

/// The digest of the first `len` bytes.
fn digest(table: &[IoVec], mut len: usize) -> u32 {
    let mut digest = Crc32c::new();
    for piece in table {
        let piece = piece.truncated(len);
        len -= piece.len();
        // SAFETY: the answer's memory is the transport's now. Nothing writes to it, since devices
        // do not lend theirs on connections with data digests.
        unsafe { digest.update_piece(piece) };
    }
    digest.value()
}

/// Queues the head, the first `len` bytes of the table, and the tail: all or nothing.
fn queue_pieces(
    stream: &Stream,
    head: &[u8],
    table: &[IoVec],
    mut len: usize,
    tail: &[u8],
    tag: u32,
) -> Result<(), SendFull> {
    if !stream.has_room(head.len() + tail.len(), table.len()) {
        return Err(SendFull);
    }
    let mut head = head;
    let mut rest = table;
    loop {
        let (some, others) = rest.split_at(rest.len().min(PIECES));
        let mut pieces = [IoVec::EMPTY; PIECES];
        let mut count = 0;
        for piece in some {
            pieces[count] = piece.truncated(len);
            len -= pieces[count].len();
            count += 1;
        }
        let last = others.is_empty() || len == 0;
        let (tail, token) = if last { (tail, Some(u64::from(tag))) } else { (&[][..], None) };
        // SAFETY: the slot owns the answer's memory, and frees it when the token was reported or
        // the stream has been closed.
        unsafe { stream.send_gather(head, &pieces[..count], tail, token) }?;
        if last {
            return Ok(());
        }
        (head, rest) = (&[], others);
    }
}
