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
    // FIPS 180-4 examples and the byte-oriented SHAVS vectors whose length fills whole chunks.
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let million_a = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    let zeroes_64 = "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b";
    for (message, expected) in
        [(vec![], empty), (vec![b'a'; 1_000_000], million_a), (vec![0; 64], zeroes_64)]
    {
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
