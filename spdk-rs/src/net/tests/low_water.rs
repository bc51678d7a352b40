//! Receives that wait for many bytes.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use spdk_rs_sys::socket::{self, SocketOption};

use super::*;
use crate::net::core::Net;

const MANY: usize = 50_000;

fn mark_of(fd: &OwnedFd) -> usize {
    let mark = socket::option(fd.as_fd(), SocketOption::ReceiveLowWaterBytes).unwrap();
    usize::try_from(mark).unwrap()
}

#[test]
fn a_receive_waits_for_many_bytes_but_not_for_ever() {
    with_both(|reactor| {
        let (near, far) = pair(reactor, SocketOptions::default());
        // The same socket by another descriptor, to look at its mark.
        let fd = far.as_fd().try_clone_to_owned().unwrap();
        let near = Probe::new(1000).open(reactor, near);
        let patient = Probe { waits_for: Cell::new(MANY), ..Probe::new(1 << 20) };
        let far = patient.open(reactor, far);
        let highest = Cell::new(0);
        let arrived = |bytes: usize| {
            highest.set(highest.get().max(mark_of(&fd)));
            far.read.borrow().len() == bytes
        };
        // Fewer than are waited for come all the same.
        near.stream().send(&[1; 1000], None).unwrap();
        until(reactor, "few bytes arrive", || arrived(1000));
        if Net::of(reactor).unwrap().sets_options() && reactor.ring().is_some() {
            assert_eq!(highest.get(), MANY);
        } else {
            println!("the kernel sets no mark here");
            assert_eq!(highest.get(), 1);
        }
        for _ in 0..10 {
            near.stream().send(&[2; 20_000], None).unwrap();
            until(reactor, "it has left", || near.stream().queued_bytes() == 0);
        }
        until(reactor, "many bytes arrive", || arrived(201_000));
        // A receive that waits for any byte lowers the mark.
        far.waits_for.set(0);
        near.stream().send(&[3; 10], None).unwrap();
        until(reactor, "the last bytes arrive", || arrived(201_010));
        until(reactor, "the mark is lowered", || mark_of(&fd) == 1);
    });
}

#[test]
fn the_end_of_the_stream_is_not_waited_for() {
    with_both(|reactor| {
        let (near, far) = pair(reactor, SocketOptions::default());
        let near = Probe::new(1000).open(reactor, near);
        let patient = Probe { waits_for: Cell::new(MANY), ..Probe::new(1 << 20) };
        let far = patient.open(reactor, far);
        some_turns(reactor);
        near.stream().shutdown(Duration::from_secs(10));
        until(reactor, "both have ended", || live_sockets(reactor) == 0);
        assert_eq!(*far.closed.borrow(), [CloseReason::PeerClosed]);
        assert_eq!(*near.closed.borrow(), [CloseReason::Ended]);
    });
}
