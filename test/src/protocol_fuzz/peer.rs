//! The receiving half: what the target sends must be well formed, whatever it was sent.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use thiserror::Error;

use super::wire::{Agreed, crc32c};

/// The longest PDU that a target may sensibly send here: no transfer of a session is larger.
const PDU_BYTES_MAX: u32 = 1 << 20;

/// Why an answer could not be had.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The target sent what no controller may send.
    #[error("the target sent a malformed PDU: {0}")]
    Malformed(String),
    /// The target closed the connection.
    #[error("the target closed the connection")]
    Closed,
    /// No answer came in time.
    #[error("no answer came in time")]
    Silent,
}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silent,
            _ => Self::Closed,
        }
    }
}

/// A PDU of the target.
#[derive(Debug)]
pub enum Answer {
    /// The connection is initialised; the largest H2CData payload in bytes.
    IcResp {
        /// MAXH2CDATA.
        data_max: u32,
        /// The digests that are used from here on: bit 0 header, bit 1 data.
        digests: u8,
    },
    /// A completion.
    Response {
        /// Dwords 0 and 1.
        result: u64,
        /// Command identifier.
        cid: u16,
        /// Status without the phase bit.
        status: u16,
    },
    /// Data for the host.
    Data {
        /// Command identifier.
        cid: u16,
        /// The payload.
        bytes: Vec<u8>,
        /// There will be no response: the command succeeded.
        success: bool,
    },
    /// The target is ready to receive.
    ReadyToTransfer {
        /// Command identifier.
        cid: u16,
        /// Transfer tag.
        ttag: u16,
        /// Offset of the transfer in the command's data, in bytes.
        offset: u32,
        /// Length of the transfer in bytes.
        len: u32,
    },
    /// The target terminates the connection.
    Terminate {
        /// Fatal error status.
        status: u16,
    },
}

/// A connection to the target.
pub(super) struct Peer {
    stream: TcpStream,
    pub(super) agreed: Agreed,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

impl Peer {
    pub(super) fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, agreed: Agreed::default() })
    }

    /// How long an answer may take.
    pub(super) fn patience(&self, limit: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(limit))?;
        self.stream.set_write_timeout(Some(limit))
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> Result<(), PeerError> {
        Ok(self.stream.write_all(bytes)?)
    }

    pub(super) fn close_writing(&self) {
        // Fails when the target has closed already, which is its right.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The next PDU.
    pub(super) fn receive(&mut self) -> Result<Answer, PeerError> {
        let mut common = [0; 8];
        self.stream.read_exact(&mut common)?;
        let (kind, flags, header_len) = (common[0], common[1], usize::from(common[2]));
        let total = u32_at(&common, 4);
        let malformed = |what: &str| PeerError::Malformed(format!("{what}: {common:02x?}"));
        let expected = match kind {
            0x01 => 128,
            0x03 | 0x05 | 0x07 | 0x09 => 24,
            _ => return Err(malformed("not a PDU of a controller")),
        };
        let known_flags = match kind {
            0x01 | 0x03 => 0,
            0x07 => 0x0f,
            _ => 0x01,
        };
        if header_len != expected || flags & !known_flags != 0 {
            return Err(malformed("header length or flags"));
        }
        let total = usize::try_from(total)
            .ok()
            .filter(|&total| (expected..=PDU_BYTES_MAX as usize).contains(&total))
            .ok_or_else(|| malformed("length"))?;
        let mut bytes = vec![0; total];
        bytes[..8].copy_from_slice(&common);
        self.stream.read_exact(&mut bytes[8..])?;
        self.check_digests(&bytes, header_len).map_err(|what| malformed(&what))?;
        self.parse(&bytes).map_err(|what| malformed(&what))
    }

    fn check_digests(&self, bytes: &[u8], header_len: usize) -> Result<(), String> {
        let (kind, flags) = (bytes[0], bytes[1]);
        if matches!(kind, 0x01 | 0x03) {
            return Ok(());
        }
        if (flags & 1 == 1) != self.agreed.header {
            return Err("header digest flag".to_owned());
        }
        if self.agreed.header && crc32c(&bytes[..header_len]) != u32_at(bytes, header_len) {
            return Err("header digest".to_owned());
        }
        if kind == 0x07 && self.agreed.data {
            let (from, end) = (usize::from(bytes[3]), bytes.len() - 4);
            if flags & 2 == 0 || from > end || crc32c(&bytes[from..end]) != u32_at(bytes, end) {
                return Err("data digest".to_owned());
            }
        }
        Ok(())
    }

    fn parse(&self, bytes: &[u8]) -> Result<Answer, String> {
        Ok(match bytes[0] {
            0x01 => Answer::IcResp { data_max: u32_at(bytes, 12), digests: bytes[11] },
            0x03 => Answer::Terminate { status: u16_at(bytes, 8) },
            0x05 => Answer::Response {
                result: u64::from(u32_at(bytes, 8)) | u64::from(u32_at(bytes, 12)) << 32,
                cid: u16_at(bytes, 20),
                status: u16_at(bytes, 22) >> 1,
            },
            0x07 => {
                let len = u32_at(bytes, 16) as usize;
                let from = usize::from(bytes[3]);
                let tail = if self.agreed.data { 4 } else { 0 };
                if from < 24 || from + len + tail != bytes.len() {
                    return Err(format!("{len} bytes of data at {from}"));
                }
                let success = bytes[1] & 8 != 0;
                if success && bytes[1] & 4 == 0 {
                    return Err("success before the last data".to_owned());
                }
                let cid = u16_at(bytes, 8);
                Answer::Data { cid, bytes: bytes[from..from + len].to_vec(), success }
            }
            _ => Answer::ReadyToTransfer {
                cid: u16_at(bytes, 8),
                ttag: u16_at(bytes, 10),
                offset: u32_at(bytes, 12),
                len: u32_at(bytes, 16),
            },
        })
    }
}
