//! PDUs as bytes with names for their parts (NVMe/TCP Transport Specification 1.0, section 3.6).

/// A named part of a PDU.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) offset: usize,
    pub(super) len: usize,
}

const fn field(name: &'static str, offset: usize, len: usize) -> Field {
    Field { name, offset, len }
}

const COMMON: [Field; 5] = [
    field("type", 0, 1),
    field("flags", 1, 1),
    field("hlen", 2, 1),
    field("pdo", 3, 1),
    field("plen", 4, 4),
];
const IC_REQ: [Field; 5] = [
    field("pfv", 8, 2),
    field("hpda", 10, 1),
    field("dgst", 11, 1),
    field("maxr2t", 12, 4),
    field("reserved", 16, 112),
];
const COMMAND: [Field; 18] = [
    field("opcode", 8, 1),
    field("fuse/psdt", 9, 1),
    field("cid", 10, 2),
    field("nsid", 12, 4),
    field("cdw2", 16, 4),
    field("cdw3", 20, 4),
    field("mptr", 24, 8),
    field("sgl address", 32, 8),
    field("sgl length", 40, 4),
    field("sgl rest", 44, 3),
    field("sgl identifier", 47, 1),
    field("cdw10", 48, 4),
    field("cdw11", 52, 4),
    field("cdw12", 56, 4),
    field("cdw13", 60, 4),
    field("cdw14", 64, 4),
    field("cdw15", 68, 4),
    field("whole command", 8, 64),
];
const CONNECT_DATA: [Field; 4] = [
    field("hostid", 72, 16),
    field("cntlid", 88, 2),
    field("subnqn", 328, 256),
    field("hostnqn", 584, 256),
];
const H2C_DATA: [Field; 4] =
    [field("cccid", 8, 2), field("ttag", 10, 2), field("datao", 12, 4), field("datal", 16, 4)];

/// The kinds that a host sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    IcReq,
    Command,
    Connect,
    H2cData,
}

impl Kind {
    /// Length of the header with the part that depends on the type.
    pub(super) const fn header_len(self) -> usize {
        match self {
            Self::IcReq => 128,
            Self::Command | Self::Connect => 72,
            Self::H2cData => 24,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::IcReq => 0x00,
            Self::Command | Self::Connect => 0x04,
            Self::H2cData => 0x06,
        }
    }

    /// The parts that can be broken.
    pub(super) fn fields(self) -> Vec<Field> {
        let own: &[&[Field]] = match self {
            Self::IcReq => &[&IC_REQ],
            Self::Command => &[&COMMAND],
            Self::Connect => &[&COMMAND, &CONNECT_DATA],
            Self::H2cData => &[&H2C_DATA],
        };
        COMMON.into_iter().chain(own.iter().flat_map(|part| part.iter().copied())).collect()
    }
}

/// A PDU before its digests: they are computed when it is sent, over what it then is.
#[derive(Clone, Debug)]
pub(super) struct Pdu {
    pub(super) kind: Kind,
    /// Header and data, without digests and padding.
    pub(super) bytes: Vec<u8>,
}

/// Digests that were agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    pub(super) header: bool,
    pub(super) data: bool,
}

impl Pdu {
    fn new(kind: Kind, data: &[u8], agreed: Agreed) -> Self {
        let header = kind.header_len();
        let header_digest = if agreed.header && kind != Kind::IcReq { 4 } else { 0 };
        let data_digest = if agreed.data && !data.is_empty() { 4 } else { 0 };
        let mut bytes = vec![0; header];
        bytes[0] = kind.code();
        if header_digest != 0 {
            bytes[1] |= 1;
        }
        if data_digest != 0 {
            bytes[1] |= 2;
        }
        bytes[2] = low_byte(header);
        if !data.is_empty() {
            bytes[3] = low_byte(header + header_digest);
        }
        let total = header + header_digest + data.len() + data_digest;
        bytes[4..8].copy_from_slice(&u32::try_from(total).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(data);
        Self { kind, bytes }
    }

    pub(super) fn ic_req(agreed: Agreed) -> Self {
        let mut pdu = Self::new(Kind::IcReq, &[], Agreed::default());
        pdu.bytes[11] = u8::from(agreed.header) | u8::from(agreed.data) << 1;
        pdu.bytes[12..16].copy_from_slice(&3_u32.to_le_bytes());
        pdu
    }

    pub(super) fn command(command: &[u8; 64], data: &[u8], agreed: Agreed) -> Self {
        let mut pdu = Self::new(Kind::Command, data, agreed);
        pdu.bytes[8..72].copy_from_slice(command);
        pdu
    }

    pub(super) fn connect(command: &[u8; 64], data: &[u8], agreed: Agreed) -> Self {
        Self { kind: Kind::Connect, ..Self::command(command, data, agreed) }
    }

    pub(super) fn h2c_data(
        cid: u16,
        ttag: u16,
        offset: u32,
        data: &[u8],
        last: bool,
        agreed: Agreed,
    ) -> Self {
        let mut pdu = Self::new(Kind::H2cData, data, agreed);
        if last {
            pdu.bytes[1] |= 4;
        }
        pdu.bytes[8..10].copy_from_slice(&cid.to_le_bytes());
        pdu.bytes[10..12].copy_from_slice(&ttag.to_le_bytes());
        pdu.bytes[12..16].copy_from_slice(&offset.to_le_bytes());
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        pdu.bytes[16..20].copy_from_slice(&len.to_le_bytes());
        pdu
    }

    /// The bytes for the socket, with the digests that were agreed on. `spoil` turns one bit of
    /// the header digest (1) or the data digest (2).
    pub(super) fn seal(&self, agreed: Agreed, spoil: u8) -> Vec<u8> {
        let (header, data) = self.bytes.split_at(self.kind.header_len().min(self.bytes.len()));
        let mut out = header.to_vec();
        if agreed.header && self.kind != Kind::IcReq {
            out.extend_from_slice(&(crc32c(header) ^ u32::from(spoil == 1)).to_le_bytes());
        }
        out.extend_from_slice(data);
        if agreed.data && !data.is_empty() {
            out.extend_from_slice(&(crc32c(data) ^ u32::from(spoil == 2)).to_le_bytes());
        }
        out
    }
}

fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

/// CRC-32C, bit by bit: slow, short, and nobody else's.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78);
        }
    }
    !crc
}

/// A submission queue entry.
pub(super) struct Command(pub(super) [u8; 64]);

impl Command {
    pub(super) fn new(opcode: u8, cid: u16, nsid: u32) -> Self {
        let mut bytes = [0; 64];
        bytes[0] = opcode;
        bytes[1] = 0x40; // PSDT: SGL
        bytes[2..4].copy_from_slice(&cid.to_le_bytes());
        bytes[4..8].copy_from_slice(&nsid.to_le_bytes());
        bytes[39] = 0x5a; // transport data block, of no bytes
        Self(bytes)
    }

    /// Sets command dword `index`.
    pub(super) fn dword(mut self, index: usize, value: u32) -> Self {
        self.0[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    /// Data of `len` bytes, in the capsule or moved by the transport.
    pub(super) fn sgl(mut self, len: u32, in_capsule: bool) -> Self {
        self.0[32..36].copy_from_slice(&len.to_le_bytes());
        self.0[39] = if in_capsule { 0x01 } else { 0x5a };
        self
    }
}

/// The 1024 bytes of Connect.
pub(super) fn connect_data(host: &[u8; 16], cntlid: u16, subnqn: &str, hostnqn: &str) -> Vec<u8> {
    let mut data = vec![0; 1024];
    data[..16].copy_from_slice(host);
    data[16..18].copy_from_slice(&cntlid.to_le_bytes());
    data[256..256 + subnqn.len()].copy_from_slice(subnqn.as_bytes());
    data[512..512 + hostnqn.len()].copy_from_slice(hostnqn.as_bytes());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn lengths_count_the_digests() {
        let agreed = Agreed { header: true, data: true };
        let pdu = Pdu::command(&Command::new(1, 7, 1).0, &[9; 512], agreed);
        let sealed = pdu.seal(agreed, 0);
        assert_eq!(sealed.len(), 72 + 4 + 512 + 4);
        assert_eq!(sealed[4..8], 592_u32.to_le_bytes());
        assert_eq!((sealed[1], sealed[3]), (3, 76));
    }
}
