//! The model's I/O commands.

use zerocopy::byteorder::little_endian::U16;

use super::{Fault, Model, State};
use crate::NvmeStatus;
use crate::nvme::spec::opcode::nvm;
use crate::nvme::spec::register::{Csts, offset};
use crate::nvme::spec::{Cqe, Sqe};

impl Model {
    pub(super) fn io(&self, state: &mut State, qid: u16, sqe: &Sqe) {
        let cid = sqe.cid.get();
        *state.seen.commands.entry(sqe.opcode).or_default() += 1;
        let of_io = |f: &Fault| {
            !matches!(
                f,
                Fault::NeverReady
                    | Fault::FatalAtStart
                    | Fault::StaysReady
                    | Fault::Deaf(_)
                    | Fault::DeafToScan
                    | Fault::Oversleeps
                    | Fault::Fails(..)
            )
        };
        let fault = Self::take(state, of_io);
        match fault {
            Some(Fault::Hold) => return state.held.push((qid, cid)),
            Some(Fault::Fatal) => {
                state.dead = true;
                return self
                    .registers
                    .write32(offset::CSTS as usize, Csts(0).with_rdy(true).with_cfs(true).0);
            }
            Some(Fault::Gone) => {
                state.dead = true;
                for register in (0..0x1000).step_by(4) {
                    self.registers.write32(register, u32::MAX);
                }
                return;
            }
            Some(Fault::PulledOut) => return self.pull_out(state),
            _ => {}
        }
        let (status, result) = match self.execute(state, sqe) {
            Ok(result) => (NvmeStatus::SUCCESS, result),
            Err(status) => (status, 0),
        };
        let Some(sq) = state.sqs.get(&qid) else { return };
        let mut cqe = Cqe::new(cid, sq.head, status, result);
        cqe.sqid.set(qid);
        let cqid = sq.cqid;
        match fault {
            Some(Fault::Lose) => return state.held.push((qid, cid)),
            Some(Fault::BogusCid) => cqe.cid.set(cid ^ 0x8000),
            Some(Fault::BogusHead) => cqe.sqhd = U16::new(60_000),
            Some(Fault::BogusQueue) => cqe.sqid.set(qid + 1),
            Some(Fault::Garbage) => {
                cqe = zerocopy::FromBytes::read_from_bytes(&[0xff; 16]).unwrap();
            }
            Some(Fault::Twice) => self.post(state, cqid, cqe),
            _ => {}
        }
        self.post(state, cqid, cqe);
    }

    fn execute(&self, state: &mut State, sqe: &Sqe) -> Result<u64, NvmeStatus> {
        match sqe.opcode {
            nvm::FLUSH => return Ok(0),
            nvm::DATASET_MANAGEMENT => return self.deallocate(state, sqe).ok().map(|()| 0),
            nvm::ZONE_MANAGEMENT_SEND | nvm::ZONE_MANAGEMENT_RECEIVE => {
                return self.zone_command(state, sqe).map(|()| 0);
            }
            _ => {}
        }
        let Some(namespace) = state.namespaces.get(&sqe.nsid.get()).filter(|one| one.attached)
        else {
            return Err(NvmeStatus::INVALID_NAMESPACE);
        };
        let block = namespace.block();
        let blocks = usize::try_from(sqe.cdw12.get() & 0xffff).unwrap() + 1;
        let place = Self::admit(state, sqe, blocks as u64)?;
        let first = usize::try_from(place.unwrap_or(sqe.cdw10_11())).unwrap();
        let range = first * block..(first + blocks) * block;
        if range.end > state.disk(sqe).len() {
            return Err(NvmeStatus::LBA_OUT_OF_RANGE);
        }
        let len = range.len();
        match sqe.opcode {
            nvm::READ => {
                let data = state.disk(sqe)[range].to_vec();
                self.deliver(state, sqe, &data);
            }
            nvm::WRITE | nvm::ZONE_APPEND => {
                if sqe.cdw12.get() >> 30 & 1 == 1 {
                    state.seen.fua += 1;
                }
                let Some(data) = self.fetch(state, sqe, len) else {
                    return Err(NvmeStatus::INTERNAL_ERROR);
                };
                state.disk(sqe)[range].copy_from_slice(&data);
            }
            nvm::COMPARE => match self.fetch(state, sqe, len) {
                Some(data) if data == state.disk(sqe)[range] => {}
                _ => return Err(NvmeStatus::COMPARE_FAILURE),
            },
            nvm::WRITE_ZEROES => state.disk(sqe)[range].fill(0),
            _ => return Err(NvmeStatus::INVALID_OPCODE),
        }
        Ok(place.unwrap_or(0))
    }

    fn deallocate(&self, state: &mut State, sqe: &Sqe) -> NvmeStatus {
        let count = usize::try_from(sqe.cdw10.get() & 0xff).unwrap() + 1;
        let Some(ranges) = self.fetch(state, sqe, count * 16) else {
            return NvmeStatus::INTERNAL_ERROR;
        };
        for range in ranges.chunks(16) {
            let blocks = u32::from_le_bytes(range[4..8].try_into().unwrap());
            let first = u64::from_le_bytes(range[8..].try_into().unwrap());
            let (first, blocks) =
                (usize::try_from(first).unwrap(), usize::try_from(blocks).unwrap());
            let block = state.namespaces[&sqe.nsid.get()].block();
            state.disk(sqe)[first * block..(first + blocks) * block].fill(0);
        }
        NvmeStatus::SUCCESS
    }
}
