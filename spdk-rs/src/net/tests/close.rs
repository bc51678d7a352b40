//! Streams end in every phase, once, and with the right reason.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Weak;
use std::time::Duration;

use nix::libc;

use super::*;

/// A stream to a peer that the test plays itself, with blocking calls.
fn with_peer(
    reactor: &Rc<Reactor>,
    options: SocketOptions,
    probe: Probe,
) -> (Rc<Probe>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket = Socket::from_std(near).unwrap();
    socket.set(&options).unwrap();
    (probe.open(reactor, socket), listener.accept().unwrap().0)
}

/// Ends the peer's side with a reset instead of an end of the stream.
fn reset(peer: TcpStream) {
    use std::os::fd::AsFd;
    spdk_rs_sys::socket::reset_on_close(peer.as_fd()).unwrap();
}

fn why(reactor: &Rc<Reactor>, probe: &Probe) -> CloseReason {
    until(reactor, "the stream is closed", || probe.is_closed());
    some_turns(reactor);
    assert_eq!(probe.closed.borrow().len(), 1, "closed exactly once");
    assert_eq!(live_sockets(reactor), 0);
    assert!(!probe.stream().is_open());
    probe.closed.borrow()[0]
}

/// Queues so much that the kernel cannot take all of it, and waits until it is full.
fn fill_up(reactor: &Rc<Reactor>, probe: &Probe, payload: &[u8]) {
    let piece = IoVec::new(payload.as_ptr().cast_mut(), payload.len());
    // SAFETY: the payload outlives the stream in all tests.
    unsafe { probe.stream().send_gather(b"head", &[piece], b"", Some(1)) }.unwrap();
    some_turns(reactor);
    assert!(probe.sent.borrow().is_empty());
}

#[test]
fn an_unused_stream_ends_in_every_way() {
    with_both(|reactor| {
        let open = || with_peer(reactor, SocketOptions::default(), Probe::new(64));
        // Before the first turn.
        let (probe, mut peer) = open();
        probe.stream().abort();
        assert!(!probe.is_closed(), "no callback from inside a call");
        assert_eq!(why(reactor, &probe), CloseReason::Aborted);
        assert_eq!(peer.read(&mut [0]).unwrap_or(0), 0);
        // While it waits for bytes.
        let (probe, _peer) = open();
        some_turns(reactor);
        probe.stream().abort();
        assert_eq!(why(reactor, &probe), CloseReason::Aborted);
        // The peer ends.
        let (probe, peer) = open();
        drop(peer);
        assert_eq!(why(reactor, &probe), CloseReason::PeerClosed);
        let (probe, peer) = open();
        some_turns(reactor);
        reset(peer);
        assert_eq!(why(reactor, &probe), CloseReason::Reset { errno: libc::ECONNRESET });
        // An order that the peer follows, given twice.
        let (probe, mut peer) = open();
        probe.stream().shutdown(Duration::from_secs(60));
        probe.stream().shutdown(Duration::ZERO);
        let peer = std::thread::spawn(move || {
            peer.write_all(&[1; 100_000]).unwrap();
            peer.read(&mut [0]).unwrap()
        });
        assert_eq!(why(reactor, &probe), CloseReason::Ended);
        assert_eq!(peer.join().unwrap(), 0);
        assert!(probe.read.borrow().is_empty(), "nothing is delivered after the order");
    });
}

#[test]
fn a_stream_with_unsent_bytes_ends_in_every_way() {
    let payload = vec![5; 1 << 20];
    with_both(|reactor| {
        let open = || {
            let (probe, peer) = with_peer(reactor, tiny(), Probe::new(64));
            fill_up(reactor, &probe, &payload);
            (probe, peer)
        };
        let (probe, peer) = open();
        probe.stream().abort();
        assert_eq!(why(reactor, &probe), CloseReason::Aborted);
        drop(peer);
        let (probe, peer) = open();
        reset(peer);
        assert!(matches!(why(reactor, &probe), CloseReason::Reset { .. }));
        assert!(probe.sent.borrow().is_empty());
        // The peer closes with bytes unread, which is a reset.
        let (probe, peer) = open();
        drop(peer);
        assert!(matches!(why(reactor, &probe), CloseReason::Reset { .. }));
        let (probe, peer) = open();
        probe.stream().shutdown(Duration::from_millis(10));
        assert_eq!(why(reactor, &probe), CloseReason::TimeLimit);
        drop(peer);
        // In order, while the peer reads.
        let (probe, mut peer) = open();
        probe.stream().shutdown(Duration::from_secs(60));
        let peer = std::thread::spawn(move || {
            let mut all = Vec::new();
            peer.read_to_end(&mut all).unwrap();
            all.len()
        });
        assert_eq!(why(reactor, &probe), CloseReason::Ended);
        assert_eq!(peer.join().unwrap(), 4 + payload.len());
        assert_eq!(*probe.sent.borrow(), [1]);
    });
}

#[test]
fn handlers_may_end_their_stream_from_any_callback() {
    with_both(|reactor| {
        for from in ["received", "sent", "closed"] {
            let act: fn(&Probe) = |probe| {
                probe.stream().abort();
                probe.stream().shutdown(Duration::ZERO);
                probe.stream().send(b"late", Some(9)).unwrap();
                probe.stream().resume_reading();
            };
            let mut probe = Probe::new(64);
            match from {
                "received" => probe.on_received = Box::new(act),
                "sent" => probe.on_sent = Box::new(act),
                _ => probe.on_closed = Box::new(act),
            }
            let (probe, mut peer) = with_peer(reactor, SocketOptions::default(), probe);
            probe.stream().send(b"hello", Some(1)).unwrap();
            peer.write_all(b"hello").unwrap();
            until(reactor, "the hello has left", || {
                !probe.sent.borrow().is_empty() || probe.is_closed()
            });
            drop(peer);
            let reason = why(reactor, &probe);
            assert_eq!(reason == CloseReason::Aborted, from != "closed", "{from}: {reason:?}");
            assert!(!probe.sent.borrow().contains(&9));
        }
    });
}

/// A handler whose memory the kernel reads, and that notes when it is freed.
#[test]
fn memory_stays_until_the_kernel_is_done_with_it() {
    with_both(|reactor| {
        struct Owner(Box<[u8]>, Rc<Cell<bool>>);
        impl Drop for Owner {
            fn drop(&mut self) {
                self.0.fill(0xEE);
                self.1.set(true);
            }
        }
        let freed = Rc::new(Cell::new(false));
        let owner = Owner(vec![5; 1 << 20].into_boxed_slice(), Rc::clone(&freed));
        let piece = IoVec::new(owner.0.as_ptr().cast_mut(), owner.0.len());
        let probe = Probe {
            on_closed: Box::new(move |_| {
                let _kept = &owner;
            }),
            ..Probe::new(64)
        };
        let (probe, mut peer) = with_peer(reactor, tiny(), probe);
        // SAFETY: the handler owns the memory.
        unsafe { probe.stream().send_gather(b"", &[piece], b"", None) }.unwrap();
        some_turns(reactor);
        let alive: Weak<Probe> = Rc::downgrade(&probe);
        drop(probe);
        // Nobody but the stream holds the handler now.
        let got = std::thread::spawn(move || {
            let mut all = vec![0; 1 << 20];
            peer.read_exact(&mut all).unwrap();
            (all.iter().all(|&byte| byte == 5), peer)
        });
        until(reactor, "the peer has read", || got.is_finished());
        assert!(!freed.get() && alive.strong_count() > 0);
        let (whole, peer) = got.join().unwrap();
        assert!(whole);
        reset(peer);
        until(reactor, "the stream is closed", || live_sockets(reactor) == 0);
        // The probe holds its stream, which lets go of the probe.
        assert!(freed.get() && alive.strong_count() == 0);
    });
}

#[test]
fn a_paused_stream_delivers_nothing_more() {
    with_both(|reactor| {
        let probe = Probe {
            on_received: Box::new(|probe| {
                probe.take_all();
                probe.stream().pause_reading();
            }),
            ..Probe::new(8)
        };
        let (probe, mut peer) = with_peer(reactor, SocketOptions::default(), probe);
        peer.write_all(&[1; 20]).unwrap();
        for bytes in [8, 16, 20] {
            until(reactor, "a part was read", || probe.read.borrow().len() == bytes);
            some_turns(reactor);
            assert_eq!(probe.read.borrow().len(), bytes);
            probe.stream().resume_reading();
        }
        drop(peer);
        assert_eq!(why(reactor, &probe), CloseReason::PeerClosed);
    });
}

#[test]
fn a_full_buffer_stops_reading_until_there_is_room() {
    with_both(|reactor| {
        let probe = Probe { on_received: Box::new(|_| ()), ..Probe::new(8) };
        let (probe, mut peer) = with_peer(reactor, SocketOptions::default(), probe);
        peer.write_all(b"abcdefghijkl").unwrap();
        until(reactor, "the buffer is full", || probe.buffer.len() == 8);
        some_turns(reactor);
        // A view keeps the bytes in place, so that there is no room in front of them.
        let view = probe.buffer.data();
        probe.buffer.consume(3);
        probe.stream().resume_reading();
        some_turns(reactor);
        assert_eq!((&view[..], probe.buffer.len()), (&b"abcdefgh"[..], 5));
        drop(view);
        probe.stream().resume_reading();
        until(reactor, "there is more", || probe.buffer.len() == 8);
        assert_eq!(&probe.buffer.data()[..], b"defghijk");
        probe.stream().abort();
        assert_eq!(why(reactor, &probe), CloseReason::Aborted);
    });
}

#[test]
fn a_full_queue_refuses_as_a_whole_and_tells_when_there_is_room() {
    with_both(|reactor| {
        let (probe, mut peer) = with_peer(reactor, SocketOptions::default(), Probe::new(8));
        let big = vec![1; 33_000];
        assert_eq!(probe.stream().send(&big, Some(1)), Err(SendFull));
        assert_eq!(probe.stream().queued_bytes(), 0);
        probe.stream().send(&big[..32_768], Some(2)).unwrap();
        assert!(!probe.stream().has_room(1, 0));
        until(reactor, "it has left", || *probe.sent.borrow() == [2]);
        until(reactor, "room is told", || probe.rooms.get() == 1);
        assert!(probe.stream().has_room(32_768, 0));
        let mut all = vec![0; 32_768];
        peer.read_exact(&mut all).unwrap();
        drop(peer);
        assert_eq!(why(reactor, &probe), CloseReason::PeerClosed);
    });
}

#[test]
fn an_orderly_end_is_bounded_in_virtual_time() {
    with_both_virtual(|reactor, _| {
        // The peer neither reads nor closes.
        let (probe, _peer) = with_peer(reactor, SocketOptions::default(), Probe::new(8));
        probe.stream().send(b"bye", Some(1)).unwrap();
        probe.stream().shutdown(Duration::from_secs(3600));
        until(reactor, "the stream is closed", || probe.is_closed());
        assert_eq!(*probe.closed.borrow(), [CloseReason::TimeLimit]);
        assert_eq!(*probe.sent.borrow(), [1]);
    });
}

#[test]
fn an_end_right_behind_the_last_bytes_is_seen() {
    with_both(|reactor| {
        let (probe, mut peer) = with_peer(reactor, SocketOptions::default(), Probe::new(64));
        peer.write_all(b"last words").unwrap();
        drop(peer);
        assert_eq!(why(reactor, &probe), CloseReason::PeerClosed);
        assert_eq!(*probe.read.borrow(), b"last words");
    });
}

#[test]
fn a_buffer_serves_one_stream_at_a_time() {
    with_both(|reactor| {
        let (first, mut peer) = with_peer(reactor, SocketOptions::default(), Probe::new(64));
        some_turns(reactor);
        let probe = Probe { buffer: first.buffer.clone(), ..Probe::new(1) };
        let (second, mut other) = with_peer(reactor, SocketOptions::default(), probe);
        if reactor.ring().is_some() {
            // The first one's receive holds it.
            other.write_all(b"other").unwrap();
            some_turns(reactor);
            assert!(second.read.borrow().is_empty());
        }
        peer.write_all(b"one").unwrap();
        until(reactor, "the first has read", || *first.read.borrow() == b"one");
        second.stream().abort();
        until(reactor, "the second is closed", || second.is_closed());
        first.stream().abort();
        assert_eq!(why(reactor, &first), CloseReason::Aborted);
    });
}
