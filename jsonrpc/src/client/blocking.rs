//! The client for programs that have no tokio runtime, such as command lines.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Handle};

use super::{Client, ClientError};

/// Connects, calls one method, and disconnects. `timeout` covers all of it.
///
/// # Errors
///
/// [`ClientError`].
pub fn call(
    path: &Path,
    method: &str,
    params: Option<Value>,
    timeout: Duration,
) -> Result<Value, ClientError> {
    wait(path, method, timeout, async {
        let mut client = Client::connect(path).await?;
        client.set_timeout(None);
        client.call(method, params).await
    })
}

/// Connects, sends one request as it is, and disconnects; see [`Client::call_raw`]. `timeout`
/// covers all of it.
///
/// # Errors
///
/// [`ClientError`].
pub fn call_raw(
    path: &Path,
    request: &str,
    timeout: Duration,
) -> Result<Option<Box<RawValue>>, ClientError> {
    wait(path, "the request", timeout, async {
        let mut client = Client::connect(path).await?;
        client.set_timeout(None);
        client.call_raw(request).await
    })
}

/// Runs `work` on a runtime of its own; in a thread of its own where the calling thread already
/// runs one.
fn wait<T: Send>(
    path: &Path,
    what: &str,
    after: Duration,
    work: impl Future<Output = Result<T, ClientError>> + Send,
) -> Result<T, ClientError> {
    let run = move || {
        let failed = |source| ClientError::Io {
            path: path.to_owned(),
            action: "start a runtime for the call",
            source,
        };
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let late = || ClientError::Timeout { path: path.to_owned(), what: what.to_owned(), after };
        runtime
            .block_on(async { tokio::time::timeout(after, work).await })
            .unwrap_or_else(|_| Err(late()))
    };
    if Handle::try_current().is_err() {
        return run();
    }
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
