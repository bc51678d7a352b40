//! Listeners and connecting.

use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use spdk_rs_sys::socket::{self, SocketOption};

use super::*;

type Accepted = Rc<RefCell<Vec<(Socket, SocketAddr)>>>;

fn listen(reactor: &Rc<Reactor>, addr: &str) -> Result<(Rc<Listener>, Accepted), NetError> {
    let accepted = Accepted::default();
    let place = Rc::clone(&accepted);
    let on_accept = Box::new(move |socket, peer| place.borrow_mut().push((socket, peer)));
    let addr = addr.parse().unwrap();
    let listener = Listener::bind(reactor, addr, &ListenOptions::default(), on_accept)?;
    Ok((listener, accepted))
}

fn connect_on(
    reactor: &Rc<Reactor>,
    to: SocketAddr,
    options: ConnectOptions,
) -> Result<Socket, NetError> {
    let inner = Rc::clone(reactor);
    reactor.block_on(async move { connect(&inner, to, &options).await })
}

#[test]
fn both_families_listen_on_the_same_port() {
    with_both(|reactor| {
        let (four, accepted_four) = listen(reactor, "0.0.0.0:0").unwrap();
        let port = four.local_addr().port();
        let (six, accepted_six) = match listen(reactor, &format!("[::]:{port}")) {
            Err(error) if error.errno() == Some(libc::EAFNOSUPPORT) => {
                return println!("skipped: {error}");
            }
            answer => answer.unwrap(),
        };
        let (a, b) = (TcpStream::connect(("127.0.0.1", port)), TcpStream::connect(("::1", port)));
        until(reactor, "both are accepted", || {
            accepted_four.borrow().len() == 1 && accepted_six.borrow().len() == 1
        });
        let peer = accepted_four.borrow()[0].1;
        assert_eq!((peer.is_ipv4(), peer), (true, a.unwrap().local_addr().unwrap()));
        let peer = accepted_six.borrow()[0].1;
        assert_eq!((peer.is_ipv6(), peer), (true, b.unwrap().local_addr().unwrap()));
        four.close();
        six.close();
        until(reactor, "they are gone", || live_sockets(reactor) == 0);
    });
}

#[test]
fn an_address_in_use_is_refused_by_name_and_free_after_the_close() {
    with_both(|reactor| {
        let (first, _) = listen(reactor, "127.0.0.1:0").unwrap();
        let addr = first.local_addr();
        let error = listen(reactor, &addr.to_string()).err().unwrap();
        assert_eq!(error.to_string(), format!("cannot bind a socket to {addr}"));
        assert_eq!(error.errno(), Some(libc::EADDRINUSE));
        assert_eq!(live_sockets(reactor), 1);
        first.close();
        assert!(TcpStream::connect(addr).is_err(), "closed at once");
        until(reactor, "it is gone", || live_sockets(reactor) == 0);
        let (second, _) = listen(reactor, &addr.to_string()).unwrap();
        second.close();
        until(reactor, "it is gone", || live_sockets(reactor) == 0);
    });
}

#[test]
fn options_reach_both_ends() {
    with_both(|reactor| {
        let options = SocketOptions {
            priority: Some(4),
            send_buffer_bytes: Some(50_000),
            receive_buffer_bytes: Some(60_000),
            keep_alive: Some(Duration::from_secs(17)),
            ack_timeout: Some(Duration::from_secs(2)),
        };
        let (near, far) = pair(reactor, options);
        for socket in [&near, &far] {
            for (option, value) in [
                (SocketOption::NoDelay, 1),
                (SocketOption::Priority, 4),
                (SocketOption::SendBufferBytes, 100_000),
                (SocketOption::ReceiveBufferBytes, 120_000),
                (SocketOption::KeepAlive, 1),
                (SocketOption::KeepAliveIdleS, 17),
                (SocketOption::UserTimeoutMs, 2000),
            ] {
                let found = socket::option(socket.as_fd(), option).unwrap();
                assert_eq!(found, value, "{}", option.name());
            }
        }
        let error = near.set(&SocketOptions { priority: Some(200), ..options });
        if let Err(error) = error {
            assert_eq!(error.to_string(), "cannot set SO_PRIORITY of a socket to 200");
        }
    });
}

#[test]
fn a_peer_that_refuses_is_told() {
    with_both(|reactor| {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = connect_on(reactor, closed, ConnectOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot connect to {closed}"));
        assert_eq!(error.errno(), Some(libc::ECONNREFUSED));
        let local_addr = Some("192.0.2.1:0".parse().unwrap());
        let options = ConnectOptions { local_addr, ..ConnectOptions::default() };
        let error = connect_on(reactor, closed, options).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EADDRNOTAVAIL));
        assert_eq!(live_sockets(reactor), 0);
    });
}

#[test]
fn the_local_address_is_used() {
    with_both(|reactor| {
        let (listener, accepted) = listen(reactor, "127.0.0.1:0").unwrap();
        let local_addr = Some("127.0.0.9:0".parse().unwrap());
        let options = ConnectOptions { local_addr, ..ConnectOptions::default() };
        let near = connect_on(reactor, listener.local_addr(), options).unwrap();
        until(reactor, "it is accepted", || accepted.borrow().len() == 1);
        assert_eq!(near.local_addr().unwrap().ip(), Ipv4Addr::new(127, 0, 0, 9));
        assert_eq!(accepted.borrow()[0].1, near.local_addr().unwrap());
        listener.close();
        until(reactor, "it is gone", || live_sockets(reactor) == 0);
    });
}

/// A listener that accepts nothing and whose queue is full, so that connecting to it hangs.
fn full_listener() -> (std::os::fd::OwnedFd, SocketAddr, Vec<TcpStream>) {
    let any = "127.0.0.1:0".parse().unwrap();
    let fd = socket::stream_for(&any).unwrap();
    socket::bind(fd.as_fd(), &any).unwrap();
    socket::listen(fd.as_fd(), 0).unwrap();
    let addr = socket::local_addr(fd.as_fd()).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
        waiting.push(stream);
    }
    (fd, addr, waiting)
}

#[test]
fn a_silent_peer_is_given_up_in_virtual_time() {
    let (_listener, addr, _waiting) = full_listener();
    with_both_virtual(|reactor, time| {
        let timeout = Duration::from_secs(100);
        let options = ConnectOptions { timeout, ..ConnectOptions::default() };
        let error = connect_on(reactor, addr, options).unwrap_err();
        assert_eq!(error.to_string(), format!("{addr} did not answer within 100s"));
        assert!(time.now_ns() >= 100_000_000_000);
        until(reactor, "nothing is left", || live_sockets(reactor) == 0);
    });
}

#[test]
fn a_connection_that_takes_a_while_is_waited_for() {
    let (listener, addr, waiting) = full_listener();
    with_both(|reactor| {
        let done = Rc::new(RefCell::new(None));
        let (place, inner) = (Rc::clone(&done), Rc::clone(reactor));
        reactor.spawn("connecting", async move {
            let options = ConnectOptions { timeout: Duration::from_secs(60), ..Default::default() };
            *place.borrow_mut() = Some(connect(&inner, addr, &options).await);
        });
        until(reactor, "it waits", || live_sockets(reactor) == 1);
        // Room in the queue: the next attempt of the kernel gets through.
        while socket::accept(listener.as_fd()).is_ok() {}
        until(reactor, "it is connected", || done.borrow().is_some());
        assert_eq!(done.take().unwrap().unwrap().peer_addr(), addr);
        assert_eq!(live_sockets(reactor), 0);
        while TcpStream::connect_timeout(&addr, Duration::from_millis(100)).is_ok() {}
    });
    drop(waiting);
}

#[test]
fn an_attempt_ends_with_its_future_and_with_its_reactor() {
    let (_listener, addr, _waiting) = full_listener();
    for ring in [true, false] {
        let Some(reactor) = reactor_with(ring) else { continue };
        let options = ConnectOptions::default();
        let give_up = || {
            let (inner, after) = (Rc::clone(&reactor), options);
            let mut attempt = Box::pin(async move { connect(&inner, addr, &after).await });
            reactor.block_on(async move {
                std::future::poll_fn(|cx| {
                    assert!(attempt.as_mut().poll(cx).is_pending());
                    std::task::Poll::Ready(())
                })
                .await;
                crate::reactor::yield_now().await;
                drop(attempt);
            });
            until(&reactor, "it is gone", || live_sockets(&reactor) == 0);
            descriptors()
        };
        // The first one opens what all sockets of the reactor share.
        assert_eq!(give_up(), give_up());
        let inner = Rc::clone(&reactor);
        reactor.spawn("connecting", async move {
            let _ = connect(&inner, addr, &options).await;
        });
        some_turns(&reactor);
        assert_eq!(live_sockets(&reactor), 1);
        drop(reactor);
    }
}

#[test]
fn without_descriptors_connections_wait_until_there_are_some() {
    with_both_virtual(|reactor, _| {
        let (listener, accepted) = listen(reactor, "127.0.0.1:0").unwrap();
        some_turns(reactor);
        let client = TcpStream::connect(listener.local_addr()).unwrap();
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let set = |limit| setrlimit(Resource::RLIMIT_NOFILE, limit, hard).unwrap();
        set(u64::from(client.as_raw_fd().unsigned_abs()) + 1);
        let turns = || reactor.handle().stats().turns;
        let before = turns();
        reactor.block_on(crate::reactor::sleep(Duration::from_secs(3)));
        // Thirty tries, and not one for every moment.
        let took = turns() - before;
        assert!((30..300).contains(&took), "{took} turns");
        assert!(accepted.borrow().is_empty());
        set(soft);
        until(reactor, "it is accepted", || accepted.borrow().len() == 1);
        let second = TcpStream::connect(listener.local_addr()).unwrap();
        until(reactor, "the next one too", || accepted.borrow().len() == 2);
        drop((client, second));
        listener.close();
        until(reactor, "it is gone", || live_sockets(reactor) == 0);
    });
}

#[test]
fn a_listener_may_close_itself_when_it_accepts() {
    with_both(|reactor| {
        let place: Rc<OnceCell<Rc<Listener>>> = Rc::default();
        let (inner, count) = (Rc::downgrade(&place), Rc::new(Cell::new(0)));
        let counted = Rc::clone(&count);
        let on_accept = Box::new(move |_, _| {
            counted.set(counted.get() + 1);
            if let Some(listener) = inner.upgrade().and_then(|place| place.get().cloned()) {
                listener.close();
            }
        });
        let any = "127.0.0.1:0".parse().unwrap();
        let options = ListenOptions::default();
        let listener = Listener::bind(reactor, any, &options, on_accept).unwrap();
        let to = listener.local_addr();
        assert!(place.set(listener).is_ok());
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(to).unwrap()).collect();
        until(reactor, "it is gone", || live_sockets(reactor) == 0);
        assert_eq!(count.get(), 1);
        drop(clients);
    });
}

#[test]
fn names_are_resolved_on_a_helper_thread() {
    let reactor = reactor_with(false).unwrap();
    let inner = Rc::clone(&reactor);
    let found = reactor.block_on(async move {
        let name: HostPort = "localhost:4420".parse().unwrap();
        let literal: HostPort = "[::1]:8009".parse().unwrap();
        let unknown: HostPort = "name.invalid:1".parse().unwrap();
        let name = resolve(&inner, &name).await.unwrap();
        let literal = resolve(&inner, &literal).await.unwrap();
        let unknown = resolve(&inner, &unknown).await.unwrap_err();
        (name, literal, unknown.to_string())
    });
    assert!(found.0.iter().all(|addr| addr.ip().is_loopback() && addr.port() == 4420));
    assert!(!found.0.is_empty());
    assert_eq!(found.1, ["[::1]:8009".parse().unwrap()]);
    assert_eq!(found.2, "cannot resolve the host name \"name.invalid\"");
}
