//! `bdev_nvme_send_cmd`: a command of the caller's own making.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};
use spdk_rs::bdev::NvmeCommand;
use spdk_rs::drivers::nvme::{Passed, Transfer};
use spdk_rs::nvme::spec::DataDirection;

use crate::rpc::errors::{self, RpcResult};
use crate::rpc::params::def::{choice, form, int, not_done, only, optional, required, words};
use crate::rpc::params::{Defs, Kind, Name, Param, ParamError, Params, Request};
use crate::rpc::{Context, Method};

/// SPDK's tools pad, and others do not: both are taken.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of a command.
const COMMAND_BYTES: usize = 64;

/// Bytes of data of a command at the most.
const DATA_BYTES_MAX: usize = 1 << 20;

/// The longest time-out in milliseconds: a day.
const TIMEOUT_MS_MAX: i128 = 86_400_000;

/// SPDK's words for the queues of commands.
const QUEUES: [(&str, Passed); 2] = [("admin", Passed::Admin), ("io", Passed::Io)];

/// SPDK's words for the ways of data.
const WAYS: [(&str, DataDirection); 2] =
    [("c2h", DataDirection::ControllerToHost), ("h2c", DataDirection::HostToController)];

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("bdev_nvme_send_cmd", "Sends a command to a controller as it is.", send)
            .answers(
                "object: `cpl`, the 16 bytes of the completion, and `data`, what the controller \
                 sent, both in base64url; the status of a command that failed is in its completion",
            ),
    ]
}

/// The 16 dwords of a command.
struct CommandBytes(NvmeCommand);

impl Param for CommandBytes {
    fn of(value: &Value) -> Option<Self> {
        let bytes = BASE64.decode(value.as_str()?).ok()?;
        (bytes.len() == COMMAND_BYTES).then(|| {
            let mut command = NvmeCommand::default();
            for (word, bytes) in command.0.iter_mut().zip(bytes.chunks_exact(4)) {
                *word = bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
            }
            Self(command)
        })
    }
}

/// Data for a controller.
struct Data(Vec<u8>);

impl Param for Data {
    fn of(value: &Value) -> Option<Self> {
        let bytes = BASE64.decode(value.as_str()?).ok()?;
        (bytes.len() <= DATA_BYTES_MAX).then_some(Self(bytes))
    }
}

struct SendCmd {
    name: Name,
    queue: Passed,
    command: NvmeCommand,
    data: Transfer,
    timeout: Option<Duration>,
}

impl Request for SendCmd {
    const PARAMS: Defs = &[&[
        required("name", Kind::Name, "Name of the controller."),
        required("cmd_type", choice(&words(&QUEUES)), "The queue that the command is for."),
        required("data_direction", choice(&words(&WAYS)), "Which way its data go."),
        required(
            "cmdbuf",
            form(
                "64 bytes in base64url",
                "BgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
            ),
            "The command as a submission queue entry; its identifier and data pointer are the \
             engine's to fill in.",
        ),
        optional(
            "data",
            form("0 to 1048576 bytes in base64url", "AAECAwQFBgc="),
            "What the controller gets.",
        ),
        optional(
            "data_len",
            int(0, DATA_BYTES_MAX as i128),
            "How many bytes the controller sends.",
        )
        .or_int(0),
        optional(
            "timeout_ms",
            int(0, TIMEOUT_MS_MAX),
            "How long to wait for the end, in milliseconds; 0 is any time.",
        )
        .or_int(0),
        only("metadata_len", "0", "blocks carry no metadata"),
        not_done("metadata", "blocks carry no metadata"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let CommandBytes(command) = params.required("cmdbuf")?;
        let way = params.required_choice("data_direction", &WAYS)?;
        let len: u64 = params.required("data_len")?;
        let given: Option<Data> = params.optional("data")?;
        let data = match (way, given) {
            (DataDirection::ControllerToHost, Some(_)) => {
                let allowed = "a command whose data come (c2h) gets none; leave it out";
                return Err(params.refuse("data", allowed));
            }
            (DataDirection::ControllerToHost, None) if len == 0 => Transfer::None,
            (DataDirection::ControllerToHost, None) => {
                Transfer::In(usize::try_from(len).unwrap_or(DATA_BYTES_MAX))
            }
            (_, Some(Data(bytes))) if len == 0 || bytes.len() as u64 == len => Transfer::Out(bytes),
            (_, Some(_)) => {
                return Err(params.refuse("data_len", "it has to be the length of `data`"));
            }
            (_, None) if len == 0 => Transfer::None,
            (_, None) => {
                return Err(params.refuse("data_len", "data that go (h2c) have to be in `data`"));
            }
        };
        // The two low bits of an opcode tell the way of its data (NVMe Base 2.0, section 3.3.3.1).
        let opcode_way = match command.opcode() & 3 {
            1 => Some(DataDirection::HostToController),
            2 => Some(DataDirection::ControllerToHost),
            _ => None,
        };
        if data != Transfer::None && opcode_way != Some(way) {
            let allowed = "it has to be the way that the opcode of `cmdbuf` tells (bits 1:0)";
            return Err(params.refuse("data_direction", allowed));
        }
        let ms: u64 = params.required("timeout_ms")?;
        Ok(Self {
            name: params.required("name")?,
            queue: params.required_choice("cmd_type", &QUEUES)?,
            command,
            data,
            timeout: (ms != 0).then(|| Duration::from_millis(ms)),
        })
    }
}

async fn send(context: Arc<Context>, request: SendCmd) -> RpcResult<Value> {
    let SendCmd { name: Name(name), queue, command, data, timeout } = request;
    let nvme = context.engine()?.nvme();
    let passed = nvme.pass(&name, queue, &command, data, timeout).await;
    let outcome = passed.map_err(|error| errors::failed(&error))?;
    // Identifiers and heads of queues are the engine's own affair; the status lies behind the
    // phase tag.
    let mut cpl = [0; 16];
    cpl[..8].copy_from_slice(&outcome.result.to_le_bytes());
    cpl[14..].copy_from_slice(&(outcome.status.bits() << 1).to_le_bytes());
    let mut answer = json!({ "cpl": BASE64.encode(cpl) });
    if !outcome.data.is_empty() {
        answer["data"] = BASE64.encode(&outcome.data).into();
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::params::{Given, read};

    fn request(changes: &[(&str, Value)]) -> Result<SendCmd, String> {
        let mut bytes = [0_u8; 64];
        bytes[0] = 6;
        bytes[40] = 1;
        let mut params = json!({
            "name": "n", "cmd_type": "admin", "data_direction": "c2h",
            "cmdbuf": BASE64.encode(bytes), "data_len": 4096,
        });
        for (name, value) in changes {
            params[*name] = value.clone();
        }
        let given: Given = serde_json::from_value(params).expect("an object");
        read(&given).map_err(|error| error.to_string())
    }

    #[test]
    fn a_command_is_read_word_by_word() {
        let read = request(&[]).expect("an identify");
        assert_eq!((read.command.opcode(), read.command.0[10]), (6, 1));
        assert_eq!((read.data, read.timeout), (Transfer::In(4096), None));
        let unpadded = BASE64.encode([6; 64]).trim_end_matches('=').to_owned();
        assert!(request(&[("cmdbuf", unpadded.into())]).is_ok());
    }

    #[test]
    fn contradictions_are_refused() {
        for (changes, words) in [
            (vec![("cmdbuf", json!("AAAA"))], "64 bytes in base64url"),
            (vec![("data", json!("AAAA"))], "`data` cannot be"),
            (vec![("data_direction", json!("h2c"))], "`data_len` cannot be 4096"),
            (
                vec![
                    ("data_direction", json!("h2c")),
                    ("data_len", json!(3)),
                    ("data", json!("AAAA")),
                ],
                "the way that the opcode",
            ),
            (vec![("metadata_len", json!(8))], "no metadata"),
        ] {
            let refused = request(&changes).err().unwrap_or_else(|| panic!("{changes:?}"));
            assert!(refused.contains(words), "{refused}");
        }
    }
}
