//! `io-engine rpc` and `io-engine bdev`: calls to a running daemon.

use std::io::Write as _;

use jsonrpc::ClientError;
use jsonrpc::client::{DEFAULT_TIMEOUT, blocking};
use serde_json::{Value, json};

use super::{BdevArgs, BdevCommand, BdevList, ClientArgs, ExitCode, RpcArgs};

/// Calls one method and prints its result.
#[must_use]
pub fn rpc(args: &RpcArgs) -> ExitCode {
    if args.describe {
        let all = crate::rpc::methods();
        return match all.iter().find(|method| method.name() == args.method) {
            Some(method) => print(crate::rpc::docs::describe(method).trim_end()),
            None => {
                let words =
                    format!("there is no method '{}'; rpc_get_methods lists them all", args.method);
                fail(ExitCode::Usage, &words)
            }
        };
    }
    match call(&args.client, &args.method, args.params.clone()) {
        Ok(result) => print(&format!("{result:#}")),
        Err(code) => code,
    }
}

/// Lists, creates or destroys devices.
#[must_use]
pub fn bdev(args: &BdevArgs) -> ExitCode {
    let (method, params) = match &args.command {
        BdevCommand::List { name: None, .. } => ("bdev_get_bdevs", None),
        BdevCommand::List { name: Some(name), .. } => {
            ("bdev_get_bdevs", Some(json!({ "name": name })))
        }
        BdevCommand::Create { uri } => ("bdev_create", Some(json!({ "uri": uri.to_string() }))),
        BdevCommand::Destroy { name } => ("bdev_destroy", Some(json!({ "name": name }))),
    };
    let result = match call(&args.client, method, params) {
        Ok(result) => result,
        Err(code) => return code,
    };
    match &args.command {
        BdevCommand::List { output, .. } => match BdevList::new(result) {
            Ok(list) => print(&list.render(*output)),
            Err(error) => fail(ExitCode::Failure, &format!("{method}: unexpected result: {error}")),
        },
        BdevCommand::Create { .. } => print(result.as_str().unwrap_or_default()),
        BdevCommand::Destroy { .. } => ExitCode::Success,
    }
}

pub(super) fn call(
    client: &ClientArgs,
    method: &str,
    params: Option<Value>,
) -> Result<Value, ExitCode> {
    let result = blocking::call(&client.rpc_socket, method, params, DEFAULT_TIMEOUT);
    result.map_err(|error| answered(method, &error))
}

/// Says why a call failed, and gives the code to end with.
pub(super) fn answered(method: &str, error: &ClientError) -> ExitCode {
    match error {
        ClientError::Rpc { code, message, data } => {
            let data = data.as_ref().map_or_else(String::new, |data| format!(": {data}"));
            fail(ExitCode::Refused, &format!("{method}: {message}{data} (code {code})"))
        }
        ClientError::NotRunning { .. }
        | ClientError::Denied { .. }
        | ClientError::Timeout { .. } => fail(ExitCode::Unreachable, &error.to_string()),
        _ => fail(ExitCode::Failure, &error.to_string()),
    }
}

/// Prints a result. A reader that has gone (`| head`) is no failure.
pub(super) fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            fail(ExitCode::Failure, &format!("cannot write to standard output: {error}"))
        }
        _ => ExitCode::Success,
    }
}

pub(super) fn fail(code: ExitCode, words: &str) -> ExitCode {
    eprintln!("io-engine: {words}");
    code
}
