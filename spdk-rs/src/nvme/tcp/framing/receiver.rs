//! The receiving state machine.
#![allow(unsafe_code, reason = "payload is written to destinations that are named by address")]

use std::rc::Rc;

use super::ahead::{Ahead, Coming, Displaced, Front};
use super::check::{COMMON_BYTES, ReceiveRules, Role, Shape, check_data};
use super::error::{FatalError, FatalStatus};
use super::pdu::{Pdu, PduType, le32, offset};
use crate::env::IoVec;
use crate::env::iovec::total_len;
use crate::net::{ReadBuffer, ReadSpace};
use crate::nvme::tcp::digest::{Crc32c, DIGEST_BYTES};

/// Bytes of the buffer that a receive may use behind what is taken to come: enough for many
/// commands, and few of the payload behind them.
const TAIL_BYTES: usize = 4096;

/// Bytes of a header that are kept for a termination request.
const KEPT_BYTES: usize = 128;

/// The memory that payload goes to.
///
/// # Safety
/// From [`Receiver::place`] with a tag until the step that reports the payload, or until the
/// receiver is dropped and no receive into its read space is in flight, the table of that tag stays
/// the same, and its memory is valid for writing and used by nobody else.
pub unsafe trait Destinations {
    /// The table of a tag.
    fn table(&self, tag: u32) -> &[IoVec];
}

/// Where the payload of a PDU goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// To the memory of a tag.
    Into {
        /// The tag, of the owner's choice.
        tag: u32,
        /// Where in the memory, in bytes from its start.
        offset: u32,
    },
    /// Nowhere; it is not reported either.
    Discard,
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Everything that arrived has been looked at.
    More,
    /// A PDU. With data (`data_bytes` is not 0), [`Receiver::place`] comes before the next step.
    Pdu {
        /// The PDU.
        pdu: Pdu,
        /// Bytes of data that follow.
        data_bytes: u32,
    },
    /// The payload that was placed with this tag is there.
    Payload {
        /// The tag.
        tag: u32,
        /// Its data digest was right, or there is none.
        intact: bool,
    },
}

/// Cuts what arrives into PDUs.
pub struct Receiver {
    role: Role,
    rules: ReceiveRules,
    agreed: bool,
    state: State,
    buffer: ReadBuffer,
    /// Bytes of payload that the last read space named directly.
    direct: usize,
    /// What was received beyond that payload, where it was expected.
    ahead: Option<Box<Ahead>>,
    header: [u8; KEPT_BYTES],
    header_len: usize,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At the start of a PDU, or inside its header.
    Header,
    /// The header was reported; the owner has not said yet where its data go.
    Unplaced(u32),
    /// Data arrive.
    Payload(Payload),
    /// Data that nobody wants arrive, with their digest.
    Discard(usize),
    /// After a fatal error or a termination request: nothing is looked at any more.
    Ended,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Payload {
    tag: u32,
    /// Where in the destination it begins.
    offset: u32,
    /// Bytes still to come.
    left: usize,
    /// The next byte goes to this entry of the table …
    piece: usize,
    /// … so many bytes behind its start.
    skip: usize,
    digest: Crc32c,
}

impl Receiver {
    /// A receiver before the first PDU, with a buffer of `buffer_bytes` bytes for headers and what
    /// arrives with them, at least 1024.
    #[must_use]
    pub fn new(role: Role, buffer_bytes: usize) -> Self {
        Self {
            role,
            rules: ReceiveRules::UNAGREED,
            agreed: false,
            state: State::Header,
            buffer: ReadBuffer::new(buffer_bytes.max(1024)),
            direct: 0,
            ahead: None,
            header: [0; KEPT_BYTES],
            header_len: 0,
        }
    }

    /// The first two PDUs were exchanged: from now on these rules hold.
    pub fn agree(&mut self, rules: ReceiveRules) {
        self.rules = rules;
        self.agreed = true;
    }

    /// The header of the PDU that was looked at last, as far as it has arrived: what a termination
    /// request repeats.
    #[must_use]
    pub fn last_header(&self) -> &[u8] {
        &self.header[..self.header_len]
    }

    /// Whether the end of a PDU is missing: its start has arrived.
    #[must_use]
    pub fn is_inside_pdu(&self) -> bool {
        match self.state {
            State::Header => !self.buffer.is_empty() || self.is_ahead(),
            State::Ended => false,
            _ => true,
        }
    }

    /// Ends it: whatever arrives is dropped.
    pub fn end(&mut self) {
        self.state = State::Ended;
        if let Some(ahead) = &mut self.ahead {
            ahead.clear();
        }
        self.buffer.consume(self.buffer.len());
    }

    /// Lets [`Receiver::read_space_ahead`] reach beyond one PDU; what arrives elsewhere than
    /// expected goes to memory that is shared.
    pub fn look_ahead(&mut self, displaced: &Rc<Displaced>) {
        self.ahead = Some(Box::new(Ahead::new(displaced)));
    }

    /// Bytes that had to be moved since the last call because they had arrived elsewhere than
    /// expected.
    pub fn take_moved(&mut self) -> usize {
        self.ahead.as_mut().map_or(0, |ahead| ahead.take_moved())
    }

    #[inline]
    fn is_ahead(&self) -> bool {
        self.ahead.as_ref().is_some_and(|ahead| ahead.has_bytes())
    }

    /// Says where the next bytes go: the rest of a payload first, then the buffer.
    pub fn read_space(&mut self, places: &impl Destinations, out: &mut ReadSpace) {
        self.direct = 0;
        let State::Payload(payload) = &self.state else { return out.then_buffer(&self.buffer) };
        // What is in the buffer goes before what arrives.
        if !self.buffer.is_empty() {
            return out.then_buffer(&self.buffer);
        }
        let (mut left, mut skip) = (payload.left, payload.skip);
        let table = places.table(payload.tag);
        for piece in table.get(payload.piece..).unwrap_or_default() {
            let piece = piece.advanced(std::mem::take(&mut skip)).truncated(left);
            // SAFETY: the destination is the receiver's alone until the payload is reported.
            if left == 0 || !unsafe { out.push(piece) } {
                break;
            }
            left -= piece.len();
        }
        self.direct = payload.left - left;
        if left == 0 {
            out.then_buffer(&self.buffer);
        }
    }

    /// As [`Receiver::read_space`], and then room for what is taken to come next, up to `bytes_max`
    /// bytes of it: where that is right, payload arrives in its place, PDU after PDU. Returns how
    /// many bytes have to come, if the data that are taken to come do; 0 when the space is an
    /// ordinary one.
    ///
    /// The owner's [`Destinations`] have to keep the memory of the tags in `coming` as they keep
    /// that of a tag that was placed, until the step that reports its payload, or until
    /// [`Receiver::end`].
    pub fn read_space_ahead(
        &mut self,
        places: &impl Destinations,
        coming: impl Iterator<Item = Coming>,
        bytes_max: usize,
        out: &mut ReadSpace,
    ) -> usize {
        let behind = match &self.state {
            State::Header => Some(false),
            State::Payload(_) => Some(self.rules.data_digest),
            _ => None,
        };
        let empty = self.buffer.is_empty() && !self.is_ahead();
        let ahead = self.ahead.take_if(|ahead| behind.is_some() && empty && ahead.reserve());
        let Some(mut ahead) = ahead else {
            self.read_space(places, out);
            return 0;
        };
        self.read_space(places, out);
        let open = match &self.state {
            State::Payload(payload) => payload.left == self.direct,
            _ => true,
        };
        let digest = behind.unwrap_or(false);
        let mut certain = 0;
        if open {
            certain = ahead.expect(&self.rules, digest, places, coming, bytes_max, out);
        }
        if certain != 0 {
            certain += self.direct;
            out.then_buffer_up_to(&self.buffer, TAIL_BYTES);
        } else {
            ahead.clear();
        }
        self.ahead = Some(ahead);
        certain
    }

    /// So many bytes have filled the read space, in its order.
    pub fn received(&mut self, places: &impl Destinations, bytes: usize) {
        let direct = bytes.min(std::mem::take(&mut self.direct));
        if let Some(ahead) = &mut self.ahead {
            ahead.received(bytes - direct);
        }
        let digests = self.rules.data_digest;
        if let State::Payload(payload) = &mut self.state
            && direct != 0
        {
            let table = places.table(payload.tag);
            payload.each_piece(table, direct, |payload, piece| {
                if digests {
                    // SAFETY: the bytes have just been received, and are the receiver's alone.
                    unsafe { payload.digest.update_piece(piece) };
                }
            });
        }
    }

    /// Says where the data of the PDU that was reported last go. A place that is too small counts
    /// as [`Place::Discard`].
    pub fn place(&mut self, places: &impl Destinations, place: Place) {
        let State::Unplaced(bytes) = self.state else { return };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.state = match place {
            Place::Into { tag, offset } => Payload::new(tag, bytes, offset, places.table(tag))
                .map_or(State::Discard(self.with_digest(bytes)), State::Payload),
            Place::Discard => State::Discard(self.with_digest(bytes)),
        };
    }

    fn with_digest(&self, bytes: usize) -> usize {
        bytes + if self.rules.data_digest { DIGEST_BYTES } else { 0 }
    }

    /// Goes on with what has arrived.
    ///
    /// # Errors
    /// What ends the connection; the receiver drops everything from then on.
    pub fn step(&mut self, places: &impl Destinations) -> Result<Step, FatalError> {
        loop {
            let step = self.step_once(places)?;
            if step != Step::More || self.ahead.is_none() || !self.gather(places) {
                return Ok(step);
            }
        }
    }

    /// Nothing more can be made of what is at hand: collects what arrived elsewhere than expected.
    /// Returns whether that is worth another look.
    fn gather(&mut self, places: &impl Destinations) -> bool {
        match (&mut self.ahead, &self.state) {
            (Some(ahead), State::Header | State::Payload(_) | State::Discard(_)) => {
                ahead.gather(places, &self.buffer)
            }
            _ => false,
        }
    }

    fn step_once(&mut self, places: &impl Destinations) -> Result<Step, FatalError> {
        loop {
            match self.state {
                State::Header => return self.step_header().inspect_err(|_| self.end()),
                State::Payload(payload) => return Ok(self.step_payload(payload, places)),
                State::Discard(left) => {
                    let here = left.min(self.front().len());
                    self.consume(here);
                    if here < left {
                        self.state = State::Discard(left - here);
                        return Ok(Step::More);
                    }
                    self.state = State::Header;
                }
                State::Ended => {
                    self.end();
                    return Ok(Step::More);
                }
                State::Unplaced(_) => return Ok(Step::More),
            }
        }
    }

    fn step_header(&mut self) -> Result<Step, FatalError> {
        let data = Front::of(self.ahead.as_deref(), &self.buffer);
        let Some(common) = data.first_chunk::<COMMON_BYTES>() else { return Ok(Step::More) };
        // For a termination request, in case one of the checks fails.
        self.header_len = data.len().min(COMMON_BYTES);
        self.header[..self.header_len].copy_from_slice(&data[..self.header_len]);
        let shape = Shape::of(common, self.role, self.agreed, &self.rules)?;
        if data.len() < shape.before_data {
            return Ok(Step::More);
        }
        let header = &data[..shape.header];
        self.header_len = header.len().min(KEPT_BYTES);
        self.header[..self.header_len].copy_from_slice(&header[..self.header_len]);
        if shape.header_digest {
            let came = le32(&data, shape.header);
            if came != Crc32c::of(header) {
                return Err(FatalError { status: FatalStatus::HeaderDigest, info: came });
            }
        }
        let pdu = Pdu::read(shape.kind, header);
        check_data(&pdu, &shape, &self.rules)?;
        drop(data);
        self.consume(shape.before_data);
        self.state = match shape.kind {
            PduType::H2cTermReq | PduType::C2hTermReq => State::Ended,
            _ if shape.data != 0 => State::Unplaced(shape.data),
            _ => State::Header,
        };
        Ok(Step::Pdu { pdu, data_bytes: shape.data })
    }

    fn step_payload(&mut self, mut payload: Payload, places: &impl Destinations) -> Step {
        if payload.left != 0 {
            self.take_in_place(&mut payload, places);
        }
        // What is scattered must not be copied: its destination may hold some of it.
        let scattered = self.ahead.as_ref().is_some_and(|ahead| ahead.is_scattered());
        if payload.left != 0 && !scattered {
            let data = self.front();
            let here = payload.left.min(data.len());
            payload.fill(places.table(payload.tag), &data[..here], self.rules.data_digest);
            drop(data);
            self.consume(here);
        }
        self.state = State::Payload(payload);
        if payload.left != 0 {
            return Step::More;
        }
        let mut intact = true;
        if self.rules.data_digest {
            let data = self.front();
            if data.len() < DIGEST_BYTES {
                return Step::More;
            }
            intact = le32(&data, 0) == payload.digest.value();
            drop(data);
            self.consume(DIGEST_BYTES);
        }
        self.state = State::Header;
        Step::Payload { tag: payload.tag, intact }
    }

    /// The next bytes that were received, as far as they lie together.
    #[inline]
    fn front(&self) -> Front<'_> {
        Front::of(self.ahead.as_deref(), &self.buffer)
    }

    #[inline]
    fn consume(&mut self, bytes: usize) {
        match &mut self.ahead {
            Some(ahead) if ahead.has_bytes() => ahead.consume(bytes),
            _ => self.buffer.consume(bytes),
        }
    }

    /// Payload that has arrived where it belongs.
    #[inline]
    fn take_in_place(&mut self, payload: &mut Payload, places: &impl Destinations) {
        let Some(ahead) = &mut self.ahead else { return };
        let here = ahead.take_in_place(payload.tag, payload.offset, payload.left);
        if here == 0 {
            return;
        }
        let digests = self.rules.data_digest;
        payload.each_piece(places.table(payload.tag), here, |payload, piece| {
            if digests {
                // SAFETY: the bytes have been received, and are the receiver's alone.
                unsafe { payload.digest.update_piece(piece) };
            }
        });
    }

    /// Whether it ended, and drops what arrives.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }
}

impl Payload {
    /// The way through the table, if it is long enough.
    pub(super) fn new(tag: u32, bytes: usize, offset: u32, table: &[IoVec]) -> Option<Self> {
        let mut skip = usize::try_from(offset).ok()?;
        if total_len(table) < skip.checked_add(bytes)? {
            return None;
        }
        let mut piece = 0;
        while skip != 0 && skip >= table.get(piece)?.len() {
            skip -= table[piece].len();
            piece += 1;
        }
        Some(Self { tag, offset, left: bytes, piece, skip, digest: Crc32c::new() })
    }

    /// Advances by `bytes`, at most what is left, piece by piece.
    pub(super) fn each_piece(
        &mut self,
        table: &[IoVec],
        bytes: usize,
        mut see: impl FnMut(&mut Self, IoVec),
    ) {
        let mut bytes = bytes.min(self.left);
        while bytes != 0 {
            let Some(entry) = table.get(self.piece) else { return };
            let piece = entry.advanced(self.skip).truncated(bytes);
            see(self, piece);
            bytes -= piece.len();
            self.left -= piece.len();
            self.skip += piece.len();
            if self.skip >= entry.len() {
                (self.piece, self.skip) = (self.piece + 1, 0);
            }
        }
    }

    /// Copies bytes from the buffer to where they belong.
    fn fill(&mut self, table: &[IoVec], mut bytes: &[u8], digest: bool) {
        if digest {
            self.digest.update(bytes);
        }
        self.each_piece(table, bytes.len(), |_, piece| {
            let (here, rest) = bytes.split_at(piece.len());
            bytes = rest;
            // SAFETY: the piece is memory of the destination, which is the receiver's alone, and as
            // long as `here`, which lies in the buffer.
            unsafe { std::ptr::copy_nonoverlapping(here.as_ptr(), piece.base(), here.len()) };
        });
    }
}

/// Offsets that owners need for their own findings.
impl Receiver {
    /// The transfer tag of a data PDU is unknown.
    pub const UNKNOWN_TAG: FatalError = FatalError::field(offset::TTAG);
    /// The command identifier of a data PDU or an R2T is not that of its tag, or unknown.
    pub const UNKNOWN_COMMAND: FatalError = FatalError::field(offset::CCCID);
    /// The flag of the last data PDU is set too early, or missing.
    pub const WRONG_LAST: FatalError = FatalError::field(offset::FLAGS);
    /// The format version is not 0.
    pub const UNKNOWN_VERSION: FatalError = FatalError::unsupported(offset::PFV);
    /// The alignment (HPDA or CPDA) is over 31.
    pub const WRONG_ALIGNMENT: FatalError = FatalError::field(offset::PDA);
    /// MAXH2CDATA is below 4096 or no multiple of 4.
    pub const WRONG_MAXH2CDATA: FatalError = FatalError::field(offset::MAXH2CDATA);
    /// The length of an R2T is 0 or beyond the command's data.
    pub const WRONG_R2T_LENGTH: FatalError = FatalError::field(offset::R2TL);
}
