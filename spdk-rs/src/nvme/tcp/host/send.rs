//! Commands and data on their way out.
#![allow(unsafe_code, reason = "commands name their memory by address")]

use super::entry::{Direction, Entry};
use super::pair::TcpPair;
use crate::env::IoVec;
use crate::net::Stream;
use crate::nvme::spec::SglDescriptor;
use crate::nvme::tcp::digest::{Crc32c, DIGEST_BYTES};
use crate::nvme::tcp::framing::{DataPdu, Framer, HEADER_SPACE_BYTES, R2t};

/// Pieces of one PDU's data.
const PIECES_MAX: usize = 16;

/// CDW0 bits 15:14: the data pointer is an SGL.
const PSDT_SGL: u8 = 1 << 6;

/// A run of a command's memory.
struct Run {
    pieces: [IoVec; PIECES_MAX],
    count: usize,
    len: u32,
}

impl Run {
    /// The first pieces of `len` bytes from `offset` on, as many as there are places for.
    #[inline]
    fn of(table: &[IoVec], offset: u32, len: u32) -> Self {
        let mut run = Self { pieces: [IoVec::EMPTY; PIECES_MAX], count: 0, len: 0 };
        let (mut skip, mut left) = (offset as usize, len as usize);
        for piece in table {
            let part = piece.advanced(skip).truncated(left);
            skip -= skip.min(piece.len());
            if part.is_empty() {
                continue;
            }
            if run.count == PIECES_MAX {
                break;
            }
            run.pieces[run.count] = part;
            run.count += 1;
            left -= part.len();
        }
        run.len = len - u32::try_from(left).unwrap_or(0);
        run
    }

    fn pieces(&self) -> &[IoVec] {
        &self.pieces[..self.count]
    }

    /// The data digest, as it goes out.
    fn digest(&self) -> [u8; DIGEST_BYTES] {
        let mut digest = Crc32c::new();
        for &piece in self.pieces() {
            // SAFETY: the memory belongs to the command, and nobody writes it while it is sent.
            unsafe { digest.update_piece(piece) };
        }
        digest.value().to_le_bytes()
    }

    /// Queues a PDU with these data; false without room.
    fn send(&self, stream: &Stream, framer: Framer, header: &[u8], cid: u16) -> bool {
        let digest = if framer.data_digest { &self.digest()[..] } else { &[] };
        // SAFETY: the command's memory stays in place until its end is reported, and that waits
        // for the token or the end of the stream.
        let sent = unsafe { stream.send_gather(header, self.pieces(), digest, Some(cid.into())) };
        sent.is_ok()
    }
}

impl TcpPair {
    /// Sends a command, now or when there is room.
    #[inline]
    pub(super) fn send_command(&self, cid: u16) {
        let waits = !self.unsent.borrow().is_empty();
        if waits || !self.try_command(cid) {
            self.unsent.borrow_mut().push_back(cid);
        }
    }

    /// Sends what waited for room, commands first.
    #[cold]
    pub(super) fn send_waiting(&self) {
        loop {
            let Some(cid) = self.unsent.borrow().front().copied() else { break };
            if !self.try_command(cid) {
                return;
            }
            self.unsent.borrow_mut().pop_front();
        }
        loop {
            let Some(cid) = self.transfers.borrow().front().copied() else { break };
            if !self.try_transfer(cid) {
                return;
            }
            self.transfers.borrow_mut().pop_front();
        }
    }

    /// Queues a command's capsule; false without room.
    #[inline]
    fn try_command(&self, cid: u16) -> bool {
        let Some(stream) = self.stream.get() else { return true };
        let mut commands = self.commands.borrow_mut();
        let Some(entry) = commands.get_mut(cid) else { return true };
        let framer = self.framer.get();
        let run = self.in_capsule(entry);
        let mut sqe = entry.sqe;
        sqe.cid.set(cid);
        sqe.flags = sqe.flags & 3 | PSDT_SGL;
        sqe.dptr = match &run {
            Some(run) => SglDescriptor::in_capsule(0, run.len),
            None => SglDescriptor::transport(entry.data_len),
        };
        let mut header = [0; HEADER_SPACE_BYTES];
        let in_capsule = run.as_ref().map_or(0, |run| run.len);
        let len = framer.command(&sqe, in_capsule, &mut header);
        let Some(run) = run else { return stream.send(&header[..len], None).is_ok() };
        let sent = run.send(stream, framer, &header[..len], cid);
        if sent {
            entry.unsent += 1;
            entry.requested = run.len;
        }
        sent
    }

    /// The data that go inside the capsule: all or none.
    #[inline]
    fn in_capsule(&self, entry: &Entry) -> Option<Run> {
        let fits = entry.direction == Direction::Out && entry.data_len <= self.in_capsule_max;
        let run = fits.then(|| Run::of(entry.pieces(), 0, entry.data_len))?;
        (run.len == entry.data_len).then_some(run)
    }

    /// Sends data that the controller asked for, now or when there is room.
    pub(super) fn send_transfer(&self, cid: u16) {
        let waits = !self.transfers.borrow().is_empty();
        if waits || !self.try_transfer(cid) {
            self.transfers.borrow_mut().push_back(cid);
        }
    }

    /// Queues the data PDUs of a transfer; false when some of them found no room.
    fn try_transfer(&self, cid: u16) -> bool {
        let Some(stream) = self.stream.get() else { return true };
        let mut commands = self.commands.borrow_mut();
        let Some(entry) = commands.get_mut(cid) else { return true };
        let (framer, max) = (self.framer.get(), self.data_pdu_max.get());
        while let Some(transfer) = entry.transfer {
            let run = Run::of(entry.pieces(), transfer.offset, transfer.length.min(max));
            let last = run.len == transfer.length;
            let pdu = DataPdu {
                cccid: cid,
                ttag: transfer.ttag,
                datao: transfer.offset,
                datal: run.len,
                last,
                success: false,
            };
            let mut header = [0; HEADER_SPACE_BYTES];
            let len = framer.h2c_data(&pdu, &mut header);
            if !run.send(stream, framer, &header[..len], cid) {
                return false;
            }
            entry.unsent += 1;
            entry.transfer = (!last).then_some(R2t {
                offset: transfer.offset + run.len,
                length: transfer.length - run.len,
                ..transfer
            });
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(lens: &[usize]) -> Vec<IoVec> {
        let mut at = std::ptr::without_provenance_mut::<u8>(0x1000);
        let place = |&len| {
            let piece = IoVec::new(at, len);
            at = at.wrapping_add(len);
            piece
        };
        lens.iter().map(place).collect()
    }

    #[test]
    fn a_run_is_cut_out_of_the_pieces() {
        let table = table(&[100, 50, 200]);
        let run = Run::of(&table, 90, 100);
        let found: Vec<_> = run.pieces().iter().map(|p| (p.base().addr(), p.len())).collect();
        let at = 0x1000;
        assert_eq!(found, [(at + 90, 10), (at + 100, 50), (at + 150, 40)]);
        assert_eq!(run.len, 100);
        assert_eq!(Run::of(&table, 150, 200).count, 1);
        assert_eq!(Run::of(&table, 0, 350).len, 350);
    }

    #[test]
    fn a_run_of_too_many_pieces_is_shorter() {
        let table = table(&[512; 20]);
        let run = Run::of(&table, 256, 20 * 512 - 256);
        assert_eq!((run.count, run.len), (PIECES_MAX, 16 * 512 - 256));
    }
}
