//! What the controller sends.

use super::entry::Direction;
use super::pair::{Phase, TcpPair};
use crate::NvmeStatus;
use crate::nvme::controller::queue::CommandEnd;
use crate::nvme::spec::Cqe;
use crate::nvme::tcp::framing::{
    ALIGNMENT_MAX, DataPdu, FatalError, FatalStatus, Framer, IcResp, Pdu, Place, R2t, ReceiveRules,
    Receiver, Step, TermReq,
};

/// The least that a controller may ask to get per data PDU (NVMe/TCP 1.0, section 3.6.2.3).
const DATA_PDU_MIN: u32 = 4096;

/// The data PDU that is being received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arriving {
    cid: u16,
    end: u32,
    success: bool,
}

/// Why a PDU ends the connection.
type Wrong = (FatalError, &'static str);

impl TcpPair {
    /// Looks at what has arrived.
    #[inline]
    pub(super) fn take_in(&self, bytes: usize) {
        self.receiver.borrow_mut().received(&*self.commands.borrow(), bytes);
        loop {
            let step = self.receiver.borrow_mut().step(&*self.commands.borrow());
            let done = match step {
                Ok(Step::More) => return,
                Ok(Step::Pdu { pdu, data_bytes }) => self.heed(&pdu, data_bytes),
                Ok(Step::Payload { intact, .. }) => {
                    self.arrived(intact);
                    Ok(())
                }
                Err(error) => Err((error, "a malformed PDU")),
            };
            if let Err((error, what)) = done {
                self.fail(error, what);
                return;
            }
        }
    }

    #[inline]
    fn heed(&self, pdu: &Pdu, data_bytes: u32) -> Result<(), Wrong> {
        match pdu {
            Pdu::Response(cqe) => self.response(cqe),
            Pdu::Data(data) => self.data(data, data_bytes),
            Pdu::R2t(r2t) => self.ready_to_transfer(r2t),
            Pdu::IcResp(response) => self.greeted(response),
            Pdu::TermReq(term) => {
                self.terminated(*term);
                Ok(())
            }
            Pdu::IcReq(_) | Pdu::Command(_) => Err((FatalError::SEQUENCE, "a PDU of a host")),
        }
    }

    /// The controller's answer to the connection request.
    #[cold]
    fn greeted(&self, response: &IcResp) -> Result<(), Wrong> {
        let phase = std::mem::replace(&mut *self.phase.borrow_mut(), Phase::Open);
        let Phase::Greeting(tell, parameters) = phase else {
            return Err((FatalError::SEQUENCE, "a second answer to the connection request"));
        };
        let wrong = if response.pfv != 0 {
            Some((Receiver::UNKNOWN_VERSION, "the format version is not 0"))
        } else if response.cpda > 31 {
            Some((Receiver::WRONG_ALIGNMENT, "the alignment (CPDA) is over 31"))
        } else if response.maxh2cdata < DATA_PDU_MIN || !response.maxh2cdata.is_multiple_of(4) {
            Some((Receiver::WRONG_MAXH2CDATA, "MAXH2CDATA is below 4096 or no multiple of 4"))
        } else if response.header_digest && !parameters.header_digest {
            Some((FatalError::unsupported(11), "header digests were not asked for"))
        } else if response.data_digest && !parameters.data_digest {
            Some((FatalError::unsupported(11), "data digests were not asked for"))
        } else {
            None
        };
        if let Some((error, what)) = wrong {
            let _ = tell.send(Err(what.to_owned()));
            return Err((error, what));
        }
        let (header_digest, data_digest) = (response.header_digest, response.data_digest);
        let alignment_bytes = (u32::from(response.cpda) + 1) * 4;
        debug_assert!(alignment_bytes <= ALIGNMENT_MAX);
        self.framer.set(Framer { header_digest, data_digest, alignment_bytes });
        self.data_pdu_max.set(response.maxh2cdata);
        self.receiver.borrow_mut().agree(ReceiveRules {
            header_digest,
            data_digest,
            alignment_bytes: 4,
            in_capsule_max: 0,
            data_max: u32::MAX,
        });
        let _ = tell.send(Ok(()));
        Ok(())
    }

    #[cold]
    fn terminated(&self, term: TermReq) {
        let words = FatalStatus::from_bits(term.fes);
        let why = match words {
            Some(status) => {
                format!("the controller ended the connection: {status:?}, {:#x}", term.fei)
            }
            None => format!("the controller ended the connection: status {:#x}", term.fes),
        };
        tracing::warn!(why, "an NVMe/TCP connection is terminated");
        self.note(&why);
        *self.phase.borrow_mut() = Phase::Ending;
        if let Some(stream) = self.stream.get() {
            stream.abort();
        }
    }

    #[inline]
    fn response(&self, cqe: &Cqe) -> Result<(), Wrong> {
        let cid = cqe.cid.get();
        self.answered(cid, CommandEnd::answered(cqe))
    }

    /// A command is answered: it ends when nothing of its memory waits to be sent.
    #[inline]
    fn answered(&self, cid: u16, end: CommandEnd) -> Result<(), Wrong> {
        let mut commands = self.commands.borrow_mut();
        let Some(entry) = commands.get_mut(cid).filter(|entry| entry.end.is_none()) else {
            return Err((Receiver::UNKNOWN_COMMAND, "an answer to no command"));
        };
        let mut end = end;
        if end.status.is_success() {
            if entry.damaged {
                end.status = NvmeStatus::TRANSIENT_TRANSPORT_ERROR;
            } else if entry.direction == Direction::In && entry.received != entry.data_len {
                // A command that succeeds has transferred all that its SGL names.
                end.status = NvmeStatus::DATA_TRANSFER_ERROR;
            }
        }
        entry.end = Some(end);
        entry.transfer = None;
        drop(commands);
        self.finish(cid);
        Ok(())
    }

    /// The header of data.
    #[inline]
    fn data(&self, data: &DataPdu, data_bytes: u32) -> Result<(), Wrong> {
        let cid = data.cccid;
        let commands = self.commands.borrow();
        let entry = commands.get(cid).filter(|entry| entry.end.is_none());
        let Some(entry) = entry.filter(|entry| entry.direction == Direction::In) else {
            return Err((Receiver::UNKNOWN_COMMAND, "data for no command that reads"));
        };
        let out = FatalError::of(FatalStatus::DataOutOfRange);
        if data.datao != entry.received {
            return Err((out, "data that do not follow those before"));
        }
        let Some(end) = data.datao.checked_add(data_bytes).filter(|&end| end <= entry.data_len)
        else {
            return Err((out, "data beyond the command's buffer"));
        };
        self.arriving.set(Some(Arriving { cid, end, success: data.success }));
        let place = Place::Into { tag: cid.into(), offset: data.datao };
        self.receiver.borrow_mut().place(&*commands, place);
        Ok(())
    }

    /// The data whose header was seen last are there.
    #[inline]
    fn arrived(&self, intact: bool) {
        let Some(arriving) = self.arriving.take() else { return };
        if let Some(entry) = self.commands.borrow_mut().get_mut(arriving.cid) {
            entry.received = arriving.end;
            entry.damaged |= !intact;
        }
        if arriving.success {
            let end = CommandEnd { status: NvmeStatus::SUCCESS, result: 0, answered: true };
            // The command was there at the header, and nothing came between.
            let _ = self.answered(arriving.cid, end);
        }
    }

    /// The controller asks for data.
    #[inline]
    fn ready_to_transfer(&self, r2t: &R2t) -> Result<(), Wrong> {
        let mut commands = self.commands.borrow_mut();
        let entry = commands.get_mut(r2t.cccid).filter(|entry| entry.end.is_none());
        let Some(entry) = entry.filter(|entry| entry.direction == Direction::Out) else {
            return Err((Receiver::UNKNOWN_COMMAND, "a request for data of no command"));
        };
        if entry.transfer.is_some() {
            let error = FatalError::of(FatalStatus::LimitExceeded);
            return Err((error, "a second request for data before the first is served"));
        }
        if r2t.length == 0 {
            return Err((Receiver::WRONG_R2T_LENGTH, "a request for no data"));
        }
        let end = r2t.offset.checked_add(r2t.length).filter(|&end| end <= entry.data_len);
        let Some(end) = end.filter(|_| r2t.offset >= entry.requested) else {
            let error = FatalError::of(FatalStatus::DataOutOfRange);
            return Err((error, "a request for data that the command does not have"));
        };
        entry.requested = end;
        entry.transfer = Some(*r2t);
        drop(commands);
        self.send_transfer(r2t.cccid);
        Ok(())
    }
}
