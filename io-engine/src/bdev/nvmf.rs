//! `nvmf://host[:port]/nqn?ns=&name=&…` and `nvmf+tcp://…`: a namespace of a subsystem that an
//! NVMe-oF target exports over TCP.
//!
//! One URI is one device. A subsystem with several namespaces needs `ns`; without it, the error
//! lists them and nothing stays attached. All namespaces of a controller become devices; they go
//! together.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use async_trait::async_trait;
use spdk_rs::drivers::nvme::{AttachOptions, ControllerInfo, MultipathMode, MultipathPolicy};
use spdk_rs::nvme::controller::ControllerOptions;
use spdk_rs::nvme::{TransportId, check_nqn};
use uuid::Uuid;

use super::dev::{BdevError, Factory};
use super::{BdevUri, Params, UriError};
use crate::core::{Engine, HostIdentity};

/// The port that IANA assigned to NVMe over Fabrics.
const PORT_DEFAULT: u16 = 4420;
/// The highest priority of a socket that needs no privilege (socket(7)).
const PRIORITY_MAX: u64 = 6;
/// The largest signed time in seconds.
const SECONDS_MAX: u64 = i32::MAX as u64;

/// What a URI says.
#[derive(Debug)]
struct Nvmf {
    /// The controller's name; namespaces are `{controller}n{nsid}`.
    controller: String,
    host: String,
    port: u16,
    subnqn: String,
    nsid: Option<u32>,
    hostnqn: Option<String>,
    hostid: Option<Uuid>,
    source: Option<IpAddr>,
    priority: Option<u8>,
    /// With the defaults of the driver; the host's name and identifier are filled in later.
    options: ControllerOptions,
}

pub(super) fn parse(uri: &BdevUri) -> Result<Box<dyn Factory>, BdevError> {
    Ok(Box::new(read(uri)?))
}

/// Attaches the controller; returns its name and the number of the namespace.
pub(super) async fn attach(
    engine: &Engine,
    uri: &BdevUri,
) -> Result<(String, Option<u32>), BdevError> {
    let read = read(uri)?;
    read.attach(engine).await?;
    Ok((read.controller, read.nsid))
}

fn read(uri: &BdevUri) -> Result<Nvmf, UriError> {
    let scheme = uri.scheme();
    let Some(host) = uri.host() else {
        let form = format!("host: {scheme}://host[:port]/nqn");
        return Err(uri.params().missing(&form));
    };
    let port = uri.port().unwrap_or(PORT_DEFAULT);
    if port == 0 {
        return Err(refuse("port", "0", "it has to be 1 to 65535".to_owned()));
    }
    let subnqn = uri.path().strip_prefix('/').unwrap_or_default();
    if subnqn.is_empty() {
        return Err(uri.params().missing(&format!("subsystem: {scheme}://host[:port]/nqn")));
    }
    check_nqn(subnqn).map_err(|error| refuse("nqn", subnqn, error.to_string()))?;
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };

    let mut params = uri.params();
    let nsid = params.take_u64("ns", 1..=0xffff_fffe)?.and_then(|nsid| u32::try_from(nsid).ok());
    let controller = params.take_str("name").map(str::to_owned);
    let hostnqn = params.take_str("hostnqn").map(str::to_owned);
    if let Some(nqn) = &hostnqn {
        check_nqn(nqn).map_err(|error| refuse("hostnqn", nqn, error.to_string()))?;
    }
    let read = Nvmf {
        controller: controller.unwrap_or_else(|| format!("{shown}:{port}/{subnqn}")),
        host: host.to_owned(),
        port,
        subnqn: subnqn.to_owned(),
        nsid,
        hostnqn,
        hostid: params.take_uuid("hostid")?,
        source: take_address(&mut params)?,
        priority: params.take_u64("priority", 0..=PRIORITY_MAX)?.and_then(|p| u8::try_from(p).ok()),
        options: take_options(&mut params)?,
    };
    params.finish()?;
    read.options.check().map_err(|error| refuse("options", "these", error.to_string()))?;
    Ok(read)
}

pub(super) fn refuse(name: &'static str, value: &str, allowed: String) -> UriError {
    UriError::Value { name, value: value.to_owned(), allowed }
}

fn take_address(params: &mut Params<'_>) -> Result<Option<IpAddr>, UriError> {
    let Some(text) = params.take_str("hostaddr") else { return Ok(None) };
    let allowed = || "it has to be an IPv4 or IPv6 address of this machine".to_owned();
    text.parse().map(Some).map_err(|_| refuse("hostaddr", text, allowed()))
}

fn take_u32(
    params: &mut Params<'_>,
    name: &'static str,
    most: u64,
) -> Result<Option<u32>, UriError> {
    Ok(params.take_u64(name, 0..=most)?.and_then(|number| u32::try_from(number).ok()))
}

fn take_options(params: &mut Params<'_>) -> Result<ControllerOptions, UriError> {
    let HostIdentity { nqn, id } = HostIdentity::random();
    let mut options = ControllerOptions::new(&nqn, id);
    options.hdgst = params.take_bool("hdgst")?.unwrap_or(false);
    options.ddgst = params.take_bool("ddgst")?.unwrap_or(false);
    if let Some(ms) = take_u32(params, "keep_alive_timeout_ms", u32::MAX.into())? {
        options.keep_alive_timeout_ms = ms;
    }
    take_common(params, &mut options)?;
    Ok(options)
}

/// Takes the options that controllers of every transport have.
pub(super) fn take_common(
    params: &mut Params<'_>,
    options: &mut ControllerOptions,
) -> Result<(), UriError> {
    let number = |value: Option<u64>, place: &mut u16| {
        if let Some(value) = value.and_then(|value| u16::try_from(value).ok()) {
            *place = value;
        }
    };
    number(params.take_u64("num_io_queues", 1..=65_535)?, &mut options.num_io_queues);
    number(params.take_u64("io_queue_size", 2..=65_535)?, &mut options.io_queue_size);
    if let Some(us) = params.take_u64("timeout_us", 0..=u64::MAX)? {
        options.timeout_us = us;
    }
    options.ctrlr_loss_timeout_sec = match params.take_str("ctrlr_loss_timeout_sec") {
        Some("-1") => -1,
        _ => take_u32(params, "ctrlr_loss_timeout_sec", SECONDS_MAX)?
            .and_then(|seconds| i32::try_from(seconds).ok())
            .unwrap_or(options.ctrlr_loss_timeout_sec),
    };
    if let Some(seconds) = take_u32(params, "reconnect_delay_sec", SECONDS_MAX)? {
        options.reconnect_delay_sec = seconds;
    }
    if let Some(seconds) = take_u32(params, "fast_io_fail_timeout_sec", SECONDS_MAX)? {
        options.fast_io_fail_timeout_sec = seconds;
    }
    Ok(())
}

impl Nvmf {
    /// How to attach: who the host is comes from the URI, else from the engine.
    fn attach_options(&self, engine: &Engine) -> AttachOptions {
        let host = self.hostnqn.as_deref().map(HostIdentity::named);
        let host = host.unwrap_or_else(|| engine.host().clone());
        let mut controller = self.options.clone();
        controller.hostnqn = host.nqn;
        controller.hostid = self.hostid.unwrap_or(host.id);
        AttachOptions {
            controller,
            multipath: MultipathMode::Disable,
            policy: MultipathPolicy::ActivePassive,
        }
    }

    /// The addresses of the host, looked up on a helper thread: that may take long.
    async fn addresses(&self, engine: &Engine) -> Result<Vec<SocketAddr>, BdevError> {
        let (host, port) = (self.host.clone(), self.port);
        let found = engine
            .runtime()
            .offload()
            .call(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>));
        let found = found.await.map_err(|cancelled| BdevError::driver(&self.controller, cancelled));
        found?.map_err(|source| BdevError::driver(&self.controller, source))
    }

    /// Attaches through the first address that leads to the subsystem.
    async fn attach(&self, engine: &Engine) -> Result<Vec<String>, BdevError> {
        let options = self.attach_options(engine);
        let mut last = BdevError::driver(&self.controller, "the host has no address");
        for address in self.addresses(engine).await? {
            if self.source.is_some_and(|source| source.is_ipv4() != address.is_ipv4()) {
                let why = format!("{address} is of another kind than hostaddr");
                last = BdevError::driver(&self.controller, why);
                continue;
            }
            let mut trid = TransportId::tcp(address, &self.subnqn)
                .map_err(|error| BdevError::driver(&self.controller, error))?;
            trid.source = self.source.map(|source| SocketAddr::new(source, 0));
            trid.priority = self.priority;
            match engine.nvme().attach(&self.controller, &trid, &options).await {
                Ok(names) => return Ok(names),
                Err(error) => last = BdevError::driver(&self.controller, error),
            }
        }
        Err(last)
    }

    /// The one device that the URI means.
    fn choose(&self, names: &[String]) -> Result<String, BdevError> {
        choose(&self.controller, self.nsid, names)
    }
}

/// The device of a controller that a namespace's number means; without a number, the only one.
pub(super) fn choose(
    controller: &str,
    nsid: Option<u32>,
    names: &[String],
) -> Result<String, BdevError> {
    let prefix = format!("{controller}n");
    let wanted = nsid.map(|nsid| format!("{prefix}{nsid}"));
    let found = match (&wanted, names) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(wanted), _) => names.iter().find(|name| *name == wanted),
    };
    if let Some(name) = found {
        return Ok(name.clone());
    }
    let mut there: Vec<u32> =
        names.iter().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect();
    there.sort_unstable();
    let there: Vec<String> = there.iter().map(u32::to_string).collect();
    let allowed = match there.as_slice() {
        [] => "the subsystem has no namespace for this host".to_owned(),
        numbers => format!("the subsystem has the namespaces {}", numbers.join(", ")),
    };
    Err(BdevError::Parameter {
        name: controller.to_owned(),
        parameter: "ns",
        value: nsid.map_or_else(|| "left out".to_owned(), |nsid| nsid.to_string()),
        allowed,
    })
}

#[async_trait]
impl Factory for Nvmf {
    fn name(&self) -> &str {
        &self.controller
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        let names = self.attach(engine).await?;
        match self.choose(&names) {
            Ok(name) => Ok(name),
            Err(error) => {
                let detached = engine.nvme().detach(&self.controller, None).await;
                detached.map_err(|source| BdevError::driver(&self.controller, source))?;
                Err(error)
            }
        }
    }
}

/// The NVMe controller that a device is a namespace of.
pub(super) fn controller_of(engine: &Engine, bdev: &str) -> Option<ControllerInfo> {
    let all = engine.nvme().controllers(None);
    all.into_iter().find(|controller| controller.bdevs.iter().any(|name| name == bdev))
}

/// Detaches the controller of a device, unless another of its namespaces is claimed.
pub(super) async fn detach(
    engine: &Engine,
    bdev: &str,
    controller: &ControllerInfo,
) -> Result<(), BdevError> {
    let claimed = |name: &&String| {
        let found = engine.registry().find(name);
        *name != bdev && found.is_ok_and(|other| !other.claims().is_empty())
    };
    let used: Vec<&str> = controller.bdevs.iter().filter(claimed).map(String::as_str).collect();
    if !used.is_empty() {
        let verb = if used.len() == 1 { "is" } else { "are" };
        return Err(BdevError::Shared {
            name: bdev.to_owned(),
            controller: controller.name.clone(),
            others: format!("{} {verb}", used.join(", ")),
        });
    }
    let detached = engine.nvme().detach(&controller.name, None).await;
    detached.map_err(|error| BdevError::driver(&controller.name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NQN: &str = "nqn.2016-06.io.spdk:cnode1";

    fn nvmf(text: &str) -> Nvmf {
        let uri = BdevUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        read(&uri).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refusal(text: &str) -> String {
        let uri = BdevUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        read(&uri).expect_err(text).to_string()
    }

    #[test]
    fn a_uri_is_read_whole() {
        let least = nvmf(&format!("nvmf://target/{NQN}"));
        assert_eq!((least.host.as_str(), least.port, least.subnqn.as_str()), ("target", 4420, NQN));
        assert_eq!(least.controller, format!("target:4420/{NQN}"));
        assert_eq!((least.nsid, least.hostid, &least.hostnqn), (None, None, &None));
        let full = nvmf(&format!(
            "nvmf+tcp://[::1]:4421/{NQN}?ns=7&name=far&hostnqn=nqn.2016-06.io.spdk:h&hdgst=true&\
             ddgst=1&hostid=0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60&num_io_queues=2&hostaddr=::1&\
             io_queue_size=256&keep_alive_timeout_ms=0&timeout_us=5&ctrlr_loss_timeout_sec=-1&\
             reconnect_delay_sec=2&fast_io_fail_timeout_sec=3&priority=6"
        ));
        assert_eq!((full.host.as_str(), full.port, full.nsid), ("::1", 4421, Some(7)));
        assert_eq!((full.controller.as_str(), full.priority), ("far", Some(6)));
        assert!(full.options.hdgst && full.options.ddgst && full.source.is_some());
        let options = &full.options;
        assert_eq!((options.num_io_queues, options.io_queue_size), (2, 256));
        assert_eq!((options.keep_alive_timeout_ms, options.timeout_us), (0, 5));
        assert_eq!(options.ctrlr_loss_timeout_sec, -1);
        assert_eq!((options.reconnect_delay_sec, options.fast_io_fail_timeout_sec), (2, 3));
        assert_eq!(nvmf(&format!("nvmf://[::1]/{NQN}")).controller, format!("[::1]:4420/{NQN}"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |rest: &str| refusal(&format!("nvmf://t/{NQN}?{rest}"));
        assert!(refusal(&format!("nvmf:///{NQN}")).contains("needs the parameter host"));
        assert!(refusal("nvmf://t/").contains("needs the parameter subsystem"));
        assert!(refusal("nvmf://t/disk").contains("'disk' is not an NVMe qualified name"));
        assert!(refusal(&format!("nvmf://t:0/{NQN}")).contains("`port` cannot be `0`"));
        assert!(with("ns=0").contains("`ns` cannot be `0`: it has to be a whole number from 1"));
        assert!(with("nsid=1").contains("unknown parameter `nsid` for `nvmf:`; allowed are ns, n"));
        assert!(with("hostnqn=me").contains("`hostnqn` cannot be `me`"));
        assert!(with("hostid=me").contains("`hostid` cannot be `me`"));
        assert!(with("hostaddr=me").contains("`hostaddr` cannot be `me`"));
        assert!(with("hdgst=yes").contains("`hdgst` cannot be `yes`"));
        assert!(with("num_io_queues=0").contains("`num_io_queues`"));
        assert!(with("ctrlr_loss_timeout_sec=-2").contains("`ctrlr_loss_timeout_sec`"));
        assert!(with("reconnect_delay_sec=2").contains("without a loss time-out"));
    }

    #[test]
    fn one_namespace_is_chosen() {
        let names = |all: &[u32]| -> Vec<String> {
            all.iter().map(|nsid| format!("t:4420/{NQN}n{nsid}")).collect()
        };
        let (any, second) =
            (nvmf(&format!("nvmf://t/{NQN}")), nvmf(&format!("nvmf://t/{NQN}?ns=2")));
        assert_eq!(any.choose(&names(&[5])).expect("the only one"), names(&[5])[0]);
        assert_eq!(second.choose(&names(&[1, 2])).expect("there"), names(&[2])[0]);
        let refusal = |result: Result<String, BdevError>| result.expect_err("refused").to_string();
        assert!(refusal(any.choose(&names(&[10, 2]))).ends_with("has the namespaces 2, 10"));
        assert!(refusal(any.choose(&[])).contains("no namespace for this host"));
        assert!(refusal(second.choose(&names(&[1]))).contains("ns 2: the subsystem has the names"));
    }
}
