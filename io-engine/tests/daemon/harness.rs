//! The real binary on a socket of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use jsonrpc::ClientError;
use jsonrpc::client::blocking;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_io-engine");

/// How long anything here may take before the test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the daemon logs when it answers.
const READY: &str = "the RPC server listens";

/// A running daemon; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: Receiver<String>,
    seen: String,
    socket: PathBuf,
    pub(crate) dir: TempDir,
}

/// A command that runs the binary with little memory and `args`.
pub(crate) fn command(socket: &Path, args: &[&str]) -> Command {
    wrapped(Command::new(BINARY), socket, args)
}

/// As [`command`], for a command that ends where the binary's own arguments begin.
pub(crate) fn wrapped(mut command: Command, socket: &Path, args: &[&str]) -> Command {
    command.args(["--no-huge", "-s", "4", "-r"]).arg(socket).args(args);
    command
}

/// Runs the binary to its end: the exit code and what it wrote to standard error.
pub(crate) fn fails(socket: &Path, args: &[&str]) -> (Option<i32>, String) {
    told(command(socket, args).output().expect("the binary runs"))
}

/// The exit code and standard error of an ended process.
pub(crate) fn told(output: Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Daemon {
    /// Starts a daemon and waits until it answers.
    pub(crate) fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("rpc.sock");
        let command = command(&socket, args);
        Self::launch(command, dir, socket)
    }

    /// Runs a command that starts a daemon on `socket`, and waits until it answers.
    pub(crate) fn launch(mut command: Command, dir: TempDir, socket: PathBuf) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let errors = BufReader::new(child.stderr.take().expect("a pipe"));
        let (tell, log) = channel();
        std::thread::spawn(move || {
            for line in errors.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let mut daemon = Self { child, log, seen: String::new(), socket, dir };
        daemon.wait_for(READY);
        daemon
    }

    /// Waits until the log holds `words`, from its beginning on.
    pub(crate) fn wait_for(&mut self, words: &str) {
        while !self.seen.contains(words) {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => self.note(&line),
                Err(RecvTimeoutError::Timeout) => panic!("no '{words}' in\n{}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("ended without '{words}':\n{}", self.seen)
                }
            }
        }
    }

    fn note(&mut self, line: &str) {
        self.seen.push_str(line);
        self.seen.push('\n');
    }

    /// The log so far.
    pub(crate) fn log(&self) -> &str {
        &self.seen
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"))
    }

    /// Calls a method.
    pub(crate) fn try_call(&self, method: &str, params: Value) -> Result<Value, (i64, String)> {
        let params = (!params.is_null()).then_some(params);
        match blocking::call(&self.socket, method, params, PATIENCE) {
            Ok(result) => Ok(result),
            Err(ClientError::Rpc { code, message, .. }) => Err((code, message)),
            Err(other) => panic!("{method}: {other}"),
        }
    }

    /// Calls a method that succeeds.
    pub(crate) fn call(&self, method: &str, params: Value) -> Value {
        let shown = params.to_string();
        let result = self.try_call(method, params);
        result.unwrap_or_else(|(code, words)| panic!("{method} {shown}: {words} ({code})"))
    }

    /// Calls a method that is refused: the code and the words.
    pub(crate) fn refuses(&self, method: &str, params: Value) -> (i64, String) {
        let shown = params.to_string();
        match self.try_call(method, params) {
            Ok(result) => panic!("{method} {shown} succeeded: {result}"),
            Err(error) => error,
        }
    }

    /// The names of its devices.
    pub(crate) fn names(&self) -> Vec<String> {
        let list = self.call("bdev_get_bdevs", Value::Null);
        let list = list.as_array().expect("a list");
        list.iter().map(|bdev| bdev["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("the daemon lives");
    }

    /// Waits for the end; the rest of the log is read.
    pub(crate) fn wait(mut self) -> (ExitStatus, String, TempDir) {
        let status = self.child.wait().expect("an exit status");
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            self.note(&line);
        }
        let Self { ref mut seen, .. } = self;
        let seen = std::mem::take(seen);
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"));
        (status, seen, dir)
    }

    /// Asks for the end with a signal and checks that it was orderly.
    pub(crate) fn end(self, signal: Signal) -> String {
        self.signal(signal);
        let socket = self.socket.clone();
        let (status, log, _dir) = self.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(!socket.exists(), "the socket is removed");
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // An ended process is no error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
