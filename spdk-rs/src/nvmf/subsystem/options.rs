//! What a subsystem and a namespace are created with.

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use super::Nqn;
use crate::bdev::Bdev;
use crate::nvmf::target::NvmfError;

/// The highest identifier of a controller.
pub const CNTLID_MAX: u16 = 0xffef;

/// Namespaces of a subsystem at the most, when nothing else is asked for (SPDK's).
pub const NAMESPACES_DEFAULT: u32 = 32;

/// The most namespaces a subsystem can be made for.
pub const NAMESPACES_MAX: u32 = 4096;

/// What a subsystem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsystemOptions {
    /// Its name.
    pub nqn: Nqn,
    /// Serial number, 1 to 20 printable ASCII characters.
    pub serial: String,
    /// Model number, 1 to 40 printable ASCII characters.
    pub model: String,
    /// Whether every host may connect.
    pub allow_any_host: bool,
    /// Namespaces at the most, 1 to [`NAMESPACES_MAX`]; the highest nsid.
    pub max_namespaces: u32,
    /// The lowest controller identifier, 1 to [`CNTLID_MAX`].
    pub min_cntlid: u16,
    /// The highest controller identifier, `min_cntlid` to [`CNTLID_MAX`].
    pub max_cntlid: u16,
    /// Whether ANA is reported and its states can be set.
    pub ana_reporting: bool,
}

impl SubsystemOptions {
    /// SPDK's defaults for a name.
    #[must_use]
    pub fn new(nqn: Nqn) -> Self {
        Self {
            nqn,
            serial: "00000000000000000000".to_owned(),
            model: "io-engine Controller".to_owned(),
            allow_any_host: false,
            max_namespaces: NAMESPACES_DEFAULT,
            min_cntlid: 1,
            max_cntlid: CNTLID_MAX,
            ana_reporting: false,
        }
    }

    pub(in crate::nvmf) fn check(&self) -> Result<(), NvmfError> {
        check_text("serial_number", &self.serial, 20)?;
        check_text("model_number", &self.model, 40)?;
        if !(1..=NAMESPACES_MAX).contains(&self.max_namespaces) {
            let allowed = format!("1 to {NAMESPACES_MAX}");
            return Err(NvmfError::invalid("max_namespaces", self.max_namespaces, allowed));
        }
        if !(1..=CNTLID_MAX).contains(&self.min_cntlid) {
            let allowed = format!("1 to {CNTLID_MAX}");
            return Err(NvmfError::invalid("min_cntlid", self.min_cntlid, allowed));
        }
        if !(self.min_cntlid..=CNTLID_MAX).contains(&self.max_cntlid) {
            let allowed = format!("min_cntlid ({}) to {CNTLID_MAX}", self.min_cntlid);
            return Err(NvmfError::invalid("max_cntlid", self.max_cntlid, allowed));
        }
        Ok(())
    }
}

fn check_text(parameter: &'static str, text: &str, max: usize) -> Result<(), NvmfError> {
    let printable = text.bytes().all(|byte| (0x20..=0x7e).contains(&byte));
    if printable && (1..=max).contains(&text.len()) {
        return Ok(());
    }
    let allowed = format!("1 to {max} printable ASCII characters");
    Err(NvmfError::invalid(parameter, format!("'{text}'"), allowed))
}

/// What a namespace is.
#[derive(Clone, Debug)]
pub struct NamespaceOptions {
    /// The device; it is opened for writing (for reading when it is read-only) and claimed.
    pub bdev: Arc<Bdev>,
    /// Its number, 1 to the subsystem's `max_namespaces`; the lowest free one when none.
    pub nsid: Option<u32>,
    /// Its UUID; the device's when none.
    pub uuid: Option<Uuid>,
    /// Its NGUID, not all zero; the UUID's bytes when none.
    pub nguid: Option<[u8; 16]>,
    /// Its EUI-64, not all zero; none is reported when none.
    pub eui64: Option<[u8; 8]>,
    /// Its ANA group, 1 to the subsystem's `max_namespaces`; the nsid when none.
    pub ana_group: Option<u32>,
    /// Where reservations that persist through power loss are kept.
    pub ptpl_file: Option<PathBuf>,
}

impl NamespaceOptions {
    /// A device with everything chosen for it.
    #[must_use]
    pub fn new(bdev: Arc<Bdev>) -> Self {
        Self {
            bdev,
            nsid: None,
            uuid: None,
            nguid: None,
            eui64: None,
            ana_group: None,
            ptpl_file: None,
        }
    }
}
