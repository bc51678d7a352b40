use super::*;

/// Bytes without a pattern (xorshift64), different for every seed.
fn random_bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed.wrapping_mul(0xd134_2543_de82_ef95);
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[7]
        })
        .collect()
}

fn reference(blocks: &[&[u8]]) -> Vec<[u8; 32]> {
    blocks.iter().map(|block| Sha256::digest(block).into()).collect()
}

fn available() -> impl Iterator<Item = Sha256Impl> {
    Sha256Impl::ALL.into_iter().filter(|with| with.available())
}

fn with(with: Sha256Impl, blocks: &[&[u8]]) -> Vec<[u8; 32]> {
    let mut out = vec![[0xee; 32]; blocks.len()];
    sha256_blocks_with(with, blocks, &mut out).unwrap();
    out
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_variant_agrees_with_the_reference_for_every_count() {
    for length in [0, 64, 512, 4096] {
        let memory = random_bytes(length * 40, length as u64);
        for count in 0..=40 {
            let blocks: Vec<&[u8]> = (0..count).map(|n| &memory[n * length..][..length]).collect();
            let expected = reference(&blocks);
            for variant in available() {
                assert_eq!(
                    with(variant, &blocks),
                    expected,
                    "{variant}, {count} of {length} bytes"
                );
            }
            let mut out = vec![[0xee; 32]; count];
            sha256_blocks(&blocks, &mut out);
            assert_eq!(out, expected, "by choice, {count} of {length} bytes");
        }
    }
}

#[test]
fn blocks_may_start_at_any_address() {
    const LENGTH: usize = 512;
    let memory = random_bytes(40 * (LENGTH + 65), 1);
    for shift in 0..64 {
        // The distance is odd, so that the lanes are differently aligned too.
        let blocks: Vec<&[u8]> =
            (0..33).map(|n| &memory[shift + n * (LENGTH + 1)..][..LENGTH]).collect();
        let expected = reference(&blocks);
        for variant in available() {
            assert_eq!(with(variant, &blocks), expected, "{variant}, shifted by {shift}");
        }
    }
}

#[test]
fn a_changed_bit_changes_the_digest_of_its_block_only() {
    const LENGTH: usize = 128;
    let original = random_bytes(LENGTH * 35, 2);
    let split = |memory: &'_ [u8]| memory.chunks(LENGTH).map(<[u8]>::to_vec).collect::<Vec<_>>();
    for variant in available() {
        let blocks = split(&original);
        let before = with(variant, &blocks.iter().map(Vec::as_slice).collect::<Vec<_>>());
        for changed in 0..blocks.len() {
            let mut blocks = split(&original);
            let at = changed * 37 % LENGTH;
            blocks[changed][at] ^= 1 << (changed % 8);
            let after = with(variant, &blocks.iter().map(Vec::as_slice).collect::<Vec<_>>());
            for (index, (old, new)) in before.iter().zip(&after).enumerate() {
                assert_eq!(
                    old == new,
                    index != changed,
                    "{variant}, bit in {changed}, block {index}"
                );
            }
        }
    }
}

#[test]
fn the_vectors_of_nist_hold() {
    // Those of NIST's examples for SHA-256 (FIPS 180-4 and its supplement) that fill whole chunks.
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let million_a = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    let zeroes_64 = "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b";
    let million_zeroes = "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025";
    for (message, expected) in [
        (vec![], empty),
        (vec![0; 64], zeroes_64),
        (vec![b'a'; 1_000_000], million_a),
        (vec![0; 1_000_000], million_zeroes),
    ] {
        assert_eq!(hex(&sha256(&message)), expected);
        for variant in available() {
            for count in [1, 2, 3, 16, 17] {
                for digest in with(variant, &vec![message.as_slice(); count]) {
                    assert_eq!(hex(&digest), expected, "{variant}, {} bytes", message.len());
                }
            }
        }
    }
    // Messages that end within a chunk are for the function that takes one of any length.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(hex(&sha256(b"abc")), abc);
    let two_chunks = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
    let message = b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    assert_eq!(hex(&sha256(message)), two_chunks);
}

#[test]
fn what_cannot_be_digested_is_told() {
    let memory = [0; 200];
    let mut out = [[0xee; 32]; 2];
    let mut attempt = |blocks: &[&[u8]]| sha256_blocks_with(Sha256Impl::Portable, blocks, &mut out);
    let count = Sha256Error::Count { blocks: 3, digests: 2 };
    assert_eq!(attempt(&[&memory[..64]; 3]), Err(count));
    let unequal = Sha256Error::Unequal { index: 1, length: 128, expected: 64 };
    assert_eq!(attempt(&[&memory[..64], &memory[..128]]), Err(unequal));
    assert_eq!(attempt(&[&memory[..100]; 2]), Err(Sha256Error::Length { length: 100 }));
    assert_eq!(out, [[0xee; 32]; 2], "nothing is written");
    for variant in Sha256Impl::ALL.into_iter().filter(|variant| !variant.available()) {
        let refused = sha256_blocks_with(variant, &[&memory[..64]; 2], &mut out);
        assert_eq!(refused, Err(Sha256Error::Unavailable(variant)));
    }
    assert!(Sha256Impl::Portable.available());
}

#[test]
#[should_panic(expected = "block 1 has 128 bytes, but block 0 has 64")]
fn unequal_blocks_panic_where_no_error_is_returned() {
    let memory = [0; 128];
    sha256_blocks(&[&memory[..64], &memory], &mut [[0; 32]; 2]);
}

#[test]
fn the_choice_follows_the_processor_and_the_number() {
    use Sha256Impl::{Avx2, Avx512, Portable, ShaNi2};
    let features = |avx512, avx2, sha_ni| Features { avx512, avx2, sha_ni };
    let everything = features(true, true, true);
    let vectors_only = features(true, true, false);
    let old = features(false, true, false);
    for (features, count, expected) in [
        (everything, 1, (ShaNi2, 1)),
        (everything, 9, (ShaNi2, 9)),
        (everything, 10, (Avx512, 10)),
        (everything, 16, (Avx512, 16)),
        (everything, 25, (Avx512, 16)),
        (everything, 26, (Avx512, 26)),
        (everything, 64, (Avx512, 64)),
        (vectors_only, 1, (Portable, 1)),
        (vectors_only, 2, (Avx512, 2)),
        (vectors_only, 17, (Avx512, 16)),
        (features(false, true, true), 40, (ShaNi2, 40)),
        (old, 2, (Portable, 2)),
        (old, 3, (Avx2, 3)),
        (old, 10, (Avx2, 8)),
        (old, 11, (Avx2, 11)),
        (Features::default(), 40, (Portable, 40)),
    ] {
        assert_eq!(features.choose(count), expected, "{features:?}, {count}");
    }
}
