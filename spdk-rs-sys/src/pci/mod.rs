//! PCI functions as the kernel shows them in sysfs: which there are, which driver has them, who uses
//! their disks, and how they go from one driver to another.
//!
//! The root directory can be another one than `/`, so that all of this runs on a tree of files.
//!
//! Invariants:
//!
//! * Nothing is taken from a driver while one of its disks is mounted, swapped to, held by another
//!   block device or opened exclusively.
//! * A function that could not be given to the wanted driver is reported as such, with the driver
//!   that has it now.

mod address;
mod bind;
mod usage;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use address::{PciAddress, PciAddressError};

use crate::sysfs;

/// The class of NVM Express controllers: mass storage, non-volatile memory; the low byte is the
/// programming interface.
const CLASS_NVM: u32 = 0x01_0800;

/// The driver that gives functions to user space.
pub const VFIO_DRIVER: &str = "vfio-pci";

/// A PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciFunction {
    /// Where it is.
    pub address: PciAddress,
    /// Vendor identifier.
    pub vendor: u16,
    /// Device identifier.
    pub device: u16,
    /// Class code: class, subclass and programming interface in the low three bytes.
    pub class: u32,
    /// The kernel driver that has it.
    pub driver: Option<String>,
    /// Its IOMMU group.
    pub iommu_group: Option<u32>,
    /// Whether the group stands for no IOMMU at all (VFIO's no-IOMMU mode).
    pub no_iommu: bool,
    /// The NUMA node that it is attached to.
    pub numa_node: Option<u32>,
}

impl PciFunction {
    /// Whether it is a controller of non-volatile memory (class 0108xxh).
    #[must_use]
    pub fn is_nvm(&self) -> bool {
        is_nvm_class(self.class)
    }
}

/// Whether a class code is that of a controller of non-volatile memory (0108xxh).
pub(crate) fn is_nvm_class(class: u32) -> bool {
    class & 0xff_ff00 == CLASS_NVM
}

/// Which functions are looked at.
#[derive(Clone, Debug, Default)]
pub struct PciFilter {
    /// Only these, if there are any.
    pub allowed: Vec<PciAddress>,
    /// Never these.
    pub blocked: Vec<PciAddress>,
}

impl PciFilter {
    /// Whether a function passes.
    #[must_use]
    pub fn passes(&self, address: PciAddress) -> bool {
        self.check(address).is_ok()
    }

    /// Refuses a function that does not pass.
    ///
    /// # Errors
    /// [`PciError::Filtered`], which names the list.
    pub fn check(&self, address: PciAddress) -> Result<(), PciError> {
        if self.blocked.contains(&address) {
            return Err(PciError::Filtered { address, why: "is blocked (--pci-blocked)" });
        }
        if !self.allowed.is_empty() && !self.allowed.contains(&address) {
            let why = "is not among those that are allowed (--pci-allowed)";
            return Err(PciError::Filtered { address, why });
        }
        Ok(())
    }
}

/// Why something cannot be known of a function, or done with it.
#[derive(Debug, thiserror::Error)]
pub enum PciError {
    /// sysfs cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// There is no such function.
    #[error("{address}: there is no such PCI function; `io-engine pci list` shows what there is")]
    Absent {
        /// Where it should be.
        address: PciAddress,
    },
    /// It is not to be used.
    #[error("{address}: it {why}")]
    Filtered {
        /// The function.
        address: PciAddress,
        /// Which list says so.
        why: &'static str,
    },
    /// It is no NVMe controller.
    #[error("{address}: class {class:06x} is no NVMe controller (0108xx)")]
    Class {
        /// The function.
        address: PciAddress,
        /// Its class.
        class: u32,
    },
    /// A disk of it is in use.
    #[error("{address}: in use: {uses}; nothing was changed")]
    InUse {
        /// The function.
        address: PciAddress,
        /// By whom, in words.
        uses: String,
    },
    /// The wanted driver is not there.
    #[error("{address}: the driver {driver} is not loaded: modprobe {driver}")]
    NoDriver {
        /// The function.
        address: PciAddress,
        /// The driver.
        driver: String,
    },
    /// A file of sysfs refused what was written.
    #[error("{address}: cannot write '{text}' to {path}{}", sysfs::hint(source))]
    Write {
        /// The function.
        address: PciAddress,
        /// What was written.
        text: String,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The driver did not take the function.
    #[error("{address}: {driver} did not take it ({now} has it); the kernel's log says why")]
    NotTaken {
        /// The function.
        address: PciAddress,
        /// The wanted driver.
        driver: String,
        /// Who has it now.
        now: String,
    },
}

/// The PCI functions of this machine, or of a tree of files.
#[derive(Clone, Debug)]
pub struct Pci {
    root: PathBuf,
}

impl Default for Pci {
    fn default() -> Self {
        Self::system()
    }
}

impl Pci {
    /// This machine.
    #[must_use]
    pub fn system() -> Self {
        Self::at("/")
    }

    /// A tree that looks like this machine's `/sys`, `/proc` and `/dev`.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn bus(&self) -> PathBuf {
        self.root.join("sys/bus/pci")
    }

    fn directory(&self, address: PciAddress) -> PathBuf {
        self.bus().join("devices").join(address.to_string())
    }

    /// The NVMe controllers that pass a filter, by address.
    ///
    /// # Errors
    /// [`PciError::Read`] when sysfs shows no PCI bus.
    pub fn controllers(&self, filter: &PciFilter) -> Result<Vec<PciFunction>, PciError> {
        let path = self.bus().join("devices");
        let read = |source| PciError::Read { path: path.clone(), source };
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).map_err(read)? {
            let name = entry.map_err(read)?.file_name();
            let Some(address) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that goes away meanwhile is not there.
            let Ok(function) = self.function(address) else { continue };
            if function.is_nvm() && filter.passes(address) {
                found.push(function);
            }
        }
        found.sort_by_key(|function| function.address);
        Ok(found)
    }

    /// A function.
    ///
    /// # Errors
    /// [`PciError::Absent`].
    pub fn function(&self, address: PciAddress) -> Result<PciFunction, PciError> {
        let directory = self.directory(address);
        let absent = || PciError::Absent { address };
        let hex = |name: &str| {
            let text = sysfs::read_text(directory.join(name))?;
            u32::from_str_radix(text.trim_start_matches("0x"), 16).ok()
        };
        let id = |name: &str| hex(name).and_then(|id| u16::try_from(id).ok());
        let link = |name: &str| {
            let target = fs::read_link(directory.join(name)).ok()?;
            Some(target.file_name()?.to_str()?.to_owned())
        };
        let class = hex("class").ok_or_else(absent)?;
        let group_name = sysfs::read_text(directory.join("iommu_group/name"));
        Ok(PciFunction {
            address,
            vendor: id("vendor").ok_or_else(absent)?,
            device: id("device").ok_or_else(absent)?,
            class,
            driver: link("driver"),
            iommu_group: link("iommu_group").and_then(|group| group.parse().ok()),
            no_iommu: group_name.as_deref() == Some("vfio-noiommu"),
            // The kernel writes -1 where there are no nodes.
            numa_node: sysfs::read_text(directory.join("numa_node"))
                .and_then(|node| node.parse().ok()),
        })
    }

    /// As [`Pci::function`], of a function that is an NVMe controller.
    ///
    /// # Errors
    /// [`PciError::Absent`], [`PciError::Class`].
    pub fn controller(&self, address: PciAddress) -> Result<PciFunction, PciError> {
        let function = self.function(address)?;
        if function.is_nvm() {
            Ok(function)
        } else {
            Err(PciError::Class { address, class: function.class })
        }
    }

    /// The configuration space of a function, as far as the kernel shows it to this process.
    ///
    /// # Errors
    /// [`PciError::Read`].
    pub fn config_space(&self, address: PciAddress) -> Result<Vec<u8>, PciError> {
        let path = self.directory(address).join("config");
        fs::read(&path).map_err(|source| PciError::Read { path, source })
    }

    /// The names in a directory, sorted; none when it is not there.
    fn names(path: &Path) -> Vec<String> {
        let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        names
    }
}

#[cfg(test)]
mod tests;
