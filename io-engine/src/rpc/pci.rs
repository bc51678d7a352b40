//! `framework_get_pci_devices`.

use std::fmt::Write as _;
use std::sync::Arc;

use jsonrpc::codes;
use serde_json::{Value, json};
use spdk_rs::env::pci::{Pci, PciAddress, PciError};

use super::errors::{self, RpcResult};
use super::params::Nothing;
use super::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new(
            "framework_get_pci_devices",
            "Lists the PCI functions of this machine that are attached.",
            get_pci_devices,
        )
        .answers("list: `address`, `config_space` in hexadecimal digits"),
    ]
}

async fn get_pci_devices(context: Arc<Context>, _: Nothing) -> RpcResult<Vec<Value>> {
    let controllers = context.engine()?.nvme().controllers(None);
    let paths = controllers.iter().flat_map(|one| &one.paths);
    let addresses: Vec<PciAddress> = paths.filter_map(|path| path.trid.pci_address()).collect();
    let read = tokio::task::spawn_blocking(move || describe(&Pci::system(), &addresses)).await;
    let read = read.map_err(|error| codes::internal_error(error.to_string()))?;
    read.map_err(|error| errors::failed(&error))
}

fn describe(pci: &Pci, addresses: &[PciAddress]) -> Result<Vec<Value>, PciError> {
    let one = |address: &PciAddress| {
        let mut digits = String::new();
        for byte in pci.config_space(*address)? {
            // A string takes what is written into it.
            let _ = write!(digits, "{byte:02x}");
        }
        Ok(json!({ "address": address.to_string(), "config_space": digits }))
    };
    addresses.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_space_is_shown_in_digits() {
        let dir = tempfile::tempdir().expect("a directory");
        let device = dir.path().join("sys/bus/pci/devices/0000:01:00.0");
        std::fs::create_dir_all(&device).expect("a directory");
        std::fs::write(device.join("config"), [0x36, 0x1b, 0x10, 0x00]).expect("a file");
        let address = |text: &str| text.parse::<PciAddress>().expect("an address");
        let pci = Pci::at(dir.path());
        let shown = describe(&pci, &[address("0000:01:00.0")]).expect("it is there");
        assert_eq!(shown, [json!({"address": "0000:01:00.0", "config_space": "361b1000"})]);
        let gone = describe(&pci, &[address("0000:02:00.0")]).expect_err("it is not there");
        assert!(gone.to_string().contains("0000:02:00.0/config"), "{gone}");
    }
}
