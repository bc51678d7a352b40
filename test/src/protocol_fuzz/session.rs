//! The life of a host, with one thing broken.

use std::net::SocketAddr;
use std::time::Duration;

use super::mutation::{Mutation, Target};
use super::peer::{Answer, Peer, PeerError};
use super::wire::{Agreed, Command, Pdu, connect_data};
use crate::rng::Rng;

/// While nothing is broken, an answer has this long: far more than any machine needs.
const PATIENCE: Duration = Duration::from_secs(20);
/// After the break the target may well wait for what never comes.
const PATIENCE_BROKEN: Duration = Duration::from_millis(25);
/// More answers than any command of the session brings.
const ANSWERS_MAX: usize = 64;
const BLOCK_BYTES: u32 = 512;

/// Digests that the session asks for.
pub type Digests = (bool, bool);

/// What a case is made of.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where the target listens.
    pub address: SocketAddr,
    /// The subsystem that may suffer. Its namespace 1 has blocks of 512 bytes, 1024 at the least.
    pub subsystem: String,
    /// Who the host says it is.
    pub host: String,
    /// Header and data digests.
    pub digests: Digests,
    /// The seed of everything random.
    pub seed: u64,
}

/// How the target took it, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// It asked to terminate, with a fatal error status.
    Terminated(u16),
    /// It closed the connection.
    Closed,
    /// It waits for more.
    Silent,
    /// It refused a command, with a status.
    Refused(u16),
    /// Nothing was wrong with it.
    Fine,
}

/// The outcome of a case in which the target kept to the rules.
#[derive(Clone, Debug)]
pub struct CaseOutcome {
    /// What was broken, if the session came so far.
    pub mutation: Option<Mutation>,
    /// What came of it.
    pub ending: Ending,
    /// PDUs that were sent.
    pub sent: usize,
}

/// Why the session goes no further.
enum Stop {
    Peer(PeerError),
    Terminated(u16),
    /// Not what a target may answer to what was sent.
    Wrong(String),
}

impl From<PeerError> for Stop {
    fn from(error: PeerError) -> Self {
        Self::Peer(error)
    }
}

struct Session {
    case: Case,
    target: Option<Target>,
    rng: Rng,
    sent: usize,
    broken: Option<Mutation>,
    refused: Option<u16>,
    cid: u16,
}

/// Runs the session with nothing broken; returns the number of PDUs that it sends.
///
/// # Errors
/// What went wrong: then no case means anything.
pub fn baseline(case: &Case) -> Result<usize, String> {
    let outcome = run(case, None)?;
    match outcome.ending {
        Ending::Fine => Ok(outcome.sent),
        other => Err(format!("a session in which nothing is broken ended as {other:?}")),
    }
}

/// Runs a case in a session that sends `pdus` PDUs when nothing is broken.
///
/// # Errors
/// What the target did that it may not do.
pub fn run_case(case: &Case, pdus: usize) -> Result<CaseOutcome, String> {
    let pdu = Rng::new(case.seed ^ 0x5eed).index(pdus);
    run(case, Some(Target { pdu }))
}

fn run(case: &Case, target: Option<Target>) -> Result<CaseOutcome, String> {
    let rng = Rng::new(case.seed);
    let case = case.clone();
    let mut session =
        Session { case, target, rng, sent: 0, broken: None, refused: None, cid: 0x10 };
    let stop = session.run();
    let ending = match stop {
        Ok(()) => session.refused.map_or(Ending::Fine, Ending::Refused),
        Err(Stop::Wrong(what)) => return Err(session.describe(&what)),
        Err(Stop::Peer(PeerError::Malformed(what))) => return Err(session.describe(&what)),
        Err(_) if session.broken.is_none() => {
            return Err(session.describe("the session ended before anything was broken"));
        }
        Err(Stop::Terminated(status)) => Ending::Terminated(status),
        Err(Stop::Peer(PeerError::Closed)) => Ending::Closed,
        Err(Stop::Peer(PeerError::Silent)) => Ending::Silent,
    };
    Ok(CaseOutcome { mutation: session.broken, ending, sent: session.sent })
}

impl Session {
    fn describe(&self, what: &str) -> String {
        let (seed, sent, broken) = (self.case.seed, self.sent, &self.broken);
        format!("seed {seed:#x}, after {sent} PDUs, broken {broken:?}: {what}")
    }

    fn run(&mut self) -> Result<(), Stop> {
        let mut admin = self.connection()?;
        let cntlid = self.connect(&mut admin, 0, 0xffff)?;
        self.admin_commands(&mut admin)?;
        let mut io = self.connection()?;
        self.connect(&mut io, 1, cntlid)?;
        self.io_commands(&mut io)?;
        self.command(&mut admin, Command::new(0x18, 0, 0), &[]).map(|_| ())
    }

    fn next_cid(&mut self) -> u16 {
        self.cid = self.cid.wrapping_add(1);
        self.cid
    }

    fn connection(&mut self) -> Result<Peer, Stop> {
        let opened = Peer::open(self.case.address);
        let mut peer = opened.map_err(|error| Stop::Wrong(format!("no connection: {error}")))?;
        self.set_patience(&peer);
        let wanted = Agreed { header: self.case.digests.0, data: self.case.digests.1 };
        self.send(&mut peer, &Pdu::ic_req(wanted))?;
        match self.receive(&mut peer)? {
            Answer::IcResp { data_max, digests } => {
                if data_max < 4096 || data_max % 4 != 0 {
                    return Err(Stop::Wrong(format!("MAXH2CDATA {data_max}")));
                }
                // A broken request may have asked for others.
                peer.agreed = Agreed { header: digests & 1 == 1, data: digests & 2 == 2 };
                if self.broken.is_none() && peer.agreed != wanted {
                    return Err(Stop::Wrong(format!("digests {digests} were agreed on")));
                }
                Ok(peer)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    fn unexpected(&self, answer: &Answer) -> Stop {
        match answer {
            Answer::Terminate { status } => Stop::Terminated(*status),
            // After a break the order of things is nobody's fault.
            _ if self.broken.is_some() => Stop::Peer(PeerError::Silent),
            other => Stop::Wrong(format!("unexpected {other:?}")),
        }
    }

    fn set_patience(&self, peer: &Peer) {
        let limit = if self.broken.is_some() { PATIENCE_BROKEN } else { PATIENCE };
        // Refused only for a limit of zero.
        let _ = peer.patience(limit);
    }

    fn receive(&mut self, peer: &mut Peer) -> Result<Answer, Stop> {
        Ok(peer.receive()?)
    }

    /// Sends a PDU, broken when its turn has come.
    fn send(&mut self, peer: &mut Peer, pdu: &Pdu) -> Result<(), Stop> {
        let chosen = self.target.is_some_and(|target| target.pdu == self.sent);
        self.sent += 1;
        let agreed = peer.agreed;
        if !chosen {
            return Ok(peer.send(&pdu.seal(agreed, 0))?);
        }
        let mutation = Mutation::choose(pdu, agreed, &mut self.rng);
        self.broken = Some(mutation.clone());
        self.set_patience(peer);
        let whole = pdu.seal(agreed, 0);
        match mutation {
            Mutation::Field { offset, value, .. } => {
                let mut other = pdu.clone();
                other.bytes[offset..offset + value.len()].copy_from_slice(&value);
                peer.send(&other.seal(agreed, 0))?;
            }
            Mutation::Digest(which) => peer.send(&pdu.seal(agreed, which))?,
            Mutation::CutAndClose(len) => {
                peer.send(&whole[..len])?;
                peer.close_writing();
            }
            Mutation::CutAndWait(len) => {
                peer.send(&whole[..len])?;
                peer.receive()?;
            }
            Mutation::CutAndGoOn(len) => peer.send(&whole[..len])?,
            Mutation::Twice => peer.send(&[&whole[..], &whole].concat())?,
            Mutation::LeftOut => {}
            Mutation::Noise(noise) => peer.send(&[&noise[..], &whole].concat())?,
        }
        Ok(())
    }

    fn connect(&mut self, peer: &mut Peer, qid: u16, cntlid: u16) -> Result<u16, Stop> {
        // Of its own, or a broken controller number could name another case's controller.
        let mut host_id = [0x5a; 16];
        host_id[..8].copy_from_slice(&self.case.seed.to_le_bytes());
        let data = connect_data(&host_id, cntlid, &self.case.subsystem, &self.case.host);
        let cid = self.next_cid();
        let command = Command::new(0x7f, cid, 1) // FCTYPE 1 in the byte of the namespace
            .dword(10, u32::from(qid) << 16)
            .dword(11, 31)
            .sgl(1024, true);
        self.send(peer, &Pdu::connect(&command.0, &data, peer.agreed))?;
        let (result, _) = self.finish(peer, cid, &[])?;
        Ok(u16::try_from(result & 0xffff).unwrap_or(0))
    }

    /// Sends a command and goes through with it; `data` is for the target, in the capsule.
    fn command(
        &mut self,
        peer: &mut Peer,
        mut command: Command,
        data: &[u8],
    ) -> Result<(u64, Vec<u8>), Stop> {
        let cid = self.next_cid();
        command.0[2..4].copy_from_slice(&cid.to_le_bytes());
        self.send(peer, &Pdu::command(&command.0, data, peer.agreed))?;
        self.finish(peer, cid, &[])
    }

    /// Sends a write whose data the target fetches.
    fn fetched(&mut self, peer: &mut Peer, mut command: Command, data: &[u8]) -> Result<(), Stop> {
        let cid = self.next_cid();
        command.0[2..4].copy_from_slice(&cid.to_le_bytes());
        self.send(peer, &Pdu::command(&command.0, &[], peer.agreed))?;
        self.finish(peer, cid, data).map(|_| ())
    }

    /// Receives until the command has ended, sending what the target asks for. Returns its
    /// result and the data that came.
    fn finish(&mut self, peer: &mut Peer, cid: u16, data: &[u8]) -> Result<(u64, Vec<u8>), Stop> {
        let mut received = Vec::new();
        for _ in 0..ANSWERS_MAX {
            match self.receive(peer)? {
                Answer::Response { result, cid: of, status } if of == cid => {
                    self.note(status)?;
                    return Ok((result, received));
                }
                Answer::Data { cid: of, bytes, success } if of == cid => {
                    received.extend_from_slice(&bytes);
                    if success {
                        return Ok((0, received));
                    }
                }
                Answer::ReadyToTransfer { cid: of, ttag, offset, len } if of == cid => {
                    self.transfer(peer, (cid, ttag), (offset, len), data)?;
                }
                Answer::Terminate { status } => return Err(Stop::Terminated(status)),
                // The answer to a command that the break made of another one.
                _ if self.broken.is_some() => {}
                other => return Err(Stop::Wrong(format!("unexpected {other:?}"))),
            }
        }
        Err(self.unexpected(&Answer::ReadyToTransfer { cid, ttag: 0, offset: 0, len: 0 }))
    }

    fn note(&mut self, status: u16) -> Result<(), Stop> {
        const COMPARE_FAILURE: u16 = 0x285;
        let code = status & 0x7ff;
        // Another case may have written to the blocks: a failed comparison says nothing.
        if code != 0 && code != COMPARE_FAILURE {
            if self.broken.is_none() {
                return Err(Stop::Wrong(format!("a valid command ended with status {status:#x}")));
            }
            self.refused = self.refused.or(Some(code));
        }
        Ok(())
    }

    fn transfer(
        &mut self,
        peer: &mut Peer,
        (cid, ttag): (u16, u16),
        (offset, len): (u32, u32),
        data: &[u8],
    ) -> Result<(), Stop> {
        let (from, len) = (offset as usize, len as usize);
        let Some(wanted) = data.get(from..from.saturating_add(len)) else {
            // After a break the target may ask for what a command of other fields would have.
            let wrong = format!("asked for {len} bytes at {offset} of {}", data.len());
            return Err(if self.broken.is_some() {
                PeerError::Silent.into()
            } else {
                Stop::Wrong(wrong)
            });
        };
        // Two pieces, so that offsets and the last flag matter.
        let (first, second) = wanted.split_at(wanted.len() / 2 / 4 * 4);
        let middle = offset + u32::try_from(first.len()).unwrap_or(0);
        self.send(peer, &Pdu::h2c_data(cid, ttag, offset, first, false, peer.agreed))?;
        self.send(peer, &Pdu::h2c_data(cid, ttag, middle, second, true, peer.agreed))
    }

    fn admin_commands(&mut self, peer: &mut Peer) -> Result<(), Stop> {
        let get = |offset, eight| Command::new(0x7f, 0, 4).dword(10, eight).dword(11, offset);
        self.command(peer, get(0x00, 1), &[])?;
        self.command(peer, get(0x08, 0), &[])?;
        let enable = Command::new(0x7f, 0, 0).dword(11, 0x14).dword(12, 0x0046_0001);
        self.command(peer, enable, &[])?;
        for _ in 0..1000 {
            if self.command(peer, get(0x1c, 0), &[])?.0 & 1 == 1 || self.broken.is_some() {
                break;
            }
        }
        for (cns, nsid) in [(1, 0), (2, 0), (0, 1), (3, 1)] {
            let identify = Command::new(0x06, 0, nsid).dword(10, cns).sgl(4096, false);
            let (_, data) = self.command(peer, identify, &[])?;
            if self.broken.is_none() && data.len() != 4096 {
                return Err(Stop::Wrong(format!("{} bytes of CNS {cns}", data.len())));
            }
        }
        let queues = Command::new(0x09, 0, 0).dword(10, 7).dword(11, 0x0003_0003);
        self.command(peer, queues, &[])?;
        let events = Command::new(0x09, 0, 0).dword(10, 0x0b).dword(11, 0x100);
        self.command(peer, events, &[])?;
        let waiting = self.next_cid();
        let event = Command::new(0x0c, waiting, 0);
        self.send(peer, &Pdu::command(&event.0, &[], peer.agreed))?;
        for (log, len) in [(0x02_u32, 512_u32), (0x05, 4096), (0x01, 64)] {
            let page = Command::new(0x02, 0, u32::MAX).dword(10, log | (len / 4 - 1) << 16);
            self.command(peer, page.sgl(len, false), &[])?;
        }
        let abort = Command::new(0x08, 0, 0).dword(10, 0x7777_0000);
        self.command(peer, abort, &[])?;
        Ok(())
    }

    fn io_commands(&mut self, peer: &mut Peer) -> Result<(), Stop> {
        let mut data = vec![0; 16 << 10];
        self.rng.fill(&mut data);
        let lba = self.rng.below(512).to_le_bytes();
        let lba = u32::from_le_bytes([lba[0], lba[1], lba[2], lba[3]]);
        let blocks = |bytes: u32| bytes / BLOCK_BYTES - 1;
        let io = |opcode: u8, bytes: u32, in_capsule: bool| {
            Command::new(opcode, 0, 1)
                .dword(10, lba)
                .dword(12, blocks(bytes))
                .sgl(bytes, in_capsule)
        };
        let small = &data[..4096];
        self.command(peer, io(0x01, 4096, true), small)?;
        self.fetched(peer, io(0x01, 16 << 10, false), &data)?;
        let (_, read) = self.command(peer, io(0x02, 16 << 10, false), &[])?;
        if self.broken.is_none() && read.len() != 16 << 10 {
            return Err(Stop::Wrong(format!("{} bytes were read", read.len())));
        }
        self.command(peer, io(0x05, 4096, true), small)?;
        self.command(peer, io(0x01, 512, true).dword(12, 1 << 30), &data[..512])?;
        self.command(peer, Command::new(0x00, 0, 1), &[])?;
        let zeroes = Command::new(0x08, 0, 1).dword(10, lba).dword(12, 7);
        self.command(peer, zeroes, &[])?;
        let mut range = [0; 16];
        range[4..8].copy_from_slice(&8_u32.to_le_bytes());
        range[8..12].copy_from_slice(&lba.to_le_bytes());
        let trim = Command::new(0x09, 0, 1).dword(11, 4).sgl(16, true);
        self.command(peer, trim, &range)?;
        self.fused(peer, lba)?;
        let report = Command::new(0x0e, 0, 1).dword(10, 4096 / 4 - 1).dword(11, 1);
        self.command(peer, report.sgl(4096, false), &[])?;
        Ok(())
    }

    /// Compare and write, fused: both halves on their way before the first answer.
    fn fused(&mut self, peer: &mut Peer, lba: u32) -> Result<(), Stop> {
        let block = [0; BLOCK_BYTES as usize];
        let (first, second) = (self.next_cid(), self.next_cid());
        for (opcode, cid, fuse) in [(0x05, first, 1), (0x01, second, 2)] {
            let mut half = Command::new(opcode, cid, 1).dword(10, lba).sgl(BLOCK_BYTES, true);
            half.0[1] |= fuse;
            self.send(peer, &Pdu::command(&half.0, &block, peer.agreed))?;
        }
        for _ in 0..2 {
            match self.receive(peer)? {
                // Whether they are equal is up to the other cases.
                Answer::Response { cid, .. } if cid == first || cid == second => {}
                Answer::Terminate { status } => return Err(Stop::Terminated(status)),
                _ if self.broken.is_some() => {}
                other => return Err(Stop::Wrong(format!("unexpected {other:?}"))),
            }
        }
        Ok(())
    }
}
