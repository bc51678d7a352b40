//! How a controller is reached: through the daemon that has it, or by an engine in this process.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE as BASE64;
use jsonrpc::ClientError;
use jsonrpc::client::blocking;
use serde_json::{Value, json};
use spdk_rs::NvmeStatus;
use spdk_rs::nvme::PciAddress;
use spdk_rs::nvme::spec::Sqe;
use zerocopy::IntoBytes;

use super::ControllerArgs;
use crate::bdev::{self, BdevUri};
use crate::cli::remote::{answered, fail};
use crate::cli::{ClientArgs, EnvArgs, ExitCode};
use crate::core::Engine;
use crate::interrupts::Interrupts;
use crate::rpc::{self, Context};

/// How long a call may take: a format of a large drive takes its time.
const TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// Memory of an engine that runs for one command, in MiB.
const MEMORY_MIB: u32 = 32;

/// A controller, and perhaps one of its namespaces.
pub(super) struct Target {
    /// The name by which it is attached.
    pub(super) controller: String,
    /// The namespace that was asked for.
    pub(super) nsid: Option<u32>,
    access: Access,
}

enum Access {
    /// A daemon has it.
    Daemon(ClientArgs),
    /// This process has it.
    Own(Box<Own>),
}

/// An engine for one command.
struct Own {
    control: tokio::runtime::Runtime,
    interrupts: RefCell<Interrupts>,
    context: Arc<Context>,
    engine: Arc<Engine>,
}

impl Target {
    /// Finds the controller, or attaches it.
    pub(super) fn open(client: &ClientArgs, place: &ControllerArgs) -> Result<Self, ExitCode> {
        let known = controllers(client);
        let text = place.controller.as_str();
        if !text.contains("://") {
            let known = known.map_err(|error| answered(LIST, &error))?;
            return Self::named(client, place, &known);
        }
        let uri =
            BdevUri::parse(text).map_err(|error| fail(ExitCode::Usage, &error.to_string()))?;
        let known = match known {
            Ok(known) => known,
            Err(ClientError::NotRunning { .. }) => Value::Null,
            Err(error) => return Err(answered(LIST, &error)),
        };
        let has_it = |one: &&Value| {
            let paths = one["ctrlrs"].as_array();
            paths.is_some_and(|paths| paths.iter().any(|path| is_at(&uri, &path["trid"])))
        };
        if let Some(one) = known.as_array().and_then(|all| all.iter().find(has_it)) {
            let controller = one["name"].as_str().unwrap_or_default().to_owned();
            let nsid = place.nsid.or_else(|| nsid_of(&uri));
            let access = Access::Daemon(client.clone());
            return Ok(Self { controller, nsid, access });
        }
        Self::attach(text, place.nsid)
    }

    /// A controller of the daemon, by its name or by a device of it.
    fn named(client: &ClientArgs, place: &ControllerArgs, known: &Value) -> Result<Self, ExitCode> {
        let text = place.controller.as_str();
        let access = Access::Daemon(client.clone());
        for one in known.as_array().into_iter().flatten() {
            let name = one["name"].as_str().unwrap_or_default();
            let devices = one["bdevs"].as_array();
            let is_device = devices.is_some_and(|all| all.iter().any(|device| device == text));
            let suffix = text.strip_prefix(name).and_then(|rest| rest.strip_prefix('n'));
            if name == text || is_device {
                let of_device = suffix.filter(|_| is_device).and_then(|nsid| nsid.parse().ok());
                let nsid = place.nsid.or(of_device);
                return Ok(Self { controller: name.to_owned(), nsid, access });
            }
        }
        let words = format!(
            "the daemon has no NVMe controller and no namespace '{text}'; io-engine nvme list \
             shows what it has, and a URI (pcie:///0000:01:00.0) needs no daemon"
        );
        Err(fail(ExitCode::Refused, &words))
    }

    /// Attaches a controller in this process.
    fn attach(uri: &str, nsid: Option<u32>) -> Result<Self, ExitCode> {
        let failed = |error: &dyn std::fmt::Display| fail(ExitCode::Resources, &error.to_string());
        let env = EnvArgs { mem_size: MEMORY_MIB, ..EnvArgs::default() };
        let options = env.engine_options().map_err(|error| failed(&error))?;
        let control = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let control = control.map_err(|error| failed(&error))?;
        let engine = Engine::start(&options).map_err(|error| failed(&rpc_words(&error)))?;
        let context = Context::new();
        context.set_engine(Arc::clone(&engine));
        let interrupts = {
            let _inside = control.enter();
            RefCell::new(Interrupts::new().map_err(|error| failed(&error))?)
        };
        let own = Own { control, interrupts, context, engine };
        let attached = own.unless_interrupted(bdev::attach_controller(&own.engine, uri))?;
        let (controller, of_uri) = attached.map_err(|error| {
            let code = match error {
                bdev::BdevError::Uri(_) => ExitCode::Config,
                _ => ExitCode::Resources,
            };
            fail(code, &rpc_words(&error))
        })?;
        let access = Access::Own(Box::new(own));
        Ok(Self { controller, nsid: nsid.or(of_uri), access })
    }

    /// The namespace, which has to be told.
    pub(super) fn namespace(&self) -> Result<u32, ExitCode> {
        self.nsid.ok_or_else(|| {
            fail(ExitCode::Usage, "which namespace: --nsid NSID, or the name of its device")
        })
    }

    /// Calls a method.
    pub(super) fn call(&self, method: &str, params: Value) -> Result<Value, ExitCode> {
        match &self.access {
            Access::Daemon(client) => {
                let result = blocking::call(&client.rpc_socket, method, Some(params), TIMEOUT);
                result.map_err(|error| answered(method, &error))
            }
            Access::Own(own) => own.call(method, params),
        }
    }

    /// Sends an admin command whose data come from the controller.
    pub(super) fn admin(&self, sqe: &Sqe, bytes: u64, what: &str) -> Result<Vec<u8>, ExitCode> {
        self.send("admin", sqe, bytes, what)
    }

    /// Sends an I/O command without data, or whose data come from the controller.
    pub(super) fn io(&self, sqe: &Sqe, bytes: u64, what: &str) -> Result<Vec<u8>, ExitCode> {
        self.send("io", sqe, bytes, what)
    }

    fn send(&self, queue: &str, sqe: &Sqe, bytes: u64, what: &str) -> Result<Vec<u8>, ExitCode> {
        let params = json!({
            "name": self.controller,
            "cmd_type": queue,
            "data_direction": "c2h",
            "cmdbuf": BASE64.encode(sqe.as_bytes()),
            "data_len": bytes,
        });
        let answer = self.call("bdev_nvme_send_cmd", params)?;
        let bytes = |name: &str| BASE64.decode(answer[name].as_str().unwrap_or_default());
        let (Ok(cpl), Ok(data)) = (bytes("cpl"), bytes("data")) else {
            return Err(fail(ExitCode::Failure, &format!("{what}: the answer is not base64url")));
        };
        let word = cpl.get(14..16).map_or(0, |word| u16::from(word[1]) << 8 | u16::from(word[0]));
        let status = NvmeStatus::from_bits(word >> 1);
        if status.is_success() {
            return Ok(data);
        }
        Err(fail(ExitCode::Refused, &format!("the controller refused '{what}': {status}")))
    }

    /// Gives a controller back that was attached for the command.
    pub(super) fn close(self) {
        let Access::Own(own) = self.access else { return };
        let detached = own.control.block_on(own.engine.nvme().detach(&self.controller, None));
        if let Err(error) = detached {
            // The command has been done; the end of the process ends the controller's use.
            tracing::debug!(%error, "not detached");
        }
    }
}

impl Own {
    /// Waits for something that the controller does. When a signal comes first, the controller is
    /// stopped and let go of in order; a second one ends the process at once.
    fn unless_interrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, ExitCode> {
        let mut interrupts = self.interrupts.borrow_mut();
        self.control.block_on(async {
            tokio::select! {
                done = work => return Ok(done),
                () = interrupts.next() => {}
            }
            let words = tokio::select! {
                () = bdev::detach_controllers(&self.engine) => "the controller was let go of",
                () = interrupts.next() => "twice; the controller is left to the kernel",
            };
            Err(fail(ExitCode::Failure, &format!("interrupted: {words}")))
        })
    }

    fn call(&self, method: &str, params: Value) -> Result<Value, ExitCode> {
        let methods = rpc::methods();
        let found = methods.iter().find(|one| one.name() == method);
        let given = serde_json::from_value(params);
        let (Some(found), Ok(given)) = (found, given) else {
            return Err(fail(ExitCode::Failure, &format!("{method}: it cannot be called")));
        };
        let called = found.call(Arc::clone(&self.context), &given);
        self.unless_interrupted(called)?
            .map_err(|error| fail(ExitCode::Refused, &format!("{method}: {}", error.message())))
    }
}

/// The method that lists what a daemon has.
const LIST: &str = "bdev_nvme_get_controllers";

fn controllers(client: &ClientArgs) -> Result<Value, ClientError> {
    blocking::call(&client.rpc_socket, LIST, None, jsonrpc::client::DEFAULT_TIMEOUT)
}

fn rpc_words(error: &(dyn std::error::Error + 'static)) -> String {
    rpc::errors::with_causes(error)
}

/// Whether a URI names the place of a controller, as a listing shows it.
fn is_at(uri: &BdevUri, trid: &Value) -> bool {
    let text = |name: &str| trid[name].as_str().unwrap_or_default();
    let path = uri.path().trim_start_matches('/');
    if uri.scheme() == "pcie" {
        let address = path.split('/').next().unwrap_or_default().parse::<PciAddress>();
        return address.is_ok_and(|address| text("traddr").parse() == Ok(address));
    }
    let port = uri.port().unwrap_or(4420).to_string();
    uri.host() == Some(text("traddr")) && port == text("trsvcid") && path == text("subnqn")
}

/// The namespace that a URI names.
fn nsid_of(uri: &BdevUri) -> Option<u32> {
    if uri.scheme() == "pcie" {
        return uri.path().trim_start_matches('/').split_once('/')?.1.parse().ok();
    }
    uri.params().take_str("ns")?.parse().ok()
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn a_uri_is_found_among_what_a_daemon_has() {
        let uri = |text: &str| BdevUri::parse(text).expect("a URI");
        let drive = json!({ "trtype": "PCIe", "traddr": "0000:01:00.0" });
        assert!(is_at(&uri("pcie:///01:00.0/3"), &drive));
        assert!(!is_at(&uri("pcie:///02:00.0/3"), &drive));
        assert_eq!(nsid_of(&uri("pcie:///01:00.0/3")), Some(3));
        let far = json!({
            "trtype": "TCP", "traddr": "10.0.0.1", "trsvcid": "4420", "subnqn": "nqn.2016-06.io.spdk:a",
        });
        assert!(is_at(&uri("nvmf://10.0.0.1/nqn.2016-06.io.spdk:a?ns=7"), &far));
        assert!(!is_at(&uri("nvmf://10.0.0.1:4421/nqn.2016-06.io.spdk:a"), &far));
        assert_eq!(nsid_of(&uri("nvmf://10.0.0.1/nqn.2016-06.io.spdk:a?ns=7")), Some(7));
    }
}
