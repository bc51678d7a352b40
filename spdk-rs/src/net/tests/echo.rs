//! Bytes come back as they were sent, whatever the sizes.

use std::os::fd::AsRawFd;
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::Either;
use spdk_rs_sys::cpu::{self, CoreSet};

use super::*;
use crate::reactor::{CompletionClient, PollMode, ReactorRing, Runtime, RuntimeOptions};

/// Sends back what it gets, as far as there is room; what does not fit stays in the buffer.
fn echo(buffer_bytes: usize, seed: u64) -> Probe {
    let random = RefCell::new(Sequence(seed));
    let give_back = Rc::new(move |probe: &Probe| {
        loop {
            let data = probe.buffer.data();
            let now = data.len().min(1 + random.borrow_mut().below(3000));
            if now == 0 || probe.stream().send(&data[..now], None).is_err() {
                break;
            }
            probe.buffer.consume(now);
        }
        if !probe.buffer.is_empty() {
            probe.stream().pause_reading();
        } else {
            probe.stream().resume_reading();
        }
    });
    let again = Rc::clone(&give_back);
    Probe {
        on_received: Box::new(move |probe| give_back(probe)),
        on_sent: Box::new(move |probe| again(probe)),
        ..Probe::new(buffer_bytes)
    }
}

/// Sends `payload` in random pieces, some copied and some by address, as far as there is room.
fn talker(payload: Vec<u8>, seed: u64, direct_bytes: usize) -> Probe {
    let (random, at, tokens) = (RefCell::new(Sequence(seed)), Cell::new(0), Cell::new(0));
    let on_sent = move |probe: &Probe| {
        let mut random = random.borrow_mut();
        while at.get() < payload.len() {
            let rest = &payload[at.get()..];
            let mut cut = |max: usize, left: usize| random.below(max + 1).min(left);
            let head = cut(64, rest.len());
            let first = cut(5000, rest.len() - head);
            let second = cut(300, rest.len() - head - first);
            let tail = cut(4, rest.len() - head - first - second);
            let (head, body) = rest.split_at(head);
            let (body, more) = body.split_at(first);
            let (more, end) = more.split_at(second);
            let iov = |bytes: &[u8]| IoVec::new(bytes.as_ptr().cast_mut(), bytes.len());
            // SAFETY: the payload belongs to the handler, which the stream keeps.
            let sent = unsafe {
                let pieces = [iov(body), iov(more)];
                probe.stream().send_gather(head, &pieces, &end[..tail], Some(tokens.get()))
            };
            if sent.is_err() {
                return;
            }
            tokens.set(tokens.get() + 1);
            at.set(at.get() + head.len() + first + second + tail);
        }
    };
    let direct = RefCell::new(vec![0; direct_bytes]);
    Probe { on_sent: Box::new(on_sent), direct, ..Probe::new(3001) }
}

/// What a talker got back: first the direct bytes, then the others.
fn got(probe: &Probe) -> Vec<u8> {
    let filled = probe.direct_filled.get();
    let mut all = probe.direct.borrow()[..filled].to_vec();
    all.extend_from_slice(&probe.read.borrow());
    all
}

fn talk(reactor: &Rc<Reactor>, len: usize, seed: u64, options: SocketOptions) {
    let (near, far) = pair(reactor, options);
    let payload = Sequence(seed).bytes(len);
    let small = StreamOptions { copy_bytes: 300, pieces: 16 };
    let room = if seed.is_multiple_of(2) { small } else { StreamOptions::default() };
    let echo = echo(997, seed).open_with(reactor, far, &StreamOptions::default());
    let talker = talker(payload.clone(), seed, len / 3).open_with(reactor, near, &room);
    (talker.on_sent)(&talker);
    until(reactor, "all is back", || got(&talker).len() == len);
    assert_eq!(got(&talker), payload, "seed {seed}");
    assert_eq!(talker.direct_filled.get(), len / 3);
    let tokens = talker.sent.borrow();
    assert!(tokens.iter().copied().eq(0..tokens.len() as u64), "tokens come in order");
    assert_eq!(talker.stream().queued_bytes(), 0);
    talker.stream().shutdown(Duration::from_secs(60));
    until(reactor, "both ends are closed", || talker.is_closed() && echo.is_closed());
    assert_eq!(*talker.closed.borrow(), [CloseReason::Ended]);
    assert_eq!(*echo.closed.borrow(), [CloseReason::PeerClosed]);
    assert_eq!(live_sockets(reactor), 0);
}

#[test]
fn bytes_come_back_in_random_pieces() {
    with_both(|reactor| {
        for seed in 1..5 {
            talk(reactor, 100_000, seed, SocketOptions::default());
        }
    });
}

#[test]
fn bytes_come_back_through_tiny_kernel_buffers() {
    with_both(|reactor| {
        for seed in 5..7 {
            talk(reactor, 60_000, seed, tiny());
        }
    });
}

#[test]
fn a_large_piece_is_sent_on_until_it_has_left() {
    with_both(|reactor| {
        let (near, far) = pair(reactor, SocketOptions::default());
        let payload = Sequence(9).bytes(8 << 20);
        let sender = Probe::new(16).open(reactor, near);
        let receiver = Probe { direct: RefCell::new(vec![0; payload.len()]), ..Probe::new(16) };
        let receiver = receiver.open(reactor, far);
        let piece = IoVec::new(payload.as_ptr().cast_mut(), payload.len());
        // SAFETY: the payload outlives the stream's use of it, which ends with the token.
        unsafe { sender.stream().send_gather(b"", &[piece], b"!", Some(7)) }.unwrap();
        until(reactor, "all is there", || receiver.read.borrow().len() == 1);
        until(reactor, "it has left", || *sender.sent.borrow() == [7]);
        assert_eq!(*receiver.direct.borrow(), payload);
        assert_eq!(*receiver.read.borrow(), b"!");
        sender.stream().abort();
        until(reactor, "both ends are closed", || sender.is_closed() && receiver.is_closed());
    });
}

#[test]
fn what_one_turn_queues_leaves_in_one_piece() {
    with_both(|reactor| {
        let (near, far) = pair(reactor, SocketOptions::default());
        let sizes = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&sizes);
        let receiver = Probe {
            on_received: Box::new(move |probe| {
                log.borrow_mut().push(probe.buffer.len());
                probe.take_all();
            }),
            ..Probe::new(4096)
        };
        let receiver = receiver.open(reactor, far);
        let sender = Probe::new(16).open(reactor, near);
        for number in 0..32_u8 {
            let byte = [number; 8];
            let piece = IoVec::new(byte.as_ptr().cast_mut(), byte.len());
            // SAFETY: the bytes are copied; the piece by address has none.
            unsafe { sender.stream().send_gather(&byte, &[piece.truncated(0)], b"", Some(1)) }
                .unwrap();
        }
        until(reactor, "all is there", || receiver.read.borrow().len() == 256);
        assert_eq!(*sizes.borrow(), [256], "one send, one receive");
        sender.stream().abort();
        until(reactor, "both ends are closed", || sender.is_closed() && receiver.is_closed());
    });
}

/// On a reactor that sleeps whenever it can, what is queued leaves before it does.
#[test]
fn nothing_is_left_behind_when_the_reactor_sleeps() {
    for ring in [true, false] {
        let mode = PollMode::Adaptive { spin: Duration::ZERO };
        let config = ReactorConfig { ring, mode, ..ReactorConfig::new(CoreId(0)) };
        let reactor = LocalReactor::new(config, memory()).unwrap();
        let (near, far) = pair(&reactor, SocketOptions::default());
        let (done, finished) = oneshot::channel();
        let (left, done) = (Cell::new(200), Cell::new(Some(done)));
        let answer: Hook = Box::new(move |probe| {
            probe.take_all();
            left.set(left.get() - 1);
            if left.get() == 0 {
                let _ = done.take().map(|done| done.send(()));
            } else {
                probe.stream().send(b"ping", None).unwrap();
            }
        });
        let near = Probe { on_received: answer, ..Probe::new(64) }.open(&reactor, near);
        let far = echo(64, 1).open(&reactor, far);
        near.stream().send(b"ping", None).unwrap();
        let stuck = crate::reactor::sleep(Duration::from_secs(20));
        let first = async move {
            let stuck = std::pin::pin!(stuck);
            let finished = std::pin::pin!(finished);
            matches!(futures::future::select(stuck, finished).await, Either::Right(_))
        };
        assert!(reactor.block_on(first), "ring {ring}: it slept with bytes to send");
        drop((near, far));
    }
}

/// Sockets do not count as load of the ring: disks submit in groups by that.
#[test]
fn idle_sockets_are_no_load_of_the_ring() {
    struct Nobody;
    impl CompletionClient for Nobody {
        fn completed(&self, _token: u64, _result: i32, _flags: u32) {}
    }
    let Some(reactor) = reactor_with(true) else { return };
    let ring = reactor.ring().unwrap();
    let id = reactor.add_client(Rc::new(Nobody)).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    let (fd, user_data) = (reader.as_raw_fd(), ReactorRing::user_data(id, 0));
    let queued = ring.push(|ring| ring.poll_once(fd, nix::libc::POLLIN, user_data).is_ok());
    assert!(queued && ring.in_flight() == 1);
    talk(&reactor, 50_000, 21, SocketOptions::default());
    assert_eq!(ring.in_flight(), 1);
}

#[test]
fn a_virtual_clock_moves_bytes_too() {
    with_both_virtual(|reactor, _| talk(reactor, 30_000, 3, SocketOptions::default()));
}

type Outcome = (Vec<u8>, CloseReason);

/// Tells another thread how a stream ended.
fn tell(done: oneshot::Sender<Outcome>) -> Hook {
    let done = Cell::new(Some(done));
    Box::new(move |probe| {
        let outcome = (got(probe), probe.closed.borrow()[0]);
        let _ = done.take().map(|done| done.send(outcome));
    })
}

/// A listener on one reactor gives the connection to another one.
fn talk_across(ring: bool, len: usize, seed: u64) {
    let cores: CoreSet = cpu::allowed().iter().take(2).collect();
    let options = RuntimeOptions { cores, mode: PollMode::default(), ring };
    let runtime = Runtime::start(&options, memory()).unwrap();
    let (first, last) = (&runtime.reactors()[0], runtime.reactors().last().unwrap());
    let (echo_end, echo_ended) = oneshot::channel();
    let forward = last.clone();
    let bound = first.call(move |reactor| {
        let echo_end = Cell::new(Some(echo_end));
        let on_accept = move |socket: Socket, _| {
            let end = echo_end.take().unwrap();
            let moved = forward.try_send(move |reactor| {
                Probe { on_closed: tell(end), ..echo(5000, seed) }.open(reactor, socket);
            });
            assert!(moved.is_ok());
        };
        let any = "127.0.0.1:0".parse().unwrap();
        let bound = Listener::bind(reactor, any, &ListenOptions::default(), Box::new(on_accept));
        bound.unwrap().local_addr()
    });
    let to = futures::executor::block_on(bound).unwrap();
    let payload = Sequence(seed).bytes(len);
    let (talk_end, talk_ended) = oneshot::channel();
    let said = payload.clone();
    let started = first.spawn(move |reactor| async move {
        let socket = connect(&reactor, to, &ConnectOptions::default()).await.unwrap();
        let on_received: Hook = Box::new(move |probe| {
            probe.take_all();
            if got(probe).len() == len {
                probe.stream().shutdown(Duration::from_secs(60));
            }
        });
        let probe = talker(said, seed, len / 2);
        let probe = Probe { on_received, on_closed: tell(talk_end), ..probe };
        let probe = probe.open(&reactor, socket);
        (probe.on_sent)(&probe);
    });
    futures::executor::block_on(started).unwrap();
    let (back, why) = futures::executor::block_on(talk_ended).unwrap();
    assert_eq!((back == payload, why), (true, CloseReason::Ended));
    let (_, why) = futures::executor::block_on(echo_ended).unwrap();
    assert_eq!(why, CloseReason::PeerClosed);
}

#[test]
fn bytes_come_back_from_another_reactor() {
    for (ring, seed) in [(true, 11), (false, 12)] {
        talk_across(ring, 300_000, seed);
    }
}
