//! `io-engine pci`: which NVMe controllers this machine has, who uses them, and to whom they belong.
//!
//! It works on this machine's sysfs and needs no daemon.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use serde_json::{Value, json};
use spdk_rs::env::pci::{Pci, PciAddress, PciFilter, PciFunction, VFIO_DRIVER};
use spdk_rs::env::system::HugePools;

use super::hugepages::{self, HugepagesArgs};
use super::{ExitCode, OutputFormat};

/// `io-engine pci …`.
#[derive(Debug, Clone, Args)]
pub struct PciArgs {
    /// Controller that is looked at, by PCI address, and no other; may be repeated
    #[arg(
        short = 'A',
        long,
        value_name = "ADDRESS",
        global = true,
        conflicts_with = "pci_blocked"
    )]
    pub pci_allowed: Vec<PciAddress>,
    /// Controller that is left alone, by PCI address; may be repeated
    #[arg(short = 'B', long, value_name = "ADDRESS", global = true)]
    pub pci_blocked: Vec<PciAddress>,
    /// What to do.
    #[command(subcommand)]
    pub command: PciCommand,
}

impl PciArgs {
    fn filter(&self) -> PciFilter {
        PciFilter { allowed: self.pci_allowed.clone(), blocked: self.pci_blocked.clone() }
    }
}

/// What to do with the NVMe controllers of this machine.
#[derive(Debug, Clone, Subcommand)]
pub enum PciCommand {
    /// List the NVMe controllers: their drivers, their disks, and who uses these
    List {
        /// How to print them
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value_t)]
        output: OutputFormat,
    },
    /// Give controllers to vfio-pci, so that the engine can drive them; none that is in use
    Bind {
        /// Their PCI addresses, like 0000:01:00.0
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<PciAddress>,
        /// Give them to this driver of the kernel instead
        #[arg(long, value_name = "DRIVER", default_value = VFIO_DRIVER)]
        driver: String,
    },
    /// Take controllers from vfio-pci and let the kernel choose their driver
    Unbind {
        /// Their PCI addresses
        #[arg(required = true, value_name = "ADDRESS")]
        addresses: Vec<PciAddress>,
    },
    /// Say of a controller, or of all, whether the engine can drive it, and what is missing
    Status {
        /// Its PCI address
        #[arg(value_name = "ADDRESS")]
        address: Option<PciAddress>,
    },
    /// Reserve huge pages for the engine's memory; without an amount, show the pools
    Hugepages(HugepagesArgs),
}

/// Does it on this machine.
#[must_use]
pub fn run(args: &PciArgs) -> ExitCode {
    let pci = Pci::system();
    match execute(&pci, &args.filter(), &args.command) {
        Ok(text) => {
            // Nothing is left to tell anyone when standard output is closed.
            let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
            ExitCode::Success
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "io-engine: {:#}", error);
            ExitCode::Resources
        }
    }
}

fn execute(pci: &Pci, filter: &PciFilter, command: &PciCommand) -> anyhow::Result<String> {
    match command {
        PciCommand::Hugepages(args) => hugepages::execute(&HugePools::system(), args),
        PciCommand::List { output } => {
            let found = pci.controllers(filter)?;
            Ok(match output {
                OutputFormat::Table => table(pci, &found).to_string(),
                OutputFormat::Json => {
                    let all: Vec<Value> = found.iter().map(|one| describe(pci, one)).collect();
                    format!("{:#}", Value::from(all))
                }
            })
        }
        PciCommand::Bind { addresses, driver } => {
            let mut text = String::new();
            addresses.iter().try_for_each(|address| filter.check(*address))?;
            for address in addresses {
                pci.bind(*address, driver)?;
                let _ = writeln!(text, "{address}: {driver} has it");
            }
            Ok(text)
        }
        PciCommand::Unbind { addresses } => {
            let mut text = String::new();
            addresses.iter().try_for_each(|address| filter.check(*address))?;
            for address in addresses {
                pci.unbind(*address)?;
                let driver = pci.function(*address)?.driver;
                let driver = driver.as_deref().unwrap_or("no driver");
                let _ = writeln!(text, "{address}: {driver} has it");
            }
            Ok(text)
        }
        PciCommand::Status { address } => {
            let found = match address {
                Some(address) => {
                    filter.check(*address)?;
                    vec![pci.controller(*address)?]
                }
                None => pci.controllers(filter)?,
            };
            let mut text = String::new();
            for one in &found {
                let _ = writeln!(text, "{}: {}", one.address, status(pci, one));
            }
            Ok(if found.is_empty() { "no NVMe controllers".to_owned() } else { text })
        }
    }
}

fn group(function: &PciFunction) -> String {
    match function.iommu_group {
        Some(group) if function.no_iommu => format!("{group} (no IOMMU)"),
        Some(group) => group.to_string(),
        None => "none".to_owned(),
    }
}

fn table(pci: &Pci, found: &[PciFunction]) -> Table {
    let mut table = Table::new();
    table
        .load_preset(presets::UTF8_BORDERS_ONLY)
        .set_header(["address", "id", "numa", "driver", "group", "disks", "in use"]);
    for function in found {
        table.add_row([
            function.address.to_string(),
            format!("{:04x}:{:04x}", function.vendor, function.device),
            function.numa_node.map_or_else(|| "-".to_owned(), |node| node.to_string()),
            function.driver.clone().unwrap_or_else(|| "-".to_owned()),
            group(function),
            pci.disks(function.address).join(", "),
            pci.uses(function.address).join(", "),
        ]);
    }
    table
}

fn describe(pci: &Pci, function: &PciFunction) -> Value {
    json!({
        "address": function.address.to_string(),
        "vendor": format!("0x{:04x}", function.vendor),
        "device": format!("0x{:04x}", function.device),
        "numa_node": function.numa_node,
        "driver": function.driver,
        "iommu_group": function.iommu_group,
        "no_iommu": function.no_iommu,
        "disks": pci.disks(function.address),
        "in_use": pci.uses(function.address),
    })
}

/// Whether the engine can drive it, in words with the remedy.
fn status(pci: &Pci, function: &PciFunction) -> String {
    let (address, uses) = (function.address, pci.uses(function.address));
    match (function.driver.as_deref(), function.iommu_group) {
        _ if !uses.is_empty() => format!("in use by the kernel: {}", uses.join(", ")),
        (Some(VFIO_DRIVER), Some(_)) if function.no_iommu => format!(
            "ready, but without an IOMMU it can overwrite all memory: pcie:///{address}?noiommu=true"
        ),
        (Some(VFIO_DRIVER), Some(group)) => {
            let node = format!("/dev/vfio/{group}");
            format!("ready as pcie:///{address} for who may open {node}")
        }
        (_, None) => "it is in no IOMMU group: switch the IOMMU on (firmware, and intel_iommu=on \
                      or amd_iommu=on on the kernel's command line)"
            .to_owned(),
        (driver, Some(_)) => {
            let driver = driver.unwrap_or("no driver");
            format!("{driver} has it, not vfio-pci: io-engine pci bind {address}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(driver: &str) -> (tempfile::TempDir, Pci) {
        let dir = tempfile::tempdir().expect("a directory");
        let device = dir.path().join("sys/bus/pci/devices/0000:01:00.0");
        fs::create_dir_all(&device).expect("a device");
        fs::create_dir_all(dir.path().join("sys/kernel/iommu_groups/7")).expect("a group");
        for (name, text) in [("class", "0x010802"), ("vendor", "0x144d"), ("device", "0xa80a")] {
            fs::write(device.join(name), text).expect("a file");
        }
        symlink(format!("../../drivers/{driver}"), device.join("driver")).expect("a link");
        symlink("../../../../kernel/iommu_groups/7", device.join("iommu_group")).expect("a link");
        let pci = Pci::at(dir.path());
        (dir, pci)
    }

    fn output(pci: &Pci, command: PciCommand) -> String {
        execute(pci, &PciFilter::default(), &command).expect("it can be read")
    }

    #[test]
    fn controllers_are_listed_with_their_drivers() {
        let (_dir, pci) = tree("nvme");
        let table = output(&pci, PciCommand::List { output: OutputFormat::Table });
        let line = table.lines().find(|line| line.contains("0000:01:00.0")).expect("a line");
        assert!(
            line.contains("144d:a80a") && line.contains("nvme") && line.contains(" 7 "),
            "{line}"
        );
        let json = output(&pci, PciCommand::List { output: OutputFormat::Json });
        let json: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(json[0]["driver"], "nvme");
        assert_eq!(json[0]["in_use"], json!([]));
    }

    #[test]
    fn what_is_not_to_be_used_is_left_alone() {
        let (_dir, pci) = tree("nvme");
        let address: PciAddress = "0000:01:00.0".parse().expect("an address");
        let blocked = PciFilter { blocked: vec![address], ..PciFilter::default() };
        let run = |command| execute(&pci, &blocked, &command);
        let list = run(PciCommand::List { output: OutputFormat::Json });
        assert_eq!(list.expect("it can be read"), "[]");
        let status = run(PciCommand::Status { address: None });
        assert_eq!(status.expect("it can be read"), "no NVMe controllers");
        let (addresses, driver) = (vec![address], VFIO_DRIVER.to_owned());
        for refused in [
            run(PciCommand::Status { address: Some(address) }),
            run(PciCommand::Bind { addresses: addresses.clone(), driver }),
            run(PciCommand::Unbind { addresses }),
        ] {
            let words = refused.expect_err("it is blocked").to_string();
            assert_eq!(words, "0000:01:00.0: it is blocked (--pci-blocked)");
        }
    }

    #[test]
    fn the_status_says_what_to_do() {
        let (dir, pci) = tree("nvme");
        let status = |pci: &Pci| output(pci, PciCommand::Status { address: None });
        assert!(status(&pci).contains("io-engine pci bind 0000:01:00.0"), "{}", status(&pci));
        let nvme = dir.path().join("sys/bus/pci/devices/0000:01:00.0/nvme/nvme0/nvme0n1");
        fs::create_dir_all(nvme).expect("a disk");
        let holder = dir.path().join("sys/block/nvme0n1/holders/dm-3");
        fs::create_dir_all(holder).expect("a holder");
        assert!(status(&pci).contains("nvme0n1 is held by dm-3"), "{}", status(&pci));
        let (_dir, pci) = tree(VFIO_DRIVER);
        assert!(status(&pci).contains("ready as pcie:///0000:01:00.0"), "{}", status(&pci));
        let absent = PciCommand::Status { address: "0000:02:00.0".parse().ok() };
        assert!(execute(&pci, &PciFilter::default(), &absent).is_err());
    }
}
