//! A driver's access to the bytes of an I/O.

use std::cell::RefCell;
use std::rc::Rc;

use spdk_rs_sys::cpu::CoreId;

use super::super::*;
use crate::NvmeStatus;
use crate::env::{DmaBuf, Memory};
use crate::reactor::{LocalReactor, PollMode, Reactor, ReactorConfig};

/// Bytes that a test looks at, with a prime in it so that no piece repeats another.
fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

thread_local! {
    static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Copies in and out at the place and the length of the test.
struct Copying {
    at: usize,
    len: usize,
}

impl BdevOps for Copying {
    fn io_types(&self) -> IoTypes {
        IoTypes::of(&[IoType::Read, IoType::Write])
    }

    fn create_channel(&self, _: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(Copying { at: self.at, len: self.len }))
    }
}

impl BdevChannel for Copying {
    fn submit(&mut self, mut io: BdevIo) {
        if io.kind() == IoType::Read {
            io.copy_in(self.at, &pattern(self.len));
        } else {
            let mut found = vec![0xee; self.len];
            io.copy_out(self.at, &mut found);
            WRITTEN.set(found);
        }
        io.complete(NvmeStatus::SUCCESS);
    }
}

/// The bytes of a list of pieces of 512, 1024 and 512 bytes that a driver copied to or from.
fn through(at: usize, len: usize, kind: IoType, fill: &[u8]) -> Vec<u8> {
    let config = ReactorConfig { mode: PollMode::Busy, ..ReactorConfig::new(CoreId(0)) };
    let reactor = LocalReactor::new(config, Memory::ordinary(8 << 20).unwrap()).unwrap();
    let info = BdevInfo {
        name: "copying".into(),
        aliases: Vec::new(),
        uuid: uuid::Uuid::new_v4(),
        product_name: "test".into(),
        driver_name: "copying",
        block_len: 512,
        phys_block_len: 512,
        num_blocks: 16,
        alignment: 512,
        write_cache: false,
        read_only: false,
        limits: IoLimits::default(),
    };
    let bdev = Bdev::new(info, Box::new(Copying { at, len }));
    let handle =
        BdevDesc::open(&bdev, OpenMode::ReadWrite, "test", None).unwrap().io_handle().unwrap();
    let mut rest = fill;
    let bufs: Vec<DmaBuf> = [512, 1024, 512]
        .into_iter()
        .map(|bytes| {
            let mut buf = reactor.memory().alloc(bytes).unwrap();
            let (head, tail) = rest.split_at(bytes);
            buf.as_mut_slice().copy_from_slice(head);
            rest = tail;
            buf
        })
        .collect();
    let request = IoRequest::new(kind, 0, 4, SgList::new(bufs).into());
    let done = reactor.block_on(async move { handle.submit_async(request).await });
    let IoBuf::List(list) = done.ok().unwrap() else { panic!("another kind of buffer came back") };
    list.bufs().iter().flat_map(|buf| buf.as_slice()).copied().collect()
}

#[test]
fn a_slice_is_copied_to_and_from_any_place_of_an_io_in_pieces() {
    for (at, len) in [(0, 2048), (0, 512), (512, 1024), (100, 1500), (1535, 2), (2048, 0), (7, 0)] {
        let mut expected = vec![0xaa; 2048];
        expected[at..at + len].copy_from_slice(&pattern(len));
        let found = through(at, len, IoType::Read, &[0xaa; 2048]);
        assert!(found == expected, "copy_in of {len} bytes at {at}");
        let data = pattern(2048);
        assert!(through(at, len, IoType::Write, &data) == data, "the buffers were changed");
        assert!(WRITTEN.take() == data[at..at + len], "copy_out of {len} bytes at {at}");
    }
}

#[test]
#[should_panic(expected = "2 bytes at byte 2047 of an I/O whose buffers have 2048 bytes")]
fn a_slice_beyond_the_buffers_is_refused() {
    through(2047, 2, IoType::Read, &[0; 2048]);
}
