//! `nvmf_subsystem_add_ns`, `nvmf_subsystem_remove_ns`, `nvmf_subsystem_set_ns_ana_group`.

use std::path::PathBuf;
use std::sync::Arc;

use jsonrpc::codes;
use serde_json::{Value, json};
use spdk_rs::nvmf::subsystem::{NAMESPACES_MAX, NamespaceOptions};
use uuid::Uuid;

use super::{SubsystemName, invalid};
use crate::rpc::errors::RpcResult;
use crate::rpc::params::{Name, Param, ParamError, Params, Request};
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("nvmf_subsystem_add_ns", add).in_config("nvmf"),
        Method::new("nvmf_subsystem_remove_ns", remove),
        Method::new("nvmf_subsystem_set_ns_ana_group", set_ana_group).in_config("nvmf"),
    ]
}

/// Reads exactly `N` bytes of hexadecimal digits.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Upper-case hexadecimal digits, as SPDK writes identifiers.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A globally unique identifier.
struct Nguid([u8; 16]);

impl Param for Nguid {
    const EXPECTED: &'static str = "32 hexadecimal digits";

    fn of(value: &Value) -> Option<Self> {
        hex(value.as_str()?).map(Self)
    }
}

/// An IEEE extended unique identifier.
struct Eui64([u8; 8]);

impl Param for Eui64 {
    const EXPECTED: &'static str = "16 hexadecimal digits";

    fn of(value: &Value) -> Option<Self> {
        hex(value.as_str()?).map(Self)
    }
}

/// The parameters of a namespace; zero is the same as left out, as with SPDK.
struct Namespace {
    bdev_name: Name,
    nsid: Option<u32>,
    nguid: Option<[u8; 16]>,
    eui64: Option<[u8; 8]>,
    uuid: Option<Uuid>,
    ptpl_file: Option<PathBuf>,
    ana_group: Option<u32>,
}

impl Request for Namespace {
    const NAMES: &'static [&'static str] = &[
        "nsid",
        "bdev_name",
        "nguid",
        "eui64",
        "uuid",
        "ptpl_file",
        "anagrpid",
        "no_auto_visible",
        "hide_metadata",
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let every = "a namespace is visible to every host that may connect";
        params.only("no_auto_visible", &json!(false), every)?;
        params.only("hide_metadata", &json!(false), "blocks carry no metadata")?;
        let nguid = params.optional("nguid")?.map(|Nguid(id)| id);
        let eui64 = params.optional("eui64")?.map(|Eui64(id)| id);
        let ptpl_file: Option<String> = params.optional("ptpl_file")?;
        if ptpl_file.as_ref().is_some_and(|path| path.is_empty() || path.contains('\0')) {
            return Err(params.refuse("ptpl_file", "it has to be the path of a file"));
        }
        Ok(Self {
            bdev_name: params.required("bdev_name")?,
            nsid: params.optional_u32("nsid", 0..=NAMESPACES_MAX)?.filter(|&id| id > 0),
            nguid: nguid.filter(|id| *id != [0; 16]),
            eui64: eui64.filter(|id| *id != [0; 8]),
            uuid: params.optional("uuid")?,
            ptpl_file: ptpl_file.map(PathBuf::from),
            ana_group: params.optional_u32("anagrpid", 0..=NAMESPACES_MAX)?.filter(|&id| id > 0),
        })
    }
}

struct Add {
    subsystem: SubsystemName,
    namespace: Namespace,
}

impl Request for Add {
    const NAMES: &'static [&'static str] = &["nqn", "namespace", "tgt_name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            subsystem: SubsystemName::take(params)?,
            namespace: params.required_object("namespace")?,
        })
    }
}

async fn add(context: Arc<Context>, request: Add) -> RpcResult<u32> {
    let subsystem = request.subsystem.find(&context)?;
    let namespace = request.namespace;
    let bdev = context.engine()?.registry().find(&namespace.bdev_name.0);
    let bdev = bdev.map_err(|error| {
        codes::invalid_params(format!("Invalid parameters: `bdev_name`: {error}"))
    })?;
    let options = NamespaceOptions {
        nsid: namespace.nsid,
        uuid: namespace.uuid,
        nguid: namespace.nguid,
        eui64: namespace.eui64,
        ana_group: namespace.ana_group,
        ptpl_file: namespace.ptpl_file,
        ..NamespaceOptions::new(bdev)
    };
    subsystem.add_namespace(options).await.map_err(|error| invalid(&error))
}

/// Takes the number of a namespace.
fn take_nsid(params: &Params<'_>) -> Result<u32, ParamError> {
    let nsid = params.required_u64("nsid", 1..=NAMESPACES_MAX.into())?;
    Ok(u32::try_from(nsid).unwrap_or(NAMESPACES_MAX))
}

struct Remove {
    subsystem: SubsystemName,
    nsid: u32,
}

impl Request for Remove {
    const NAMES: &'static [&'static str] = &["nqn", "nsid", "tgt_name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { subsystem: SubsystemName::take(params)?, nsid: take_nsid(params)? })
    }
}

async fn remove(context: Arc<Context>, request: Remove) -> RpcResult<bool> {
    let removed = request.subsystem.find(&context)?.remove_namespace(request.nsid).await;
    removed.map(|()| true).map_err(|error| invalid(&error))
}

struct SetAnaGroup {
    subsystem: SubsystemName,
    nsid: u32,
    group: u32,
}

impl Request for SetAnaGroup {
    const NAMES: &'static [&'static str] = &["nqn", "nsid", "anagrpid", "tgt_name"];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let group = params.required_u64("anagrpid", 1..=NAMESPACES_MAX.into())?;
        Ok(Self {
            subsystem: SubsystemName::take(params)?,
            nsid: take_nsid(params)?,
            group: u32::try_from(group).unwrap_or(NAMESPACES_MAX),
        })
    }
}

async fn set_ana_group(context: Arc<Context>, request: SetAnaGroup) -> RpcResult<bool> {
    let subsystem = request.subsystem.find(&context)?;
    let set = subsystem.set_namespace_ana_group(request.nsid, request.group).await;
    set.map(|()| true).map_err(|error| invalid(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_as_many_digits_as_they_have() {
        let text = "0123456789ABCDEFfedcba9876543210";
        let bytes: [u8; 16] = hex(text).expect("hexadecimal");
        assert_eq!(to_hex(&bytes), text.to_uppercase());
        assert_eq!(
            hex::<8>("0123456789abcdef"),
            Some([1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef])
        );
        for wrong in
            ["", "0", "0123456789abcde", "0123456789abcdefa", "0123456789abcdeg", "éééééééé"]
        {
            assert_eq!(hex::<8>(wrong), None, "{wrong}");
        }
        // A sign is no digit, though numbers may have one.
        assert_eq!(hex::<1>("+1"), None);
    }
}
