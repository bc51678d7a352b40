//! Time, memory, and numbers of connections.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::host::{Digests, Got, Host, block, pattern};
use super::rig::Rig;
use crate::NvmeStatus;
use crate::nvme::spec::SglDescriptor;
use crate::nvmf::tcp::TcpOptions;

const PLAIN: Digests = Digests { header: false, data: false };

fn impatient() -> TcpOptions {
    let short = Duration::from_millis(40);
    TcpOptions { connect_timeout: short, close_timeout: short, ..TcpOptions::default() }
}

#[test]
fn a_connection_that_does_not_get_to_connect_is_ended() {
    let rig = Rig::new(impatient());
    let mut silent = rig.silent();
    let mut half = rig.silent();
    half.send(&[0, 0, 128, 0, 128, 0]);
    let mut greeted = Host::greeted(rig.address, PLAIN, 0);
    for host in [&mut silent, &mut half, &mut greeted] {
        assert_eq!(host.next(), Got::End);
    }
    drop((silent, half, greeted));
    rig.end();
}

#[test]
fn a_connection_that_stops_in_the_middle_is_ended_and_an_idle_one_is_not() {
    let options = TcpOptions {
        data_timeout: Duration::from_millis(60),
        close_timeout: Duration::from_millis(60),
        ..TcpOptions::default()
    };
    let rig = Rig::new(options);
    let (admin, mut idle) = rig.host(PLAIN, 32);
    // Half a header, half of in-capsule data, half of what was asked for, nothing of it.
    let stops: [fn(&mut Host); 4] = [
        |host| {
            let bytes = host.capsule(&block(2, 0, 1), &[]);
            host.send(&bytes[..30]);
        },
        |host| {
            let mut sqe = block(1, 0, 8);
            sqe.dptr = SglDescriptor::in_capsule(0, 4096);
            let bytes = host.capsule(&sqe, &pattern(4096, 0));
            host.send(&bytes[..2000]);
        },
        |host| {
            host.submit_moved(block(1, 0, 32), 16_384);
            let r2t = host.ready();
            let bytes = host.h2c(&r2t, 0, &pattern(16_384, 0), true);
            host.send(&bytes[..9000]);
        },
        |host| {
            host.submit_moved(block(1, 0, 32), 16_384);
            host.ready();
        },
    ];
    for stop in stops {
        let (_admin, mut io) = rig.host(PLAIN, 32);
        stop(&mut io);
        assert_eq!(io.next(), Got::End);
    }
    idle.check();
    drop((admin, idle));
    rig.end();
}

#[test]
fn a_host_that_does_not_read_is_ended_and_its_buffers_come_back() {
    let options = TcpOptions {
        data_timeout: Duration::from_millis(100),
        close_timeout: Duration::from_millis(50),
        zcopy: false,
        ..TcpOptions::default()
    };
    let rig = Rig::new(options);
    let (admin, mut io) = rig.host(PLAIN, 128);
    // 16 MiB of answers are more than the sockets of both sides hold.
    for _ in 0..127 {
        io.submit_moved(block(2, 0, 256), 131_072);
    }
    rig.until_connections(1);
    drop((admin, io));
    rig.end();
}

#[test]
fn writes_wait_for_memory_and_none_fails() {
    for digests in [PLAIN, Digests { header: true, data: true }] {
        // Two commands' worth of memory may wait for data; there are 40 commands.
        let options = TcpOptions { shared_buffers: 2, ..TcpOptions::default() };
        let rig = Rig::with(options, 8 << 20, 1, "127.0.0.1:0");
        let (admin, mut io) = rig.host(digests, 128);
        for at in 0..40_u64 {
            io.submit_moved(block(1, at * 200, 200), 102_400);
        }
        for _ in 0..40 {
            let r2t = loop {
                match io.next() {
                    Got::Ready(r2t) => break r2t,
                    Got::Response(cqe) => assert_eq!(cqe.status(), NvmeStatus::SUCCESS),
                    other => panic!("{other:?}"),
                }
            };
            io.give(&r2t, &pattern(102_400, usize::from(r2t.cccid)), 131_072);
        }
        drop((admin, io));
        rig.end();
    }
}

#[test]
fn memory_that_waited_for_a_lost_host_serves_the_next() {
    let options = TcpOptions { shared_buffers: 1, ..TcpOptions::default() };
    let rig = Rig::with(options, 8 << 20, 1, "127.0.0.1:0");
    for _ in 0..3 {
        let (admin, mut io) = rig.host(PLAIN, 32);
        // The first takes all there is; the others wait for it.
        for at in 0..3 {
            io.submit_moved(block(1, at * 256, 256), 131_072);
        }
        io.ready();
        drop((admin, io));
        rig.until_connections(0);
    }
    let (admin, mut io) = rig.host(PLAIN, 32);
    let data = pattern(131_072, 6);
    io.submit_moved(block(1, 0, 256), data.len());
    let r2t = io.ready();
    io.give(&r2t, &data, 131_072);
    assert_eq!(io.response().status(), NvmeStatus::SUCCESS);
    drop((admin, io));
    rig.end();
}

#[test]
fn without_any_memory_commands_wait_until_there_is_some() {
    let rig = Rig::with(TcpOptions::default(), 8 << 20, 1, "127.0.0.1:0");
    let (admin, mut io) = rig.host(PLAIN, 128);
    io.check();
    let mut all = Vec::new();
    for len in [1 << 20, 128 << 10, 4096] {
        while let Ok(buf) = rig.memory.alloc(len) {
            all.push(buf);
        }
    }
    // Some that come in the capsule, behind one that has to be asked for; what the reactor has in
    // its own cache may serve the first of them.
    let data = pattern(4096, 9);
    let moved = io.submit_moved(block(1, 0, 256), 131_072);
    for at in 0..100_u64 {
        io.submit(block(1, 1000 + at * 8, 8), &data);
    }
    drop(all);
    let (mut done, mut asked) = (0, false);
    while done < 101 {
        match io.next() {
            Got::Ready(r2t) => {
                assert_eq!(r2t.cccid, moved);
                asked = true;
                io.give(&r2t, &pattern(131_072, 4), 131_072);
            }
            Got::Response(cqe) => {
                assert_eq!(cqe.status(), NvmeStatus::SUCCESS);
                done += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(asked);
    assert!(io.read_blocks(0, 256) == pattern(131_072, 4));
    assert!(io.read_blocks(1000 + 99 * 8, 8) == data);
    drop((admin, io));
    rig.end();
}

#[test]
fn connections_that_are_dropped_leave_nothing() {
    let rig = Rig::new(TcpOptions::default());
    let (admin, mut witness) = rig.host(PLAIN, 32);
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = fds();
    let mut out = [0; crate::nvme::tcp::framing::HEADER_SPACE_BYTES];
    let len = crate::nvme::tcp::framing::Framer::ic_req(&Default::default(), &mut out);
    for at in 0..10_000_usize {
        let mut socket = TcpStream::connect(rig.address).unwrap();
        // Some say nothing, some half a greeting, some a whole one.
        let said = [0, 60, len][at % 3];
        socket.write_all(&out[..said]).unwrap();
    }
    // The last of them may still wait to be accepted.
    while rig.transport.stats().accepted < 10_002 {
        std::thread::yield_now();
    }
    rig.until_connections(2);
    witness.check();
    assert_eq!(fds(), before);
    drop((admin, witness));
    rig.end();
}

#[test]
fn connections_are_spread_over_the_reactors() {
    use crate::nvmf::tcp::shared::Shared;
    use crate::reactor::{LocalReactor, ReactorConfig};
    let memory = crate::env::Memory::ordinary(4 << 20).unwrap();
    let core = crate::env::cpu::CoreId(0);
    let reactor = LocalReactor::new(ReactorConfig::new(core), memory).unwrap();
    let shared = Shared::new(TcpOptions::default(), vec![reactor.handle(); 3]);
    let first: Vec<_> = (0..6).map(|_| shared.choose()).collect();
    let count = |index| first.iter().filter(|&&chosen| chosen == index).count();
    assert_eq!([count(0), count(1), count(2)], [2, 2, 2]);
    // Where some have left, the next ones go.
    shared.left(1);
    shared.left(1);
    assert_eq!([shared.choose(), shared.choose()], [1, 1]);
    assert_eq!((shared.stats().accepted, shared.stats().current), (8, 6));
}

#[test]
fn an_admin_queue_may_be_larger_than_the_transports_depth() {
    let rig = Rig::new(TcpOptions { queue_depth_max: 8, ..TcpOptions::default() });
    let (mut admin, cntlid) = rig.admin(PLAIN);
    // All of its 31 commands at once.
    let mut sqe = crate::nvme::spec::Sqe::new(0x06, 0);
    sqe.cdw10.set(1);
    let all: Vec<_> = (0..31).map(|_| admin.submit_moved(sqe, 4096)).collect();
    for cid in all {
        assert_eq!(admin.data(cid).len(), 4096);
    }
    let mut io = Host::greeted(rig.address, PLAIN, 0);
    let status = io.connect(1, 8, cntlid).unwrap_err();
    assert_eq!(status.bits(), 0x4182, "an I/O queue may not");
    let mut io = Host::greeted(rig.address, PLAIN, 0);
    io.connect(1, 7, cntlid).ok().unwrap();
    io.check();
    drop((admin, io));
    rig.end();
}
