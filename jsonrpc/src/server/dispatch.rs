//! From the text of a value to calls of methods and their answers.
//!
//! Invariants:
//!
//! - The id of a request comes back byte for byte, so numbers of any size and precision survive.
//! - A notification is never answered, not even with an error (JSON-RPC 2.0, section 4.1).
//! - The answers of a batch leave one by one as they are made: a large batch needs no large buffer.
//! - A method that was begun runs to its end even when its connection dies, so nothing is left half
//!   done.

use std::borrow::Cow;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use jsonrpsee::core::server::{
    ConnectionId, Extensions, MethodCallback, MethodResponse, MethodResponseNotifyTx, Methods,
};
use jsonrpsee::types::{ErrorObject, ErrorObjectOwned, Id, Params};
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::connection::{Closed, Output};
use super::limits::{Limits, ServerStats};
use crate::codes;

/// How a connection goes on after a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// With the next value.
    Next,
    /// Not at all: what was read is not JSON.
    Close,
}

/// One answer, and whom to tell when it has been written.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) json: String,
    pub(super) notify: Option<(MethodResponseNotifyTx, bool)>,
}

impl Reply {
    /// An error that the server itself answers.
    pub(super) fn error(id: &str, error: &ErrorObject<'_>) -> Self {
        #[derive(Serialize)]
        struct Answer<'a> {
            jsonrpc: &'static str,
            id: &'a RawValue,
            error: &'a ErrorObject<'a>,
        }
        let id = serde_json::from_str(id).unwrap_or(RawValue::NULL);
        let answer = Answer { jsonrpc: "2.0", id, error };
        // Serialising strings, integers and text that was JSON already has no way to fail.
        let json = serde_json::to_string(&answer).unwrap_or_default();
        Self { json, notify: None }
    }
}

/// Calls the methods of one connection.
#[derive(Debug)]
pub(super) struct Dispatcher<'a> {
    pub(super) methods: &'a Methods,
    pub(super) limits: &'a Limits,
    pub(super) stats: &'a ServerStats,
    pub(super) connection: ConnectionId,
    /// What methods are told about their caller: connection id and peer credentials.
    pub(super) extensions: Extensions,
}

impl Dispatcher<'_> {
    /// Executes one value of the stream and sends its answers.
    pub(super) async fn serve(&self, value: &[u8], out: &Output<'_>) -> Result<Flow, Closed> {
        let refusal = match std::str::from_utf8(value) {
            Ok(text) => match text.as_bytes().first() {
                Some(b'{') => match self.serve_one(text, out).await? {
                    Ok(()) => return Ok(Flow::Next),
                    Err(error) => error,
                },
                Some(b'[') => match self.serve_batch(text, out).await? {
                    Ok(()) => return Ok(Flow::Next),
                    Err(error) => error,
                },
                _ => diagnose(text, "a request is an object, a batch an array"),
            },
            Err(error) => codes::parse_error(error),
        };
        out.send(Reply::error("null", &refusal)).await?;
        Ok(if refusal.code() == codes::PARSE_ERROR { Flow::Close } else { Flow::Next })
    }

    /// A single request; the error is one that concerns no request.
    async fn serve_one(
        &self,
        text: &str,
        out: &Output<'_>,
    ) -> Result<Result<(), ErrorObjectOwned>, Closed> {
        match Request::parse(text) {
            Ok(request) => {
                if let Some(reply) = self.call(&request).await {
                    out.send(reply).await?;
                }
                Ok(Ok(()))
            }
            Err(error) => {
                let refusal = diagnose(text, error);
                if refusal.code() == codes::PARSE_ERROR {
                    return Ok(Err(refusal));
                }
                out.send(Reply::error(salvaged_id(text), &refusal)).await?;
                Ok(Ok(()))
            }
        }
    }

    /// A batch; the error is one that concerns the batch as a whole.
    async fn serve_batch(
        &self,
        text: &str,
        out: &Output<'_>,
    ) -> Result<Result<(), ErrorObjectOwned>, Closed> {
        let entries = match parse_batch(text, self.limits.max_batch_requests) {
            Ok(entries) if entries.is_empty() => {
                return Ok(Err(codes::invalid_request("the batch is empty")));
            }
            Ok(entries) => entries,
            Err(error) => return Ok(Err(self.diagnose_batch(text, &error))),
        };
        let mut open = '[';
        for entry in entries {
            let reply = match Request::parse(entry.get()) {
                Ok(request) => self.call(&request).await,
                Err(error) => {
                    let refusal = codes::invalid_request(error);
                    Some(Reply::error(salvaged_id(entry.get()), &refusal))
                }
            };
            if let Some(mut reply) = reply {
                reply.json.insert(0, open);
                out.send_part(reply).await?;
                open = ',';
            }
        }
        if open == ',' {
            out.send(Reply { json: "]".to_owned(), notify: None }).await?;
        }
        Ok(Ok(()))
    }

    /// Why a batch was refused as a whole: it is not JSON, or it is too long.
    fn diagnose_batch(&self, text: &str, error: &serde_json::Error) -> ErrorObjectOwned {
        let refusal = diagnose(text, error);
        if refusal.code() == codes::PARSE_ERROR {
            return refusal;
        }
        let limit = self.limits.max_batch_requests;
        let data = format!("a batch may hold {limit} requests");
        ErrorObject::owned(codes::BATCH_TOO_LARGE, "The batch request was too large", Some(data))
    }

    /// Calls the method of a request. Nothing is answered to a notification.
    async fn call(&self, request: &Request<'_>) -> Option<Reply> {
        tokio::task::coop::consume_budget().await;
        let id = request.id.unwrap_or("null");
        let reply = match self.invoke(request).await {
            Ok(response) => self.finish(id, response),
            Err(error) => Reply::error(id, &error),
        };
        request.id.map(|_| reply)
    }

    /// Runs the method itself. jsonrpsee's `Id` cannot hold every JSON-RPC id (negative, fractional
    /// and large numbers), so methods run under a null id, which [`with_id`] replaces.
    async fn invoke(&self, request: &Request<'_>) -> Result<MethodResponse, ErrorObjectOwned> {
        let name: &str = &request.method;
        let Some(method) = self.methods.method(name) else {
            let data = Some(name.chars().take(128).collect::<String>());
            return Err(ErrorObject::owned(codes::METHOD_NOT_FOUND, "Method not found", data));
        };
        tracing::trace!(method = name, connection = self.connection.0, "RPC");
        self.stats.requests.fetch_add(1, Ordering::Relaxed);
        let params = Params::new(request.params);
        let max = self.limits.max_response_bytes;
        let extensions = self.extensions.clone();
        let outcome = match method {
            MethodCallback::Sync(call) => {
                catch_unwind(AssertUnwindSafe(|| call(Id::Null, params, max, extensions)))
                    .map_err(|panic| panic_text(&*panic))
            }
            MethodCallback::Async(call) => {
                let (call, params) = (call.clone(), params.into_owned());
                let connection = self.connection;
                // A task of its own contains a panic, and outlives the connection.
                let task = tokio::spawn(async move {
                    call(Id::Null, params, connection, max, extensions).await
                });
                task.await.map_err(|error| match error.try_into_panic() {
                    Ok(panic) => panic_text(&*panic),
                    Err(cancelled) => cancelled.to_string(),
                })
            }
            MethodCallback::Subscription(_) | MethodCallback::Unsubscription(_) => {
                let data = "subscriptions are not available on the Unix socket";
                let message = "Method not found";
                return Err(ErrorObject::owned(codes::METHOD_NOT_FOUND, message, Some(data)));
            }
        };
        outcome.map_err(|text| {
            self.stats.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(method = name, panic = %text, "an RPC method panicked");
            let data = format!("the method {name} panicked; the cause is in the server's log");
            ErrorObject::owned(codes::INTERNAL_ERROR, "Internal error", Some(data))
        })
    }

    /// Puts the id into a method's response, and replaces one that is too long.
    fn finish(&self, id: &str, response: MethodResponse) -> Reply {
        let success = response.is_success();
        let (json, notify, _) = response.into_parts();
        let max = self.limits.max_response_bytes;
        let error = if json.get().len() > max {
            let data = format!("a response may have {max} bytes");
            let message = "Response is too big";
            ErrorObject::owned(codes::RESPONSE_TOO_LARGE, message, Some(data))
        } else if let Some(json) = with_id(json, id) {
            return Reply { json, notify: notify.map(|notify| (notify, success)) };
        } else {
            codes::internal_error("Internal error")
        };
        Reply { notify: notify.map(|notify| (notify, false)), ..Reply::error(id, &error) }
    }
}

/// The parts of a request. Members that the specification does not know are refused, as SPDK does:
/// what they were meant to say would be lost.
#[derive(Debug)]
struct Request<'a> {
    method: Cow<'a, str>,
    params: Option<&'a str>,
    /// The id as it was written; none for a notification.
    id: Option<&'a str>,
}

/// Why some JSON is no request.
#[derive(Debug)]
enum RequestError {
    Json(serde_json::Error),
    Member(&'static str),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => error.fmt(f),
            Self::Member(text) => f.write_str(text),
        }
    }
}

impl<'a> Request<'a> {
    /// Reads a request object. The error does not tell bad JSON from a bad request; [`diagnose`]
    /// does.
    fn parse(text: &'a str) -> Result<Self, RequestError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Members<'a> {
            #[serde(borrow, default, deserialize_with = "present")]
            jsonrpc: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "present")]
            method: Option<&'a RawValue>,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
            #[serde(borrow, default, deserialize_with = "present")]
            id: Option<&'a RawValue>,
        }
        if !text.starts_with('{') {
            return Err(RequestError::Member("a request is an object"));
        }
        let members: Members<'a> = serde_json::from_str(text).map_err(RequestError::Json)?;
        let version = members.jsonrpc.ok_or(RequestError::Member("\"jsonrpc\" is missing"))?;
        if serde_json::from_str::<Cow<'_, str>>(version.get()).ok().as_deref() != Some("2.0") {
            return Err(RequestError::Member("\"jsonrpc\" must be \"2.0\""));
        }
        let method = members.method.ok_or(RequestError::Member("\"method\" is missing"))?;
        let method = serde_json::from_str::<String>(method.get())
            .map_err(|_| RequestError::Member("\"method\" must be a string"))?;
        let params = members.params.map(RawValue::get);
        if params.is_some_and(|params| !params.starts_with(['{', '['])) {
            return Err(RequestError::Member("\"params\" must be an object or an array"));
        }
        let id = members.id.map(RawValue::get);
        if id.is_some_and(|id| !is_id(id)) {
            return Err(RequestError::Member("\"id\" must be a string, a number or null"));
        }
        Ok(Self { method: Cow::Owned(method), params, id })
    }
}

/// Whether a JSON value may be an id: a string, a number or null.
fn is_id(raw: &str) -> bool {
    raw == "null" || raw.starts_with(|c: char| matches!(c, '"' | '-' | '0'..='9'))
}

/// Deserializes a member that is there, null included; serde's own `Option` would take null for
/// absence.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The id of an object that is no valid request, where it has one; null otherwise.
fn salvaged_id(text: &str) -> &str {
    #[derive(Deserialize)]
    struct IdOnly<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    if !text.starts_with('{') {
        return "null";
    }
    match serde_json::from_str::<IdOnly<'_>>(text) {
        Ok(IdOnly { id: Some(id) }) if is_id(id.get()) => id.get(),
        _ => "null",
    }
}

/// The error for text that could not be used: a parse error if it is not JSON, else an invalid
/// request.
fn diagnose(text: &str, reason: impl ToString) -> ErrorObjectOwned {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(_) => codes::invalid_request(reason),
        Err(error) => codes::parse_error(error),
    }
}

/// The entries of a batch, at most `max`.
fn parse_batch(text: &str, max: usize) -> Result<Vec<&RawValue>, serde_json::Error> {
    struct Entries(usize);
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of requests")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = seq.next_element::<&RawValue>()? {
                if entries.len() == self.0 {
                    return Err(A::Error::custom("too many requests"));
                }
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let entries = deserializer.deserialize_seq(Entries(max))?;
    deserializer.end()?;
    Ok(entries)
}

/// Replaces the null id under which a method ran; none if the response is no response at all.
fn with_id(json: Box<RawValue>, id: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Outcome<'a> {
        #[serde(borrow, default, deserialize_with = "present")]
        result: Option<&'a RawValue>,
        #[serde(borrow, default, deserialize_with = "present")]
        error: Option<&'a RawValue>,
    }
    // The form in which jsonrpsee writes every response; anything else goes the long way.
    const HEAD: &str = r#"{"jsonrpc":"2.0","id":null,"#;
    if let Some(rest) = json.get().strip_prefix(HEAD) {
        if id == "null" {
            return Some(String::from(Box::<str>::from(json)));
        }
        return Some(format!(r#"{{"jsonrpc":"2.0","id":{id},{rest}"#));
    }
    let outcome: Outcome<'_> = serde_json::from_str(json.get()).ok()?;
    let (name, value) = match (outcome.result, outcome.error) {
        (Some(result), None) => ("result", result),
        (None, Some(error)) => ("error", error),
        _ => return None,
    };
    Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"{name}":{value}}}"#))
}

/// What a panic said.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}

#[cfg(test)]
mod tests;
