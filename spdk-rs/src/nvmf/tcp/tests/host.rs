//! A scripted host.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use zerocopy::{FromBytes, IntoBytes};

use super::rig::SUBSYSTEM;
use crate::NvmeStatus;
use crate::nvme::spec::{Cqe, SglDescriptor, Sqe};
use crate::nvme::tcp::digest::Crc32c;
use crate::nvme::tcp::framing::{
    DataPdu, FatalStatus, Framer, HEADER_SPACE_BYTES, IcReq, PduType, R2t,
};

/// Which digests a host asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Digests {
    pub(super) header: bool,
    pub(super) data: bool,
}

/// What the target sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Got {
    Response(Cqe),
    Data {
        cid: u16,
        offset: u32,
        bytes: Vec<u8>,
        last: bool,
        success: bool,
    },
    Ready(R2t),
    /// FES, FEI, and the header that was wrong.
    Terminated(u16, u32, Vec<u8>),
    End,
}

pub(super) struct Host {
    pub(super) socket: TcpStream,
    pub(super) framer: Framer,
    /// Alignment of data that it gets.
    align: usize,
    pub(super) maxh2c: usize,
    next_cid: u16,
}

impl Host {
    pub(super) fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        // Long enough for any machine; a test that meets it fails.
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { socket, framer: Framer::default(), align: 4, maxh2c: 0, next_cid: 0 }
    }

    /// After ICReq and ICResp.
    pub(super) fn greeted(address: SocketAddr, digests: Digests, hpda: u8) -> Self {
        let mut host = Self::open(address);
        let request = IcReq {
            pfv: 0,
            hpda,
            header_digest: digests.header,
            data_digest: digests.data,
            maxr2t: 0,
        };
        let mut out = [0; HEADER_SPACE_BYTES];
        let len = Framer::ic_req(&request, &mut out);
        host.send(&out[..len]);
        let mut response = [0; 128];
        host.socket.read_exact(&mut response).unwrap();
        assert_eq!(response[..8], [1, 0, 128, 0, 128, 0, 0, 0]);
        assert_eq!(response[11], u8::from(digests.header) | u8::from(digests.data) << 1);
        host.maxh2c = u32::from_le_bytes(response[12..16].try_into().unwrap()) as usize;
        host.align = (usize::from(hpda) + 1) * 4;
        let cpda = u32::from(response[10]);
        let (header_digest, data_digest) = (digests.header, digests.data);
        host.framer = Framer { header_digest, data_digest, alignment_bytes: (cpda + 1) * 4 };
        host
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    pub(super) fn cid(&mut self) -> u16 {
        self.next_cid += 1;
        self.next_cid
    }

    /// The bytes of a PDU with data.
    pub(super) fn payload(&self, head: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = [head, data].concat();
        if self.framer.data_digest && !data.is_empty() {
            bytes.extend(Crc32c::of(data).to_le_bytes());
        }
        bytes
    }

    /// The bytes of a command, with its data inside.
    pub(super) fn capsule(&self, sqe: &Sqe, data: &[u8]) -> Vec<u8> {
        let mut out = [0; HEADER_SPACE_BYTES];
        let len = self.framer.command(sqe, u32::try_from(data.len()).unwrap(), &mut out);
        self.payload(&out[..len], data)
    }

    /// The bytes of a data PDU.
    pub(super) fn h2c(&self, r2t: &R2t, offset: usize, data: &[u8], last: bool) -> Vec<u8> {
        let pdu = DataPdu {
            cccid: r2t.cccid,
            ttag: r2t.ttag,
            datao: u32::try_from(offset).unwrap(),
            datal: u32::try_from(data.len()).unwrap(),
            last,
            success: false,
        };
        let mut out = [0; HEADER_SPACE_BYTES];
        let len = self.framer.h2c_data(&pdu, &mut out);
        self.payload(&out[..len], data)
    }

    /// Sends a command with its data inside; returns its identifier.
    pub(super) fn submit(&mut self, mut sqe: Sqe, data: &[u8]) -> u16 {
        let cid = self.cid();
        sqe.cid.set(cid);
        if !data.is_empty() {
            sqe.dptr = SglDescriptor::in_capsule(0, u32::try_from(data.len()).unwrap());
        }
        let bytes = self.capsule(&sqe, data);
        self.send(&bytes);
        cid
    }

    /// Sends a command whose `len` bytes of data the transport moves.
    pub(super) fn submit_moved(&mut self, mut sqe: Sqe, len: usize) -> u16 {
        sqe.dptr = SglDescriptor::transport(u32::try_from(len).unwrap());
        self.submit(sqe, &[])
    }

    /// Sends what an R2T asks for, in PDUs of at most `piece` bytes.
    pub(super) fn give(&mut self, r2t: &R2t, data: &[u8], piece: usize) {
        let mut at = 0;
        for part in data.chunks(piece.min(self.maxh2c)) {
            let bytes = self.h2c(r2t, at, part, at + part.len() == data.len());
            self.send(&bytes);
            at += part.len();
        }
    }

    /// Reads so many bytes; none when the target has ended the connection.
    fn read(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.socket.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) =>
            {
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// The next PDU of the target, with all its digests and padding checked.
    pub(super) fn next(&mut self) -> Got {
        let Some(common) = self.read(8) else { return Got::End };
        let plen = u32::from_le_bytes(common[4..8].try_into().unwrap()) as usize;
        let (kind, flags, hlen) = (common[0], common[1], usize::from(common[2]));
        let Some(rest) = self.read(plen - 8) else { return Got::End };
        let pdu = [common, rest].concat();
        let u16_at = |at: usize| u16::from_le_bytes([pdu[at], pdu[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(pdu[at..at + 4].try_into().unwrap());
        if kind == PduType::C2hTermReq as u8 {
            return Got::Terminated(u16_at(8), u32_at(10), pdu[24..].to_vec());
        }
        assert_eq!(flags & 1 != 0, self.framer.header_digest);
        let mut before = hlen;
        if self.framer.header_digest {
            assert_eq!(u32_at(hlen), Crc32c::of(&pdu[..hlen]));
            before += 4;
        }
        match kind {
            0x05 => {
                assert_eq!(plen, before);
                Got::Response(Cqe::read_from_bytes(&pdu[8..24]).unwrap())
            }
            0x09 => {
                let (cccid, ttag) = (u16_at(8), u16_at(10));
                Got::Ready(R2t { cccid, ttag, offset: u32_at(12), length: u32_at(16) })
            }
            0x07 => {
                let pdo = usize::from(pdu[3]);
                assert_eq!(pdo, before.next_multiple_of(self.align));
                assert_eq!(flags & 2 != 0, self.framer.data_digest);
                let len = u32_at(16) as usize;
                let bytes = pdu[pdo..pdo + len].to_vec();
                let mut end = pdo + len;
                if self.framer.data_digest {
                    assert_eq!(u32_at(end), Crc32c::of(&bytes));
                    end += 4;
                }
                assert_eq!(end, plen);
                let (last, success) = (flags & 4 != 0, flags & 8 != 0);
                Got::Data { cid: u16_at(8), offset: u32_at(12), bytes, last, success }
            }
            _ => panic!("a PDU of type {kind:#x}"),
        }
    }

    pub(super) fn response(&mut self) -> Cqe {
        match self.next() {
            Got::Response(cqe) => cqe,
            other => panic!("{other:?} instead of a response"),
        }
    }

    pub(super) fn ready(&mut self) -> R2t {
        match self.next() {
            Got::Ready(r2t) => r2t,
            other => panic!("{other:?} instead of an R2T"),
        }
    }

    /// The data of one command that reads, with its end.
    pub(super) fn data(&mut self, cid: u16) -> Vec<u8> {
        match self.next() {
            Got::Data { cid: of, offset: 0, bytes, last: true, success } => {
                assert_eq!(of, cid);
                if !success {
                    let cqe = self.response();
                    assert_eq!((cqe.cid.get(), cqe.status()), (cid, NvmeStatus::SUCCESS));
                }
                bytes
            }
            other => panic!("{other:?} instead of data"),
        }
    }

    /// The target terminates the connection with this status, and ends it.
    pub(super) fn expect_end(&mut self, status: FatalStatus, info: u32) {
        loop {
            match self.next() {
                Got::Terminated(fes, fei, _) => {
                    assert_eq!((FatalStatus::from_bits(fes), fei), (Some(status), info));
                    break;
                }
                Got::End => panic!("ended without a word instead of {status:?}"),
                // Answers to what was right before.
                _ => {}
            }
        }
        assert_eq!(self.next(), Got::End);
    }

    pub(super) fn connect(
        &mut self,
        qid: u16,
        sqsize: u16,
        cntlid: u16,
    ) -> Result<u64, NvmeStatus> {
        self.connect_to(SUBSYSTEM, qid, sqsize, cntlid)
    }

    pub(super) fn connect_to(
        &mut self,
        nqn: &str,
        qid: u16,
        sqsize: u16,
        cntlid: u16,
    ) -> Result<u64, NvmeStatus> {
        let mut data = vec![0; 1024];
        data[..16].fill(0x5a);
        data[16..18].copy_from_slice(&cntlid.to_le_bytes());
        data[256..256 + nqn.len()].copy_from_slice(nqn.as_bytes());
        let host = b"nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555";
        data[512..512 + host.len()].copy_from_slice(host);
        let mut sqe = Sqe::fabrics(1);
        sqe.cdw10.set(u32::from(qid) << 16);
        sqe.cdw11.set(u32::from(sqsize));
        self.submit(sqe, &data);
        let cqe = self.response();
        cqe.status().ok().map(|()| cqe.result.get())
    }

    /// Property Set CC.EN, and Property Get until CSTS.RDY.
    pub(super) fn enable(&mut self) {
        let mut set = Sqe::fabrics(0);
        set.cdw11.set(0x14);
        set.cdw12.set(0x0046_0001);
        self.submit(set, &[]);
        assert_eq!(self.response().status(), NvmeStatus::SUCCESS);
        let mut get = Sqe::fabrics(4);
        get.cdw11.set(0x1c);
        while {
            self.submit(get, &[]);
            self.response().result.get() & 1 == 0
        } {}
    }

    pub(super) fn identify(&mut self, cns: u32, nsid: u32) -> Vec<u8> {
        let mut sqe = Sqe::new(0x06, nsid);
        sqe.cdw10.set(cns);
        let cid = self.submit_moved(sqe, 4096);
        self.data(cid)
    }

    /// Reads blocks of 512 bytes.
    pub(super) fn read_blocks(&mut self, slba: u64, count: usize) -> Vec<u8> {
        let cid = self.submit_moved(block(0x02, slba, count), count * 512);
        self.data(cid)
    }

    /// Writes them, inside the capsule.
    pub(super) fn write_inside(&mut self, slba: u64, data: &[u8]) -> NvmeStatus {
        self.submit(block(0x01, slba, data.len() / 512), data);
        self.response().status()
    }

    /// Proves that the connection works.
    pub(super) fn check(&mut self) {
        let data = pattern(4096, 77);
        assert_eq!(self.write_inside(8000, &data), NvmeStatus::SUCCESS);
        assert!(self.read_blocks(8000, 8) == data);
    }
}

/// A read or write of `count` blocks of namespace 1.
pub(super) fn block(opcode: u8, slba: u64, count: usize) -> Sqe {
    let mut sqe = Sqe::new(opcode, 1);
    sqe.cdw10.as_mut_bytes().copy_from_slice(&slba.to_le_bytes()[..4]);
    sqe.cdw11.as_mut_bytes().copy_from_slice(&slba.to_le_bytes()[4..]);
    sqe.cdw12.set(u32::try_from(count - 1).unwrap());
    sqe
}

pub(super) fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at * 31 + at / 509 + seed * 17) % 251).unwrap()).collect()
}
