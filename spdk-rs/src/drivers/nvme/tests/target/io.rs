//! I/O commands: done, or done wrongly.

use crate::NvmeStatus;
use crate::nvme::spec::nvm::BlockCommand;
use crate::nvme::spec::opcode::nvm;
use crate::nvme::spec::{Cqe, FusedPart, SglKind, Sqe};
use crate::nvme::tcp::framing::{
    DataPdu, FatalError, FatalStatus, Framer, HEADER_SPACE_BYTES, HeaderSpace, PduType, R2t,
};

use super::connection::{Connection, Done, End, data_pdu};
use super::{BLOCK, Fault, lock};

impl Connection {
    pub(super) fn io(&mut self, sqe: &Sqe, data: Vec<u8>) -> Done {
        let cid = sqe.cid.get();
        lock(&self.shared.seen).push((self.qid, sqe.opcode));
        let is_read = sqe.opcode == nvm::READ;
        let is_write = sqe.opcode == nvm::WRITE && sqe.dptr.kind() == SglKind::Transport;
        let fault = self.shared.take(|fault| match fault {
            Fault::DataDigest
            | Fault::DataBeyond
            | Fault::DataGap
            | Fault::DataForNone
            | Fault::DataShort => is_read,
            Fault::R2tBeyond | Fault::R2tEmpty | Fault::R2tForNone | Fault::R2tTwo => is_write,
            Fault::Greeting(_) | Fault::NoGreeting | Fault::Connect { .. } => false,
            Fault::NeverReady | Fault::FatalStatus | Fault::NoKeepAlive => false,
            _ => true,
        });
        match fault {
            None => self.execute(sqe, data),
            Some(Fault::Hang) => Ok(()),
            Some(Fault::Status(status)) => self.respond(cid, status, 0),
            Some(Fault::Close { executed }) => {
                if executed {
                    let _ = self.execute(sqe, data);
                }
                Err(End)
            }
            Some(Fault::Twice) => {
                self.execute(sqe, data)?;
                self.respond(cid, NvmeStatus::SUCCESS, 0)?;
                self.until_the_end()
            }
            Some(fault) => {
                self.break_protocol(fault, sqe)?;
                self.until_the_end()
            }
        }
    }

    /// Reads what the host still says.
    pub(super) fn until_the_end(&mut self) -> Done {
        loop {
            let pdu = self.pdu()?;
            if pdu[0] == PduType::H2cTermReq as u8 {
                lock(&self.shared.terms).push(u16::from_le_bytes([pdu[8], pdu[9]]));
                return Err(End);
            }
        }
    }

    pub(super) fn break_protocol(&mut self, fault: Fault, sqe: &Sqe) -> Done {
        let cid = sqe.cid.get();
        let len = sqe.dptr.length.get();
        let mut space: HeaderSpace = [0; HEADER_SPACE_BYTES];
        let r2t = |cccid, offset, length| R2t { cccid, ttag: 7, offset, length };
        let block = [0; BLOCK];
        match fault {
            Fault::Terminate => {
                let error = FatalError::of(FatalStatus::DataOutOfRange);
                let n = Framer::term_req(PduType::C2hTermReq, &error, &[0; 24], &mut space);
                self.write(&space[..n])
            }
            Fault::WrongCid => self.respond(cid ^ 0x4000, NvmeStatus::SUCCESS, 0),
            Fault::HeaderDigest => {
                let cqe = Cqe::new(cid, 0, NvmeStatus::SUCCESS, 0);
                let n = self.framer.response(&cqe, &mut space);
                space[n - 1] ^= 1;
                self.write(&space[..n])
            }
            Fault::DataDigest => {
                let data = vec![0; len as usize];
                self.send_data(&data_pdu(sqe, 0, len as usize), &data, true)?;
                self.respond(cid, NvmeStatus::SUCCESS, 0)?;
                // The connection goes on.
                self.serve_commands()
            }
            Fault::DataShort => {
                self.send_data(&data_pdu(sqe, 0, BLOCK), &block, false)?;
                self.respond(cid, NvmeStatus::SUCCESS, 0)?;
                self.serve_commands()
            }
            Fault::DataBeyond => {
                let data = vec![0; len as usize + BLOCK];
                self.send_data(&data_pdu(sqe, 0, data.len()), &data, false)
            }
            Fault::DataGap => self.send_data(&data_pdu(sqe, BLOCK, BLOCK), &block, false),
            Fault::DataForNone => {
                let pdu = DataPdu { cccid: cid ^ 0x4000, ..data_pdu(sqe, 0, BLOCK) };
                self.send_data(&pdu, &block, false)
            }
            Fault::R2tBeyond | Fault::R2tEmpty | Fault::R2tForNone | Fault::R2tTwo => {
                let asked = match fault {
                    Fault::R2tBeyond => r2t(cid, 4, len),
                    Fault::R2tEmpty => r2t(cid, 0, 0),
                    Fault::R2tForNone => r2t(cid ^ 0x4000, 0, len),
                    _ => r2t(cid, 0, len),
                };
                let n = self.framer.r2t(&asked, &mut space);
                self.write(&space[..n])?;
                if fault == Fault::R2tTwo { self.write(&space[..n]) } else { Ok(()) }
            }
            _ => self.write(&[0x42; 24]),
        }
    }

    pub(super) fn execute(&mut self, sqe: &Sqe, data: Vec<u8>) -> Done {
        let cid = sqe.cid.get();
        let command = BlockCommand(sqe);
        let from = usize::try_from(command.slba()).unwrap() * BLOCK;
        let len = command.blocks() as usize * BLOCK;
        let has_blocks =
            matches!(sqe.opcode, nvm::READ | nvm::WRITE | nvm::COMPARE | nvm::WRITE_ZEROES);
        if has_blocks && from + len > lock(&self.shared.data).len() {
            return self.respond(cid, NvmeStatus::LBA_OUT_OF_RANGE, 0);
        }
        let first = self.first.take();
        let data = match sqe.opcode {
            nvm::WRITE | nvm::COMPARE if sqe.dptr.kind() == SglKind::Transport => {
                self.fetch(sqe, len)?
            }
            _ => data,
        };
        let status = match sqe.opcode {
            _ if sqe.fused() == FusedPart::Second && first != Some(NvmeStatus::SUCCESS) => {
                let failed = first.map(|_| NvmeStatus::ABORTED_FAILED_FUSED);
                failed.unwrap_or(NvmeStatus::ABORTED_MISSING_FUSED)
            }
            nvm::READ => {
                let found = lock(&self.shared.data)[from..from + len].to_vec();
                return self.answer_data(sqe, &found);
            }
            nvm::WRITE => {
                lock(&self.shared.data)[from..from + len].copy_from_slice(&data);
                NvmeStatus::SUCCESS
            }
            nvm::COMPARE if lock(&self.shared.data)[from..from + len] != data[..] => {
                NvmeStatus::COMPARE_FAILURE.with_do_not_retry(false)
            }
            nvm::WRITE_ZEROES => {
                lock(&self.shared.data)[from..from + len].fill(0);
                NvmeStatus::SUCCESS
            }
            nvm::COMPARE | nvm::FLUSH | nvm::DATASET_MANAGEMENT => NvmeStatus::SUCCESS,
            _ => NvmeStatus::INVALID_OPCODE,
        };
        self.first = (sqe.fused() == FusedPart::First).then_some(status);
        self.respond(cid, status, 0)
    }

    /// Asks for a write's data, in two requests.
    pub(super) fn fetch(&mut self, sqe: &Sqe, len: usize) -> Result<Vec<u8>, End> {
        let mut all = Vec::new();
        let half = len / 2;
        for (from, to) in [(0, half), (half, len)] {
            let (offset, length) =
                (u32::try_from(from).unwrap(), u32::try_from(to - from).unwrap());
            let r2t = R2t { cccid: sqe.cid.get(), ttag: 7, offset, length };
            let mut space = [0; HEADER_SPACE_BYTES];
            let n = self.framer.r2t(&r2t, &mut space);
            self.write(&space[..n])?;
            while all.len() < to {
                let pdu = self.pdu()?;
                if pdu[0] == PduType::CapsuleCmd as u8 {
                    let capsule = self.capsule(&pdu)?;
                    self.backlog.push_back(capsule);
                    continue;
                }
                let at = u32::from_le_bytes([pdu[12], pdu[13], pdu[14], pdu[15]]);
                assert_eq!((at as usize, pdu[10]), (all.len(), 7), "offset and tag");
                let data = self.payload(&pdu)?;
                assert!(data.len() <= 8192, "MAXH2CDATA");
                all.extend_from_slice(&data);
                assert_eq!(pdu[1] & 4 != 0, all.len() == to, "the last PDU is marked");
            }
        }
        Ok(all)
    }
}
