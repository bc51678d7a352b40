//! What is broken, and how.

use super::wire::{Agreed, Field, Kind, Pdu};
use crate::rng::Rng;

/// Where a case breaks something: the number of the PDU among those that the session sends.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its number, from 0.
    pub pdu: usize,
}

/// How the chosen PDU is broken.
#[derive(Clone, Debug)]
pub enum Mutation {
    /// A field gets another value; the digests are right for it.
    Field {
        /// The field's name.
        name: &'static str,
        /// Its place in the PDU, in bytes.
        offset: usize,
        /// The bytes that it gets.
        value: Vec<u8>,
    },
    /// A digest is wrong: 1 the header's, 2 the data's.
    Digest(u8),
    /// Only so many bytes are sent, and the connection is closed for writing.
    CutAndClose(usize),
    /// Only so many bytes are sent, and nothing else for a while.
    CutAndWait(usize),
    /// Only so many bytes are sent, and what follows comes after them.
    CutAndGoOn(usize),
    /// It is sent twice.
    Twice,
    /// It is left out.
    LeftOut,
    /// Random bytes come before it.
    Noise(Vec<u8>),
}

impl Mutation {
    /// A random one for a PDU.
    pub(super) fn choose(pdu: &Pdu, agreed: Agreed, rng: &mut Rng) -> Self {
        let header = agreed.header && pdu.kind != Kind::IcReq;
        let data = agreed.data && pdu.bytes.len() > pdu.kind.header_len();
        let cut = rng.index(pdu.bytes.len().max(2) - 1) + 1;
        match rng.below(20) {
            0 => Self::CutAndClose(cut),
            // The target has to wait too, which takes time: rarely.
            1 if rng.one_in(4) => Self::CutAndWait(cut),
            1 | 2 => Self::CutAndGoOn(cut),
            3 => Self::Twice,
            4 => Self::LeftOut,
            5 => {
                let mut noise = vec![0; rng.index(200) + 1];
                rng.fill(&mut noise);
                Self::Noise(noise)
            }
            6 if header => Self::Digest(1),
            7 if data => Self::Digest(2),
            _ => Self::field(pdu, rng),
        }
    }

    fn field(pdu: &Pdu, rng: &mut Rng) -> Self {
        let fields: Vec<Field> =
            pdu.kind.fields().into_iter().filter(|f| f.offset + f.len <= pdu.bytes.len()).collect();
        let Field { name, offset, len } = fields[rng.index(fields.len())];
        let old = &pdu.bytes[offset..offset + len];
        let mut value = old.to_vec();
        for _ in 0..8 {
            value = other_value(old, rng);
            if value != old {
                break;
            }
        }
        Self::Field { name, offset, value }
    }

    /// In words, short, for the table of outcomes.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Field { name, .. } => name,
            Self::Digest(1) => "header digest",
            Self::Digest(_) => "data digest",
            Self::CutAndClose(_) => "cut, closed",
            Self::CutAndWait(_) => "cut, silent",
            Self::CutAndGoOn(_) => "cut, went on",
            Self::Twice => "sent twice",
            Self::LeftOut => "left out",
            Self::Noise(_) => "noise",
        }
    }
}

/// Another value of a field: the ends of its range, a neighbour, one turned bit, or anything.
fn other_value(old: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut value = old.to_vec();
    let number = old.iter().rev().take(8).fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte));
    let put = |value: &mut Vec<u8>, number: u64| {
        for (byte, new) in value.iter_mut().zip(number.to_le_bytes()) {
            *byte = new;
        }
    };
    match rng.below(8) {
        0 => value.fill(0),
        1 => value.fill(0xff),
        2 => put(&mut value, number.wrapping_add(1)),
        3 => put(&mut value, number.wrapping_sub(1)),
        4 => {
            let bit = rng.index(value.len() * 8);
            value[bit / 8] ^= 1 << (bit % 8);
        }
        5 => put(&mut value, 1 << rng.below(old.len().min(8) as u64 * 8)),
        6 => put(&mut value, number.wrapping_mul(2)),
        _ => rng.fill(&mut value),
    }
    value
}
