//! `pcie:///0000:01:00.0/1?name=&…`: a namespace of an NVMe controller of this machine, driven through
//! VFIO.
//!
//! The path is the controller's PCI address and the number of the namespace, which may be left out
//! where there is one only. All namespaces of the controller become devices; they go together.
//! URIs of several namespaces of one controller share it.

use async_trait::async_trait;
use spdk_rs::drivers::nvme::{AttachOptions, MultipathMode, MultipathPolicy};
use spdk_rs::nvme::controller::ControllerOptions;
use spdk_rs::nvme::{PciAddress, TransportId};

use super::dev::{BdevError, Factory};
use super::nvmf::{choose, refuse, take_common};
use super::{BdevUri, UriError};
use crate::core::{Engine, HostIdentity};

/// What a URI says.
#[derive(Debug)]
struct Pcie {
    /// The controller's name; namespaces are `{controller}n{nsid}`.
    controller: String,
    address: PciAddress,
    nsid: Option<u32>,
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
    read.devices(engine).await?;
    Ok((read.controller, read.nsid))
}

fn read(uri: &BdevUri) -> Result<Pcie, UriError> {
    if uri.host().is_some() {
        return Err(uri
            .params()
            .missing("controller behind three slashes: pcie:///0000:01:00.0/1"));
    }
    let path = uri.path().strip_prefix('/').unwrap_or_default();
    let (address, nsid) = match path.split_once('/') {
        None => (path, None),
        Some((address, nsid)) => (address, Some(nsid)),
    };
    if address.is_empty() {
        return Err(uri.params().missing("controller: pcie:///0000:01:00.0/1"));
    }
    let pci: PciAddress = address
        .parse()
        .map_err(|_| refuse("controller", address, "it has to be like 0000:01:00.0".to_owned()))?;
    let number = |text: &str| {
        let nsid = text.parse().ok().filter(|nsid| (1..=0xffff_fffe).contains(nsid));
        let allowed = || "it has to be a whole number from 1 to 4294967294".to_owned();
        nsid.ok_or_else(|| refuse("namespace", text, allowed()))
    };
    let nsid = nsid.map(number).transpose()?;
    let mut params = uri.params();
    let HostIdentity { nqn, id } = HostIdentity::random();
    let mut options = ControllerOptions::new(&nqn, id);
    let controller = params.take_str("name").map(str::to_owned);
    options.allow_noiommu = params.take_bool("noiommu")?.unwrap_or(false);
    if let Some(on) = params.take_bool("shadow_doorbells")? {
        options.shadow_doorbells = on;
    }
    if let Some(on) = params.take_bool("cmb_sqs")? {
        options.cmb_sqs = on;
    }
    if let Some(on) = params.take_bool("sgl")? {
        options.sgl = on;
    }
    take_common(&mut params, &mut options)?;
    params.finish()?;
    options.check().map_err(|error| refuse("options", "these", error.to_string()))?;
    let controller = controller.unwrap_or_else(|| pci.to_string());
    Ok(Pcie { controller, address: pci, nsid, options })
}

impl Pcie {
    /// The devices of the controller, which is attached unless an earlier URI has done so. True
    /// when it was attached now.
    async fn devices(&self, engine: &Engine) -> Result<(Vec<String>, bool), BdevError> {
        let trid = TransportId::pcie(self.address);
        let known = engine.nvme().controllers(Some(&self.controller));
        let same = known.into_iter().find(|info| info.paths.iter().any(|path| path.trid == trid));
        if let Some(info) = same {
            return Ok((info.bdevs, false));
        }
        let mut controller = self.options.clone();
        controller.hostnqn.clone_from(&engine.host().nqn);
        controller.hostid = engine.host().id;
        let (multipath, policy) = (MultipathMode::Disable, MultipathPolicy::ActivePassive);
        let options = AttachOptions { controller, multipath, policy };
        let attached = engine.nvme().attach(&self.controller, &trid, &options).await;
        let names = attached.map_err(|error| BdevError::driver(&self.controller, error))?;
        Ok((names, true))
    }
}

#[async_trait]
impl Factory for Pcie {
    fn name(&self) -> &str {
        &self.controller
    }

    async fn create(&self, engine: &Engine) -> Result<String, BdevError> {
        let (names, attached) = self.devices(engine).await?;
        match choose(&self.controller, self.nsid, &names) {
            Ok(name) => Ok(name),
            Err(error) => {
                if attached {
                    let detached = engine.nvme().detach(&self.controller, None).await;
                    detached.map_err(|source| BdevError::driver(&self.controller, source))?;
                }
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pcie(text: &str) -> Result<Pcie, UriError> {
        read(&BdevUri::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")))
    }

    fn refusal(text: &str) -> String {
        pcie(text).expect_err(text).to_string()
    }

    #[test]
    fn a_uri_is_read_whole() {
        let least = pcie("pcie:///0000:01:00.0").expect("an address");
        assert_eq!((least.controller.as_str(), least.nsid), ("0000:01:00.0", None));
        assert!(!least.options.allow_noiommu);
        let full = pcie(
            "pcie:///01:00.0/2?name=disk&num_io_queues=2&io_queue_size=64&timeout_us=5&\
             ctrlr_loss_timeout_sec=-1&reconnect_delay_sec=2&fast_io_fail_timeout_sec=3&noiommu=1&\
             shadow_doorbells=false&cmb_sqs=true&sgl=false",
        )
        .expect("all there is");
        assert_eq!((full.controller.as_str(), full.nsid), ("disk", Some(2)));
        assert_eq!(full.address, least.address);
        assert_eq!((full.options.num_io_queues, full.options.io_queue_size), (2, 64));
        assert_eq!((full.options.timeout_us, full.options.reconnect_delay_sec), (5, 2));
        assert!(full.options.allow_noiommu);
        let of = |o: &ControllerOptions| (o.shadow_doorbells, o.cmb_sqs, o.sgl);
        assert_eq!(
            (of(&least.options), of(&full.options)),
            ((true, false, true), (false, true, false))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert!(refusal("pcie:///").contains("needs the parameter controller"));
        assert!(refusal("pcie://0000/1").contains("three slashes"));
        assert!(refusal("pcie:///nvme0/1").contains("`controller` cannot be `nvme0`"));
        assert!(refusal("pcie:///01:00.0/0").contains("`namespace` cannot be `0`"));
        assert!(refusal("pcie:///01:00.0/1/2").contains("`namespace` cannot be `1/2`"));
        assert!(refusal("pcie:///01:00.0/1?hdgst=1").contains("unknown parameter `hdgst`"));
        assert!(refusal("pcie:///01:00.0/1?noiommu=x").contains("`noiommu` cannot be `x`"));
        assert!(refusal("pcie:///01:00.0/1?cmb_sqs=2").contains("`cmb_sqs` cannot be `2`"));
        assert!(refusal("pcie:///01:00.0?reconnect_delay_sec=2").contains("loss time-out"));
    }
}
