//! What of the reservations persists through a loss of power: a JSON file with SPDK's fields.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use thiserror::Error;
use uuid::Uuid;

use super::super::core_view::HostId;
use super::state::{REGISTRANTS_MAX, Registrant, ReservationState};
use crate::nvme::spec::reservation::ReservationType;

/// Bytes of the file at the most: far more than the registrants that there may be.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why persistent reservations cannot be read or written.
#[derive(Debug, Error)]
pub enum PersistError {
    /// The file cannot be read or written.
    #[error("cannot {action} the reservation file {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no JSON.
    #[error("the reservation file {} is no JSON", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A field is missing or wrong.
    #[error("the reservation file {}: {field} has to be {expected}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
    },
    /// The file belongs to another device.
    #[error("the reservation file {} is of device {found}, not of {device}", path.display())]
    Device {
        /// The file.
        path: PathBuf,
        /// The device it is of.
        found: Uuid,
        /// The device it is wanted for.
        device: Uuid,
    },
}

/// The file's content for a state.
fn to_json(state: &ReservationState, device: Uuid) -> Value {
    if !state.persists {
        return json!({ "ptpl": false, "bdev_uuid": device.to_string(), "registrants": [] });
    }
    let host = |host: HostId| Uuid::from_bytes(host.0).to_string();
    let registrants: Vec<_> = state
        .registrants
        .iter()
        .map(|one| json!({ "rkey": one.key, "host_uuid": host(one.host) }))
        .collect();
    let mut value = json!({
        "ptpl": true,
        "bdev_uuid": device.to_string(),
        "rtype": state.held.map_or(0, |(kind, _)| kind.bits()),
        "registrants": registrants,
    });
    if let Some((_, holder)) = state.held {
        let key = state.registrants.iter().find(|one| one.host == holder).map_or(0, |one| one.key);
        value["holder_uuid"] = json!(host(holder));
        value["crkey"] = json!(key);
    }
    value
}

/// Writes a state so that either the old or the new content survives a loss of power. Blocks.
pub(super) fn store(
    path: &Path,
    state: &ReservationState,
    device: Uuid,
) -> Result<(), PersistError> {
    let failed =
        |action| move |source| PersistError::Io { action, path: path.to_path_buf(), source };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let text = format!("{:#}\n", to_json(state, device));
    let mut file = std::fs::File::create(&temporary).map_err(failed("write"))?;
    file.write_all(text.as_bytes()).map_err(failed("write"))?;
    file.sync_all().map_err(failed("sync"))?;
    std::fs::rename(&temporary, path).map_err(failed("replace"))?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let folder = std::fs::File::open(folder).map_err(failed("sync"))?;
    folder.sync_all().map_err(failed("sync"))
}

/// Reads a state. A file that is missing or empty is one in which nothing persists. Blocks.
pub(super) fn load(path: &Path, device: Uuid) -> Result<ReservationState, PersistError> {
    let failed = |source| PersistError::Io { action: "read", path: path.to_path_buf(), source };
    let text = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(ReservationState::default());
        }
        Err(error) => return Err(failed(error)),
        Ok(facts) if facts.len() > FILE_BYTES_MAX => {
            return Err(failed(std::io::Error::other("larger than 1 MiB")));
        }
        Ok(_) => std::fs::read_to_string(path).map_err(failed)?,
    };
    if text.trim().is_empty() {
        return Ok(ReservationState::default());
    }
    let json = serde_json::from_str(&text)
        .map_err(|source| PersistError::Json { path: path.to_path_buf(), source })?;
    Reader { path, json: &json }.state(device)
}

struct Reader<'a> {
    path: &'a Path,
    json: &'a Value,
}

impl Reader<'_> {
    fn wrong(&self, field: &'static str, expected: &'static str) -> PersistError {
        PersistError::Field { path: self.path.to_path_buf(), field, expected }
    }

    fn uuid(&self, value: &Value, field: &'static str) -> Result<Uuid, PersistError> {
        let found = value.as_str().and_then(|text| Uuid::parse_str(text).ok());
        found.ok_or_else(|| self.wrong(field, "a UUID"))
    }

    fn state(&self, device: Uuid) -> Result<ReservationState, PersistError> {
        let json = self.json;
        let persists = json["ptpl"].as_bool().ok_or_else(|| self.wrong("ptpl", "a boolean"))?;
        let found = self.uuid(&json["bdev_uuid"], "bdev_uuid")?;
        if found != device {
            return Err(PersistError::Device { path: self.path.to_path_buf(), found, device });
        }
        if !persists {
            return Ok(ReservationState::default());
        }
        let registrants = self.registrants(&json["registrants"])?;
        let held = self.held(&registrants)?;
        Ok(ReservationState { generation: 0, persists, registrants, held })
    }

    fn registrants(&self, list: &Value) -> Result<Vec<Registrant>, PersistError> {
        let list = list.as_array().filter(|list| list.len() <= REGISTRANTS_MAX);
        let list = list.ok_or_else(|| self.wrong("registrants", "a list of at most 256 hosts"))?;
        let mut registrants: Vec<Registrant> = Vec::with_capacity(list.len());
        for one in list {
            let key = one["rkey"].as_u64().filter(|&key| key != 0);
            let key = key.ok_or_else(|| self.wrong("rkey", "a number from 1 to 2^64 - 1"))?;
            let host = HostId(self.uuid(&one["host_uuid"], "host_uuid")?.into_bytes());
            if host.is_zero() || registrants.iter().any(|other| other.host == host) {
                return Err(self.wrong("host_uuid", "not zero and in the list once"));
            }
            registrants.push(Registrant { host, key });
        }
        Ok(registrants)
    }

    fn held(
        &self,
        registrants: &[Registrant],
    ) -> Result<Option<(ReservationType, HostId)>, PersistError> {
        let rtype = self.json["rtype"].as_u64().and_then(|rtype| u8::try_from(rtype).ok());
        let rtype = rtype.filter(|&rtype| rtype <= 6);
        let rtype = rtype.ok_or_else(|| self.wrong("rtype", "a number from 0 to 6"))?;
        let Some(kind) = ReservationType::from_bits(rtype) else { return Ok(None) };
        let holder = HostId(self.uuid(&self.json["holder_uuid"], "holder_uuid")?.into_bytes());
        let known = registrants.iter().any(|one| one.host == holder);
        if !(known || kind.all_registrants() && !registrants.is_empty()) {
            return Err(self.wrong("holder_uuid", "one of the registrants"));
        }
        Ok(Some((kind, holder)))
    }
}
