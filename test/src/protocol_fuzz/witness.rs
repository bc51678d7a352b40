//! A host that keeps to the rules while others do not, and must not notice them.

use std::net::SocketAddr;
use std::time::Duration;

use super::peer::{Answer, Peer};
use super::wire::{Agreed, Command, Pdu, connect_data};
use crate::rng::Rng;

const PATIENCE: Duration = Duration::from_secs(30);
const BLOCKS: u64 = 1024;
const BYTES: u32 = 4096;

/// A connected host on a subsystem of its own.
pub struct Witness {
    admin: Peer,
    io: Peer,
    content: Vec<Option<u64>>,
    rng: Rng,
    cid: u16,
    ios: u64,
}

fn pattern(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; BYTES as usize];
    Rng::new(seed).fill(&mut bytes);
    bytes
}

impl Witness {
    /// Connects. Namespace 1 of the subsystem has blocks of 4096 bytes, 1024 at the least.
    ///
    /// # Errors
    /// What went wrong.
    pub fn connect(
        address: SocketAddr,
        subsystem: &str,
        host: &str,
        seed: u64,
    ) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let agreed = Agreed { header: true, data: true };
        let open = || -> Result<Peer, String> {
            let mut peer = Peer::open(address).map_err(|error| text(&error))?;
            peer.patience(PATIENCE).map_err(|error| text(&error))?;
            peer.send(&Pdu::ic_req(agreed).seal(Agreed::default(), 0)).map_err(|e| text(&e))?;
            match peer.receive() {
                Ok(Answer::IcResp { digests: 3, .. }) => peer.agreed = agreed,
                other => return Err(format!("no connection: {other:?}")),
            }
            Ok(peer)
        };
        let (admin, io) = (open()?, open()?);
        let content = vec![None; usize::try_from(BLOCKS).unwrap_or(0)];
        let mut witness = Self { admin, io, content, rng: Rng::new(seed), cid: 1, ios: 0 };
        let connect = |qid: u32, cntlid| {
            let data = connect_data(&[0x77; 16], cntlid, subsystem, host);
            let command =
                Command::new(0x7f, 1, 1).dword(10, qid << 16).dword(11, 31).sgl(1024, true);
            (command, data)
        };
        let (command, data) = connect(0, 0xffff);
        let cntlid = roundtrip(&mut witness.admin, &command, &data)?.0;
        let enable = Command::new(0x7f, 2, 0).dword(11, 0x14).dword(12, 0x0046_0001);
        roundtrip(&mut witness.admin, &enable, &[])?;
        let (command, data) = connect(1, u16::try_from(cntlid & 0xffff).unwrap_or(0));
        roundtrip(&mut witness.io, &command, &data)?;
        Ok(witness)
    }

    /// Writes a random block, or reads one and checks its content.
    ///
    /// # Errors
    /// What went wrong.
    pub fn step(&mut self) -> Result<(), String> {
        let block = self.rng.index(self.content.len());
        self.cid = self.cid.wrapping_add(1) & 0x7fff;
        self.ios += 1;
        let lba = u32::try_from(block).unwrap_or(0);
        let command = |opcode: u8, in_capsule: bool| {
            Command::new(opcode, self.cid, 1).dword(10, lba).sgl(BYTES, in_capsule)
        };
        match self.content[block] {
            Some(seed) if self.rng.one_in(2) => {
                let (_, data) = roundtrip(&mut self.io, &command(0x02, false), &[])?;
                if data != pattern(seed) {
                    return Err(format!("block {block} has not the content that was written"));
                }
            }
            _ => {
                let seed = self.rng.next_u64();
                roundtrip(&mut self.io, &command(0x01, true), &pattern(seed))?;
                self.content[block] = Some(seed);
            }
        }
        Ok(())
    }

    /// Reads everything that was written, and says how many I/Os there were in all.
    ///
    /// # Errors
    /// What went wrong.
    pub fn finish(mut self) -> Result<u64, String> {
        for block in 0..self.content.len() {
            let Some(seed) = self.content[block] else { continue };
            let lba = u32::try_from(block).unwrap_or(0);
            let command = Command::new(0x02, 9, 1).dword(10, lba).sgl(BYTES, false);
            if roundtrip(&mut self.io, &command, &[])?.1 != pattern(seed) {
                return Err(format!("block {block} has not the content that was written"));
            }
        }
        roundtrip(&mut self.admin, &Command::new(0x18, 3, 0), &[])?;
        Ok(self.ios)
    }
}

fn roundtrip(peer: &mut Peer, command: &Command, data: &[u8]) -> Result<(u64, Vec<u8>), String> {
    let pdu = Pdu::command(&command.0, data, peer.agreed);
    peer.send(&pdu.seal(peer.agreed, 0)).map_err(|error| error.to_string())?;
    let mut received = Vec::new();
    loop {
        match peer.receive().map_err(|error| error.to_string())? {
            Answer::Data { bytes, success, .. } => {
                received.extend_from_slice(&bytes);
                if success {
                    return Ok((0, received));
                }
            }
            Answer::Response { result, status: 0, .. } => return Ok((result, received)),
            other => return Err(format!("the witness was answered {other:?}")),
        }
    }
}
