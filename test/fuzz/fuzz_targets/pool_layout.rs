//! What is on a pool's medium: superblocks, volume records, journal records, nodes. Nothing panics,
//! and what parses is written back as it was read. Digests are made right first, since no input
//! would get past them.
#![no_main]

use io_engine::pool::digest::{DigestKind, digest};
use io_engine::pool::layout::{
    BLOCK_BYTES, Entry, HEADER_BYTES, Node, RecordHeader, Superblock, VolumeRecord, encode,
    entries, parse_record,
};
use libfuzzer_sys::fuzz_target;
use zerocopy::IntoBytes as _;

const KIND: DigestKind = DigestKind::Crc32c;

fuzz_target!(|input: (u8, &[u8])| {
    let (which, bytes) = input;
    match which % 4 {
        0 => superblock(bytes),
        1 => volume(bytes),
        2 => record(bytes),
        _ => node(bytes),
    }
});

fn padded(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut block = bytes.to_vec();
    block.resize(len, 0);
    block
}

fn superblock(bytes: &[u8]) {
    let mut block = padded(bytes, BLOCK_BYTES);
    block[..8].copy_from_slice(b"IOEPOOL\n");
    let end = BLOCK_BYTES - 32;
    let own = digest(DigestKind::Sha256, &block[..end]);
    block[end..].copy_from_slice(&own);
    if let Ok(found) = Superblock::parse(&block) {
        assert_eq!(Superblock::parse(&found.encode()), Ok(found));
    }
}

fn volume(bytes: &[u8]) {
    let mut block = padded(bytes, BLOCK_BYTES);
    block[..8].copy_from_slice(b"IOEVOL1\n");
    if let Some(found) = VolumeRecord::parse(&block) {
        assert_eq!(VolumeRecord::parse(&found.encode()), Some(found));
    }
}

fn record(bytes: &[u8]) {
    let mut block = padded(bytes, bytes.len().next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES));
    block[..8].copy_from_slice(b"IOEJRNL\n");
    let Ok(header) = RecordHeader::parse(&block) else { return };
    let length = header.length as usize;
    if length > block.len() {
        assert!(parse_record(KIND, &block).is_err());
        return;
    }
    let own = digest(KIND, &block[40..length]);
    block[8..40].copy_from_slice(&own);
    assert_eq!(parse_record(KIND, &block), Ok(header.clone()));
    let Some(found) = entries(&header, &block) else { return };
    let mut again = vec![0; HEADER_BYTES];
    found.iter().for_each(|entry: &Entry| entry.encode(&mut again));
    assert_eq!(again.len(), length, "an entry is as long as it was");
    again.resize(again.len().next_multiple_of(BLOCK_BYTES), 0);
    encode(&header, KIND, &mut again);
    assert_eq!(parse_record(KIND, &again), Ok(header.clone()));
    assert_eq!(entries(&header, &again), Some(found));
}

fn node(bytes: &[u8]) {
    let block = padded(bytes, BLOCK_BYTES);
    let node = Node::parse(&block).expect("every block is a node");
    assert_eq!(node.as_bytes(), block);
    for ptr in &node.ptrs {
        let _ = (ptr.kind(), ptr.address(), ptr.birth(), ptr.aux(), ptr.level(), ptr.is_hole());
    }
}
