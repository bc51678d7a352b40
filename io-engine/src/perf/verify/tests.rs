//! Every kind of damage, made on purpose, is found and named.

use proptest::prelude::*;

use super::*;

const LBA: u64 = 17;
const GENERATION: u64 = 4;
const SEED: u64 = 99;

/// An I/O of three 4 KiB blocks at block 17.
fn written(generation: u64) -> (Verifier, Vec<u8>) {
    let verifier = Verifier::new(4096, SEED).expect("a multiple of 512");
    let mut buf = vec![0; 3 * 4096];
    verifier.fill(&mut buf, LBA, generation);
    (verifier, buf)
}

fn mismatch(damage: impl FnOnce(&Verifier, &mut Vec<u8>)) -> Mismatch {
    let (verifier, mut buf) = written(GENERATION);
    damage(&verifier, &mut buf);
    verifier.check(&buf, LBA, GENERATION).expect_err("the damage is found")
}

#[test]
fn what_is_written_is_found() {
    for (block_len, blocks) in [(512, 1), (512, 9), (4096, 1), (4096, 32), (1536, 2)] {
        let verifier = Verifier::new(block_len, SEED).expect("a multiple of 512");
        let mut buf = vec![0; block_len as usize * blocks];
        verifier.fill(&mut buf, LBA, GENERATION);
        assert_eq!(verifier.check(&buf, LBA, GENERATION), Ok(()));
    }
    for block_len in [0, 100, 520, 4104] {
        assert!(Verifier::new(block_len, SEED).is_err(), "{block_len}");
    }
}

#[test]
fn no_two_sectors_are_alike() {
    let (_, buf) = written(GENERATION);
    let (_, older) = written(GENERATION - 1);
    let sectors: std::collections::HashSet<&[u8]> =
        buf.chunks(SECTOR_LEN).chain(older.chunks(SECTOR_LEN)).collect();
    assert_eq!(sectors.len(), 48);
}

#[test]
fn misdirected() {
    let found = mismatch(|verifier, buf| verifier.fill(&mut buf[4096..8192], 1000, 2));
    let kind = MismatchKind::Misdirected { lba: 1000, offset: 0, generation: 2 };
    assert_eq!((found.kind, found.lba, found.offset), (kind, LBA + 1, 8));
    assert!(found.to_string().contains("misdirected: it holds the data of block 1000"), "{found}");

    let within = mismatch(|_, buf| buf.copy_within(512..1024, 0));
    let kind = MismatchKind::Misdirected { lba: LBA, offset: 512, generation: GENERATION };
    assert_eq!(within.kind, kind);
}

#[test]
fn stale_and_torn() {
    let stale = mismatch(|_, buf| *buf = written(3).1);
    assert_eq!((stale.kind, stale.lba), (MismatchKind::Stale { generation: 3 }, LBA));
    assert!(stale.to_string().contains("generation 3 is there, 4 was written"), "{stale}");

    let torn = mismatch(|_, buf| {
        let len = buf.len();
        buf[len - 512..].copy_from_slice(&written(2).1[len - 512..]);
    });
    let kind = MismatchKind::Torn { generation: 2, good_sectors: 23, sectors: 24 };
    assert_eq!((torn.kind, torn.lba, torn.offset), (kind, LBA + 2, 4096 - 512 + 16));
    assert!(torn.to_string().contains("arrived in 23 of 24 sectors"), "{torn}");

    let newer = mismatch(|_, buf| *buf = written(5).1);
    assert_eq!(newer.kind, MismatchKind::Newer { generation: 5 });
}

#[test]
fn foreign_empty_and_corrupt() {
    let foreign = mismatch(|_, buf| {
        let other = Verifier::new(4096, 7).expect("a multiple of 512");
        other.fill(buf, LBA, GENERATION);
    });
    assert_eq!(foreign.kind, MismatchKind::OtherRun { seed: 7, lba: LBA });

    let zeroes = mismatch(|_, buf| buf[512..1024].fill(0));
    assert_eq!((zeroes.kind, zeroes.offset), (MismatchKind::Zeroes, 512));

    let corrupt = mismatch(|_, buf| buf[4096 + 600] ^= 0x30);
    let kind = MismatchKind::Corrupt { bits: 2 };
    assert_eq!((corrupt.kind, corrupt.lba, corrupt.offset), (kind, LBA + 1, 600));
    assert_eq!(corrupt.expected ^ corrupt.found, 0x30);

    // A sector torn in its middle belongs to no generation.
    let half = mismatch(|_, buf| buf[..256].copy_from_slice(&written(3).1[..256]));
    assert!(matches!(half.kind, MismatchKind::Corrupt { .. }), "{half}");
}

proptest! {
    #[test]
    fn any_flipped_bit_is_found_where_it_is(at in 0_usize..3 * 4096, bit in 0_u32..8) {
        let found = mismatch(|_, buf| buf[at] ^= 1 << bit);
        prop_assert_eq!(found.kind, MismatchKind::Corrupt { bits: 1 });
        prop_assert_eq!(found.lba, LBA + (at / 4096) as u64);
        prop_assert_eq!(found.offset, at % 4096 / 8 * 8);
    }

    #[test]
    fn any_other_place_generation_or_seed_is_found(lba: u64, generation: u64, seed: u64) {
        prop_assume!((lba, generation, seed) != (LBA, GENERATION, SEED));
        let (_, buf) = written(GENERATION);
        let other = Verifier::new(4096, seed).expect("a multiple of 512");
        prop_assert!(other.check(&buf, lba, generation).is_err());
    }
}
