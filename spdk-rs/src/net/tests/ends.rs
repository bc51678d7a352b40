//! Reactors that end with sockets open, and sockets by the thousand.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::*;

#[test]
fn a_reactor_that_ends_closes_its_sockets() {
    for ring in [true, false] {
        let before = descriptors();
        let Some(reactor) = reactor_with(ring) else { continue };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let connect_one = || {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            (Socket::from_std(near).unwrap(), listener.accept().unwrap().0)
        };
        let payload = vec![1; 4 << 20];
        let (mut probes, mut peers) = (Vec::new(), Vec::new());
        for number in 0..8 {
            let (socket, peer) = connect_one();
            let probe = Probe::new(64).open(&reactor, socket);
            if number % 2 == 0 {
                let piece = IoVec::new(payload.as_ptr().cast_mut(), payload.len());
                // SAFETY: the payload outlives the reactor.
                unsafe { probe.stream().send_gather(b"x", &[piece], b"", Some(1)) }.unwrap();
            }
            if number % 4 == 0 {
                probe.stream().shutdown(Duration::from_secs(60));
            }
            probes.push(probe);
            peers.push(peer);
        }
        let here = Rc::new(());
        let held = Rc::clone(&here);
        let on_accept = Box::new(move |_, _| drop(Rc::clone(&held)));
        let any = "127.0.0.1:0".parse().unwrap();
        let options = ListenOptions::default();
        let callback = Listener::bind(&reactor, any, &options, on_accept).unwrap();
        some_turns(&reactor);
        // An end with a stream that was not turned since.
        let (socket, peer) = connect_one();
        probes.push(Probe::new(64).open(&reactor, socket));
        peers.push(peer);
        drop(reactor);
        for probe in &probes {
            assert_eq!(*probe.closed.borrow(), [CloseReason::ReactorEnded]);
            assert_eq!(Rc::strong_count(probe), 1, "the stream let go of its handler");
        }
        assert_eq!(Rc::strong_count(&here), 1, "the listener let go of its callback");
        drop((probes, peers, listener, callback));
        assert_eq!(descriptors(), before);
    }
}

#[test]
fn an_ending_reactor_takes_no_more_sockets() {
    for ring in [true, false] {
        let Some(reactor) = reactor_with(ring) else { continue };
        let (near, far) = pair(&reactor, SocketOptions::default());
        let refused = Rc::new(RefCell::new(Vec::new()));
        let (errors, inner, far) =
            (Rc::clone(&refused), Rc::downgrade(&reactor), RefCell::new(Some(far)));
        let on_closed: Hook = Box::new(move |_| {
            let (Some(reactor), Some(far)) = (inner.upgrade(), far.take()) else { return };
            let handler: Rc<dyn StreamHandler> = Rc::new(Probe::new(1));
            let options = StreamOptions::default();
            let opened = Stream::open(&reactor, far, &options, handler);
            errors.borrow_mut().extend(opened.err().map(|error| error.to_string()));
        });
        let probe = Probe { on_closed, ..Probe::new(8) }.open(&reactor, near);
        drop(reactor);
        assert!(probe.is_closed());
        assert_eq!(*refused.borrow(), ["the reactor is ending"]);
    }
}

#[test]
fn thousands_of_connections_leave_nothing_behind() {
    const AT_ONCE: usize = 100;
    with_both(|reactor| {
        let accepted = Rc::new(RefCell::new(Vec::new()));
        let (place, inner) = (Rc::clone(&accepted), Rc::downgrade(reactor));
        let on_accept = Box::new(move |socket, _| {
            if let Some(reactor) = inner.upgrade() {
                place.borrow_mut().push(Probe::new(64).open(&reactor, socket));
            }
        });
        let any = "127.0.0.1:0".parse().unwrap();
        let options = ListenOptions::default();
        let listener = Listener::bind(reactor, any, &options, on_accept).unwrap();
        some_turns(reactor);
        let before = descriptors();
        for round in 0..20 {
            let mut peers = Vec::new();
            for number in 0..AT_ONCE {
                let mut peer = TcpStream::connect(listener.local_addr()).unwrap();
                if number % 3 == 0 {
                    peer.write_all(b"hello").unwrap();
                }
                peers.push(peer);
            }
            until(reactor, "all are accepted", || accepted.borrow().len() == AT_ONCE);
            assert_eq!(live_sockets(reactor), AT_ONCE + 1);
            for (number, probe) in accepted.borrow().iter().enumerate() {
                match (number + round) % 4 {
                    0 => probe.stream().abort(),
                    1 => probe.stream().send(b"bye", Some(1)).unwrap(),
                    2 => probe.stream().shutdown(Duration::from_secs(60)),
                    _ => {}
                }
            }
            drop(peers);
            until(reactor, "all are gone", || live_sockets(reactor) == 1);
            let probes = accepted.take();
            assert!(probes.iter().all(|probe| probe.closed.borrow().len() == 1));
            assert!(probes.iter().all(|probe| Rc::strong_count(probe) == 1));
        }
        assert_eq!(descriptors(), before);
        listener.close();
        until(reactor, "the listener is gone", || live_sockets(reactor) == 0);
        until(reactor, "no task is left", || reactor.live_tasks() == 0);
        assert_eq!(descriptors(), before - 1);
    });
}
