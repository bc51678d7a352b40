//! The client: calls methods over a Unix socket.
//!
//! One connection carries one exchange at a time. An exchange that was given up midway (a timeout,
//! a dropped future) leaves the stream out of step, so the client refuses to use that connection
//! again.

pub mod blocking;
mod error;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

pub use self::error::ClientError;
use crate::framing::{Framer, MAX_DEPTH};

/// How long a call may take unless [`Client::set_timeout`] says otherwise; as SPDK's `rpc.py`.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The longest answer that is accepted, in bytes: several of a server's longest responses, for
/// batches.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Bytes asked of the kernel at once.
const READ_BYTES: usize = 16 * 1024;

/// The pause before another attempt at a server whose queue of connections is full.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// A connection to a server.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    framer: Framer,
    path: PathBuf,
    next_id: u64,
    timeout: Option<Duration>,
    /// An exchange was begun and not brought to its end.
    out_of_step: bool,
}

/// A request as it is sent.
#[derive(Serialize)]
struct Request<'a> {
    jsonrpc: &'static str,
    method: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
}

/// A response as it comes back.
#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    id: Value,
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    error: Option<RpcError>,
}

/// The error member of a response.
#[derive(Deserialize)]
struct RpcError {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl From<RpcError> for ClientError {
    fn from(error: RpcError) -> Self {
        Self::Rpc { code: error.code, message: error.message, data: error.data }
    }
}

impl Client {
    /// Connects to the server at `path`.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotRunning`] if nobody serves the path, [`ClientError::Denied`] if it is
    /// another user's, [`ClientError::Timeout`] if the server accepts nobody for
    /// [`DEFAULT_TIMEOUT`].
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = timeout(DEFAULT_TIMEOUT, connect(path)).await.map_err(|_| {
            let what = "the connection".to_owned();
            ClientError::Timeout { path: path.to_owned(), what, after: DEFAULT_TIMEOUT }
        })??;
        Ok(Self {
            stream,
            framer: Framer::new(ANSWER_BYTES_MAX, MAX_DEPTH),
            path: path.to_owned(),
            next_id: 1,
            timeout: Some(DEFAULT_TIMEOUT),
            out_of_step: false,
        })
    }

    /// Limits the time of every further call; `None` waits for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Calls a method and returns its result.
    ///
    /// # Errors
    ///
    /// [`ClientError::Rpc`] if the server answered with an error; else the connection cannot be
    /// used any more.
    pub async fn call(
        &mut self,
        method: &str,
        params: Option<Value>,
    ) -> Result<Value, ClientError> {
        let id = self.take_id();
        let request = Request { jsonrpc: "2.0", method, params: params.as_ref(), id: Some(id) };
        let text = self.serialize(&request)?;
        let answer = self.exchange(method, text).await?;
        let response = self.parse::<Response>(&answer)?;
        self.outcome(response, id)
    }

    /// As [`Client::call`], with typed parameters and result.
    ///
    /// # Errors
    ///
    /// As [`Client::call`]; [`ClientError::Protocol`] also if the result is not an `R`.
    pub async fn call_as<R: DeserializeOwned>(
        &mut self,
        method: &str,
        params: &impl Serialize,
    ) -> Result<R, ClientError> {
        let params = serde_json::to_value(params)
            .map_err(|error| self.protocol(format!("the parameters are no JSON: {error}")))?;
        let result = self.call(method, (!params.is_null()).then_some(params)).await?;
        serde_json::from_value(result)
            .map_err(|error| self.protocol(format!("unexpected result of {method}: {error}")))
    }

    /// Sends a notification: the method is called, and nothing is answered.
    ///
    /// # Errors
    ///
    /// As [`Client::call`].
    pub async fn notify(&mut self, method: &str, params: Option<Value>) -> Result<(), ClientError> {
        let request = Request { jsonrpc: "2.0", method, params: params.as_ref(), id: None };
        let text = self.serialize(&request)?;
        self.exchange_within(method, text, false).await.map(drop)
    }

    /// Calls several methods in one batch and returns their outcomes in the same order.
    ///
    /// # Errors
    ///
    /// As [`Client::call`], if the batch as a whole failed.
    pub async fn batch(
        &mut self,
        calls: &[(&str, Option<Value>)],
    ) -> Result<Vec<Result<Value, ClientError>>, ClientError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let requests: Vec<Request<'_>> = calls
            .iter()
            .map(|(method, params)| {
                let id = Some(self.take_id());
                Request { jsonrpc: "2.0", method, params: params.as_ref(), id }
            })
            .collect();
        let text = self.serialize(&requests)?;
        let answer = self.exchange("the batch", text).await?;
        if !answer.get().starts_with('[') {
            // The server refused the batch as a whole.
            let response = self.parse::<Response>(&answer)?;
            return Err(self.outcome(response, 0).err().unwrap_or_else(|| {
                self.protocol("a batch was answered with a single result".to_owned())
            }));
        }
        let mut answers: Vec<Option<Response>> =
            self.parse::<Vec<Response>>(&answer)?.into_iter().map(Some).collect();
        let outcomes = requests.iter().map(|request| {
            let id = request.id.unwrap_or_default();
            let found = answers.iter_mut().find(|slot| {
                slot.as_ref().is_some_and(|response| response.id.as_u64() == Some(id))
            });
            match found.and_then(Option::take) {
                Some(response) => self.outcome(response, id),
                None => Err(self.protocol(format!("no answer to request {id} of the batch"))),
            }
        });
        Ok(outcomes.collect())
    }

    /// Sends a request or batch as it is and returns the answer as it comes; nothing when it holds
    /// only notifications.
    ///
    /// # Errors
    ///
    /// [`ClientError::Protocol`] if `request` is not one JSON object or array; else as
    /// [`Client::call`]. Errors that the server answers are part of the returned answer.
    pub async fn call_raw(&mut self, request: &str) -> Result<Option<Box<RawValue>>, ClientError> {
        let value: Value = serde_json::from_str(request)
            .map_err(|error| self.protocol(format!("the request is not JSON: {error}")))?;
        let answered = match &value {
            Value::Object(_) => expects_answer(&value),
            Value::Array(entries) => entries.is_empty() || entries.iter().any(expects_answer),
            _ => {
                let reason = "a request must be an object, or an array of them";
                return Err(self.protocol(reason.to_owned()));
            }
        };
        self.exchange_within("the request", request.as_bytes().to_vec(), answered).await
    }

    /// The id of the next request.
    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// The text of a request.
    fn serialize(&self, request: &impl Serialize) -> Result<Vec<u8>, ClientError> {
        serde_json::to_vec(request)
            .map_err(|error| self.protocol(format!("the request is no JSON: {error}")))
    }

    /// Reads an answer.
    fn parse<T: DeserializeOwned>(&self, answer: &RawValue) -> Result<T, ClientError> {
        serde_json::from_str(answer.get())
            .map_err(|error| self.protocol(format!("the answer is no response: {error}")))
    }

    /// The outcome that a response states.
    fn outcome(&self, response: Response, id: u64) -> Result<Value, ClientError> {
        // An error with a null id is about the connection, and this request the only one on it.
        let ours = response.id.as_u64() == Some(id) || response.id.is_null();
        match (response.result, response.error) {
            (None, Some(error)) if ours => Err(error.into()),
            (Some(result), None) if response.id.as_u64() == Some(id) => Ok(result),
            (None, None) | (Some(_), Some(_)) => {
                let reason = "the answer must hold either a result or an error";
                Err(self.protocol(reason.to_owned()))
            }
            _ => Err(self.protocol(format!("the answer is for request {}, not {id}", response.id))),
        }
    }

    /// Sends a request and receives its answer, within the time limit.
    async fn exchange(&mut self, what: &str, text: Vec<u8>) -> Result<Box<RawValue>, ClientError> {
        let answer = self.exchange_within(what, text, true).await?;
        answer.ok_or_else(|| self.protocol("no answer".to_owned()))
    }

    /// As [`Client::exchange`], where an answer may not be expected.
    async fn exchange_within(
        &mut self,
        what: &str,
        text: Vec<u8>,
        answered: bool,
    ) -> Result<Option<Box<RawValue>>, ClientError> {
        if self.out_of_step {
            let reason = "an earlier call on this connection was given up; connect again";
            return Err(self.protocol(reason.to_owned()));
        }
        self.out_of_step = true;
        let answer = match self.timeout {
            None => self.transfer(text, answered).await?,
            Some(after) => {
                timeout(after, self.transfer(text, answered)).await.map_err(|_| {
                    ClientError::Timeout { path: self.path.clone(), what: what.to_owned(), after }
                })??
            }
        };
        self.out_of_step = false;
        Ok(answer)
    }

    /// Writes a request and reads one value.
    async fn transfer(
        &mut self,
        mut text: Vec<u8>,
        answered: bool,
    ) -> Result<Option<Box<RawValue>>, ClientError> {
        text.push(b'\n');
        let sent = self.stream.write_all(&text).await;
        if !answered {
            return sent.map(|()| None).map_err(|source| self.io("send the request", source));
        }
        // A server that refuses a connection or a request may stop reading before everything is
        // sent; why it did is in the answer that waits to be read.
        match (self.receive().await, sent) {
            (Ok(answer), _) => Ok(Some(answer)),
            (Err(_), Err(source)) => Err(self.io("send the request", source)),
            (Err(error), Ok(())) => Err(error),
        }
    }

    /// Reads one value.
    async fn receive(&mut self) -> Result<Box<RawValue>, ClientError> {
        let mut chunk = vec![0; READ_BYTES];
        loop {
            let value = match self.framer.next_value() {
                Ok(Some(value)) => Some(serde_json::from_slice(value).map_err(|e| e.to_string())),
                Ok(None) => None,
                Err(error) => Some(Err(error.to_string())),
            };
            if let Some(value) = value {
                return value
                    .map_err(|error| self.protocol(format!("the answer is not JSON: {error}")));
            }
            match self.stream.read(&mut chunk).await {
                Ok(0) => {
                    let reason = "the server closed the connection before it answered";
                    return Err(self.protocol(reason.to_owned()));
                }
                Ok(length) => self.framer.push(&chunk[..length]),
                Err(source) => return Err(self.io("receive the answer", source)),
            }
        }
    }

    fn protocol(&self, reason: String) -> ClientError {
        ClientError::Protocol { path: self.path.clone(), reason }
    }

    fn io(&self, action: &'static str, source: io::Error) -> ClientError {
        ClientError::Io { path: self.path.clone(), action, source }
    }
}

/// Connects; waits while the server's queue of connections is full, which the kernel reports as
/// EAGAIN.
async fn connect(path: &Path) -> Result<UnixStream, ClientError> {
    loop {
        let source = match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let path = path.to_owned();
        return Err(match source.kind() {
            io::ErrorKind::WouldBlock => {
                sleep(CONNECT_PAUSE).await;
                continue;
            }
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning { path, source }
            }
            io::ErrorKind::PermissionDenied => ClientError::Denied { path, source },
            _ => ClientError::Io { path, action: "connect", source },
        });
    }
}

/// Whether the server answers this entry: it answers everything but a valid notification.
fn expects_answer(entry: &Value) -> bool {
    let Value::Object(members) = entry else { return true };
    let notification = members.iter().all(|(name, value)| match name.as_str() {
        "jsonrpc" => value == "2.0",
        "method" => value.is_string(),
        "params" => value.is_null() || value.is_array() || value.is_object(),
        _ => false,
    });
    !(notification && members.contains_key("jsonrpc") && members.contains_key("method"))
}

/// Deserializes a member that is there, null included: null is a result.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
