//! Floods the management interface of a daemon: requests at a rate over many connections, beside clients
//! that read slowly and clients that send nonsense.
//!
//! `rpc-flood SOCKET SECONDS [RATE] [CONNECTIONS] [SLOW] [BROKEN]`, by default 10,000 requests per second
//! over 64 connections, with 4 slow and 4 broken clients. Prints one JSON object. Ends with 1 when a
//! request of a good client was not answered. `test/bench/rpc-flood` runs I/O beside it.

#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program that prints its figures")]

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use spdk_rs::env::Clock;

/// What good clients ask for, in turn: facts of the process, of devices, and of the reactors
/// themselves, which are asked by message.
const METHODS: [&str; 6] = [
    "bdev_get_bdevs",
    "bdev_get_iostat",
    "framework_get_reactors",
    "notify_get_notifications",
    "spdk_get_version",
    "thread_get_stats",
];

/// What broken clients send.
const NONSENSE: [&[u8]; 6] = [
    b"{]",
    b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"bdev_g",
    b"\xff\xfe\x00",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"melt\"}",
    b"[1, 2, 3, {\"method\": 5}]",
];

/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The pause of a slow client.
const SLOWNESS: Duration = Duration::from_millis(20);

struct Options {
    socket: String,
    time: Duration,
    rate: u64,
    connections: u64,
    slow: u64,
    broken: u64,
}

impl Options {
    fn read() -> Result<Self> {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let [socket, seconds, rest @ ..] = &args[..] else {
            bail!("usage: rpc-flood SOCKET SECONDS [RATE] [CONNECTIONS] [SLOW] [BROKEN]");
        };
        let number = |index: usize, default: u64| {
            rest.get(index).map_or(Ok(default), |text| {
                text.parse().with_context(|| format!("'{text}': it has to be a whole number"))
            })
        };
        let time = Duration::try_from_secs_f64(seconds.parse().context("SECONDS: a number")?)?;
        let [rate, connections, slow, broken] =
            [number(0, 10_000)?, number(1, 64)?, number(2, 4)?, number(3, 4)?];
        ensure!((1..=1_000_000).contains(&rate), "RATE {rate}: it has to be 1 to 1000000");
        ensure!((1..=1024).contains(&connections), "CONNECTIONS {connections}: 1 to 1024");
        ensure!(rest.len() <= 4, "{}: there is no such argument", rest[4]);
        Ok(Self { socket: socket.clone(), time, rate, connections, slow, broken })
    }
}

/// What the clients beside the good ones did.
#[derive(Default)]
struct Others {
    slow_bytes: AtomicU64,
    slow_requests: AtomicU64,
    broken: AtomicU64,
}

fn now() -> Duration {
    let clock = Clock::Real;
    clock.duration_of(clock.ticks())
}

#[expect(clippy::disallowed_methods, reason = "a client's thread, and no reactor's")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn main() -> Result<()> {
    let options = Options::read()?;
    let others = Others::default();
    let began = now();
    let end = began + options.time;
    let outcome: Result<Vec<u64>> = std::thread::scope(|scope| {
        let good: Vec<_> = (0..options.connections)
            .map(|number| {
                let options = &options;
                scope.spawn(move || good(options, number, end))
            })
            .collect();
        for _ in 0..options.slow {
            scope.spawn(|| slow(Path::new(&options.socket), end, &others));
        }
        for number in 0..options.broken {
            let (socket, others) = (&options.socket, &others);
            scope.spawn(move || broken(Path::new(socket), number, end, others));
        }
        let mut all = Vec::new();
        for client in good {
            match client.join() {
                Ok(latencies) => all.extend(latencies?),
                Err(_) => bail!("a client panicked"),
            }
        }
        Ok(all)
    });
    let mut latencies = outcome?;
    let seconds = (now() - began).as_secs_f64();
    latencies.sort_unstable();
    let at = |parts: usize| {
        let index = (latencies.len() * parts / 1000).min(latencies.len().saturating_sub(1));
        latencies.get(index).map_or(0.0, |ns| *ns as f64 / 1000.0)
    };
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    println!(
        "{{\"requests\": {}, \"seconds\": {seconds:.3}, \"per_second\": {:.1}, \"p50_us\": {:.1}, \
         \"p99_us\": {:.1}, \"max_us\": {:.1}, \"slow_requests\": {}, \"slow_bytes\": {}, \
         \"broken\": {}}}",
        latencies.len(),
        latencies.len() as f64 / seconds,
        at(500),
        at(990),
        at(1000),
        load(&others.slow_requests),
        load(&others.slow_bytes),
        load(&others.broken),
    );
    Ok(())
}

fn request(method: &str, id: u64) -> String {
    format!("{{\"jsonrpc\": \"2.0\", \"id\": {id}, \"method\": \"{method}\"}}\n")
}

/// One connection's share of the requests; returns the time of each in nanoseconds. A request that is
/// due while the one before is under way is sent as soon as that is answered.
fn good(options: &Options, number: u64, end: Duration) -> Result<Vec<u64>> {
    let stream = UnixStream::connect(&options.socket).context("connecting")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answers = BufReader::new(stream.try_clone()?);
    let mut stream = stream;
    let interval = Duration::from_secs(1).mul_f64(options.connections as f64 / options.rate as f64);
    let mut due = now() + interval.mul_f64(number as f64 / options.connections as f64);
    let (mut latencies, mut line) = (Vec::new(), String::new());
    let mut methods = METHODS.iter().cycle().skip(usize::try_from(number % 6)?);
    while due < end {
        pause(due.saturating_sub(now()));
        let method = methods.next().copied().unwrap_or(METHODS[0]);
        let sent = now();
        stream.write_all(request(method, number).as_bytes()).context("sending")?;
        line.clear();
        answers.read_line(&mut line).with_context(|| format!("waiting for {method}"))?;
        ensure!(line.contains("\"result\""), "{method} was answered with {line:.300}");
        latencies.push(u64::try_from((now() - sent).as_nanos())?);
        // What was missed by more than a second is not made up for.
        due = (due + interval).max(now().saturating_sub(Duration::from_secs(1)));
    }
    Ok(latencies)
}

/// Sends requests whose answers are read a few bytes at a time.
fn slow(socket: &Path, end: Duration, others: &Others) {
    let mut bytes = [0; 64];
    while now() < end {
        let Ok(mut stream) = UnixStream::connect(socket) else { return pause(SLOWNESS) };
        let limits =
            [stream.set_read_timeout(Some(SLOWNESS)), stream.set_write_timeout(Some(SLOWNESS))];
        if limits.iter().any(Result::is_err) {
            return;
        }
        while now() < end {
            // It may take no more, since its answers are not read; that is what is tried.
            if stream.write_all(request("rpc.discover", 1).as_bytes()).is_ok() {
                others.slow_requests.fetch_add(1, Ordering::Relaxed);
            }
            match stream.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => {
                    others.slow_bytes.fetch_add(count as u64, Ordering::Relaxed);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(_) => break,
            }
            pause(SLOWNESS);
        }
    }
}

/// Sends what is no request, again and again, and goes without a word.
fn broken(socket: &Path, number: u64, end: Duration, others: &Others) {
    let mut nonsense = NONSENSE.iter().cycle().skip(usize::try_from(number).unwrap_or(0));
    while now() < end {
        if let (Ok(mut stream), Some(bytes)) = (UnixStream::connect(socket), nonsense.next()) {
            // A server that has closed the connection already is right to.
            let _ = stream.write_all(bytes);
            others.broken.fetch_add(1, Ordering::Relaxed);
        }
        pause(Duration::from_millis(2));
    }
}
