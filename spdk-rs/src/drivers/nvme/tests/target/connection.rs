//! A connection: its PDUs.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};

use zerocopy::FromBytes;

use super::{Fault, Shared, lock};
use crate::NvmeStatus;
use crate::nvme::spec::register::Cc;
use crate::nvme::spec::{Cqe, Sqe, opcode};
use crate::nvme::tcp::digest::Crc32c;
use crate::nvme::tcp::framing::{DataPdu, Framer, HEADER_SPACE_BYTES, IcResp, PduType};

/// Why a connection ends: nothing more is said.
pub(super) struct End;

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

pub(super) type Done = Result<(), End>;

pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    pub(super) stream: TcpStream,
    pub(super) out: Arc<Mutex<TcpStream>>,
    pub(super) framer: Framer,
    pub(super) qid: u16,
    pub(super) cntlid: u16,
    pub(super) discovery: bool,
    pub(super) cc: Cc,
    pub(super) never_ready: bool,
    pub(super) fatal: bool,
    pub(super) deaf: bool,
    /// Commands that came while data of another one were waited for.
    pub(super) backlog: VecDeque<(Sqe, Vec<u8>)>,
    /// How the first command of a fused pair ended, when it was the last one.
    pub(super) first: Option<NvmeStatus>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>, stream: TcpStream) -> Self {
        let _ = stream.set_nodelay(true);
        let out = Arc::new(Mutex::new(stream.try_clone().unwrap()));
        let framer = Framer::default();
        let (qid, cntlid, cc) = (0, 0, Cc(0));
        let (discovery, never_ready, fatal, deaf) = (false, false, false, false);
        let backlog = VecDeque::new();
        Self {
            shared,
            stream,
            out,
            framer,
            qid,
            cntlid,
            discovery,
            cc,
            never_ready,
            fatal,
            deaf,
            backlog,
            first: None,
        }
    }

    pub(super) fn run(&mut self) {
        let _ = self.serve();
    }

    pub(super) fn serve(&mut self) -> Done {
        let request = self.pdu()?;
        if request[0] != PduType::IcReq as u8 || self.shared.stop.load(SeqCst) {
            return Err(End);
        }
        if self.shared.take(|f| *f == Fault::NoGreeting).is_some() {
            let _ = self.pdu();
            return Err(End);
        }
        let (header_digest, data_digest) = (request[11] & 1 != 0, request[11] & 2 != 0);
        let right = IcResp { pfv: 0, cpda: 0, header_digest, data_digest, maxh2cdata: 8192 };
        let response = match self.shared.take(|f| matches!(f, Fault::Greeting(_))) {
            Some(Fault::Greeting(response)) => response,
            _ => right,
        };
        let mut space = [0; HEADER_SPACE_BYTES];
        let len = Framer::ic_resp(&response, &mut space);
        self.write(&space[..len])?;
        let alignment_bytes = (u32::from(response.cpda) + 1) * 4;
        self.framer = Framer { header_digest, data_digest, alignment_bytes };
        self.serve_commands()
    }

    pub(super) fn serve_commands(&mut self) -> Done {
        loop {
            if let Some((sqe, data)) = self.backlog.pop_front() {
                self.command(&sqe, data)?;
                continue;
            }
            let pdu = self.pdu()?;
            if pdu[0] == PduType::H2cTermReq as u8 {
                lock(&self.shared.terms).push(u16::from_le_bytes([pdu[8], pdu[9]]));
                return Err(End);
            }
            if pdu[0] != PduType::CapsuleCmd as u8 {
                return Err(End);
            }
            let (sqe, data) = self.capsule(&pdu)?;
            self.command(&sqe, data)?;
        }
    }

    pub(super) fn capsule(&self, pdu: &[u8]) -> Result<(Sqe, Vec<u8>), End> {
        let sqe = Sqe::read_from_bytes(&pdu[8..72]).map_err(|_| End)?;
        Ok((sqe, self.payload(pdu)?))
    }

    pub(super) fn write(&self, bytes: &[u8]) -> Done {
        Ok(lock(&self.out).write_all(bytes)?)
    }

    /// A whole PDU.
    pub(super) fn pdu(&mut self) -> Result<Vec<u8>, End> {
        let mut pdu = vec![0; 8];
        self.stream.read_exact(&mut pdu)?;
        let len = u32::from_le_bytes([pdu[4], pdu[5], pdu[6], pdu[7]]) as usize;
        if !(8..=1 << 20).contains(&len) {
            return Err(End);
        }
        pdu.resize(len, 0);
        self.stream.read_exact(&mut pdu[8..])?;
        Ok(pdu)
    }

    /// The data of a PDU; their digest has to be right.
    pub(super) fn payload(&self, pdu: &[u8]) -> Result<Vec<u8>, End> {
        let pdo = usize::from(pdu[3]);
        if pdo == 0 {
            return Ok(Vec::new());
        }
        if pdu[1] & 2 == 0 {
            return Ok(pdu[pdo..].to_vec());
        }
        let end = pdu.len() - 4;
        let (data, digest) = (&pdu[pdo..end], &pdu[end..]);
        assert_eq!(digest, Crc32c::of(data).to_le_bytes(), "the host's data digest");
        Ok(data.to_vec())
    }

    pub(super) fn respond(&self, cid: u16, status: NvmeStatus, result: u64) -> Done {
        let mut space = [0; HEADER_SPACE_BYTES];
        let len = self.framer.response(&Cqe::new(cid, 0, status, result), &mut space);
        self.write(&space[..len])
    }

    pub(super) fn send_data(&self, pdu: &DataPdu, data: &[u8], spoil: bool) -> Done {
        let mut space = [0; HEADER_SPACE_BYTES];
        let len = self.framer.c2h_data(pdu, &mut space);
        let mut bytes = space[..len].to_vec();
        bytes.extend_from_slice(data);
        if self.framer.data_digest {
            let digest = Crc32c::of(data) ^ u32::from(spoil);
            bytes.extend_from_slice(&digest.to_le_bytes());
        }
        self.write(&bytes)
    }

    /// Sends all data of a command, in two PDUs, and its answer.
    pub(super) fn answer_data(&self, sqe: &Sqe, data: &[u8]) -> Done {
        let len = (sqe.dptr.length.get() as usize).min(data.len());
        let half = (len / 2).next_multiple_of(4).min(len);
        for (from, to) in [(0, half), (half, len)] {
            if from != to {
                self.send_data(&data_pdu(sqe, from, to - from), &data[from..to], false)?;
            }
        }
        self.respond(sqe.cid.get(), NvmeStatus::SUCCESS, 0)
    }

    pub(super) fn command(&mut self, sqe: &Sqe, data: Vec<u8>) -> Done {
        if sqe.opcode == opcode::FABRICS {
            return self.fabrics(sqe, &data);
        }
        if self.qid == 0 { self.admin(sqe) } else { self.io(sqe, data) }
    }
}

pub(super) fn data_pdu(sqe: &Sqe, from: usize, len: usize) -> DataPdu {
    let all = sqe.dptr.length.get() as usize;
    DataPdu {
        cccid: sqe.cid.get(),
        ttag: 0,
        datao: u32::try_from(from).unwrap(),
        datal: u32::try_from(len).unwrap(),
        last: from + len >= all,
        success: false,
    }
}
