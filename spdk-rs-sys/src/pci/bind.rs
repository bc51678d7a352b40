//! Giving functions to another driver.

use std::fs;
use std::path::PathBuf;

use super::{Pci, PciAddress, PciError, PciFunction, VFIO_DRIVER};

impl Pci {
    /// Gives an NVMe controller to a driver, unless one of its disks is in use. One that the driver
    /// has already stays as it is.
    ///
    /// # Errors
    /// [`PciError`]; with [`PciError::InUse`] and [`PciError::NoDriver`] nothing was changed.
    pub fn bind(&self, address: PciAddress, driver: &str) -> Result<(), PciError> {
        let function = self.controller(address)?;
        if function.driver.as_deref() == Some(driver) {
            return Ok(());
        }
        let loaded = self.bus().join("drivers").join(driver);
        if !loaded.is_dir() {
            return Err(PciError::NoDriver { address, driver: driver.to_owned() });
        }
        self.take_away(&function)?;
        self.write(address, self.directory(address).join("driver_override"), driver)?;
        self.probe(address)?;
        let now = self.function(address)?.driver;
        if now.as_deref() == Some(driver) {
            return Ok(());
        }
        let (driver, now) = (driver.to_owned(), now.unwrap_or_else(|| "no driver".to_owned()));
        Err(PciError::NotTaken { address, driver, now })
    }

    /// Takes an NVMe controller from user space and lets the kernel choose its driver. One that
    /// `vfio-pci` does not have stays as it is.
    ///
    /// # Errors
    /// [`PciError`].
    pub fn unbind(&self, address: PciAddress) -> Result<(), PciError> {
        let function = self.controller(address)?;
        if function.driver.as_deref().is_some_and(|driver| driver != VFIO_DRIVER) {
            return Ok(());
        }
        self.take_away(&function)?;
        // An empty line takes the override back.
        self.write(address, self.directory(address).join("driver_override"), "\n")?;
        self.probe(address)
    }

    fn take_away(&self, function: &PciFunction) -> Result<(), PciError> {
        let address = function.address;
        let uses = self.uses(address);
        if !uses.is_empty() {
            return Err(PciError::InUse { address, uses: uses.join(", ") });
        }
        if function.driver.is_none() {
            return Ok(());
        }
        let path = self.directory(address).join("driver/unbind");
        self.write(address, path, &address.to_string())
    }

    fn probe(&self, address: PciAddress) -> Result<(), PciError> {
        self.write(address, self.bus().join("drivers_probe"), &address.to_string())
    }

    fn write(&self, address: PciAddress, path: PathBuf, text: &str) -> Result<(), PciError> {
        fs::write(&path, text).map_err(|source| {
            let text = text.trim().to_owned();
            PciError::Write { address, text, path, source }
        })
    }
}
