//! `nvmf_subsystem_add_ns`, `nvmf_subsystem_remove_ns`, `nvmf_subsystem_set_ns_ana_group`.

use std::path::PathBuf;
use std::sync::Arc;

use jsonrpc::codes;
use serde_json::Value;
use spdk_rs::nvmf::subsystem::{NAMESPACES_MAX, NamespaceOptions};
use uuid::Uuid;

use super::{SUBSYSTEM, SubsystemName, invalid};
use crate::rpc::errors::RpcResult;
use crate::rpc::params::def::{form, int, only, optional, required};
use crate::rpc::params::{Def, Defs, Kind, Name, Param, ParamError, Params, Request};
use crate::rpc::{Context, Method};

pub(super) fn methods() -> Vec<Method> {
    vec![
        Method::new("nvmf_subsystem_add_ns", "Makes a device a namespace.", add)
            .in_config("nvmf")
            .answers("nsid"),
        Method::new(
            "nvmf_subsystem_remove_ns",
            "Removes a namespace; it answers when nothing of it is in flight.",
            remove,
        ),
        Method::new(
            "nvmf_subsystem_set_ns_ana_group",
            "Puts a namespace into an ANA group.",
            set_ana_group,
        )
        .in_config("nvmf"),
    ]
}

/// A number of a namespace or of an ANA group, or 0 for what is chosen when it is left out.
const GROUP_OR_0: Kind = int(0, NAMESPACES_MAX as i128);

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
pub(in crate::rpc) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

/// A globally unique identifier.
struct Nguid([u8; 16]);

impl Param for Nguid {
    fn of(value: &Value) -> Option<Self> {
        hex(value.as_str()?).map(Self)
    }
}

/// An IEEE extended unique identifier.
struct Eui64([u8; 8]);

impl Param for Eui64 {
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
    const PARAMS: Defs = &[&[
        required("bdev_name", Kind::Name, "The device."),
        optional("nsid", GROUP_OR_0, "Its number; the lowest free one when left out or 0."),
        optional(
            "nguid",
            form("32 hexadecimal digits", "0123456789ABCDEF0123456789ABCDEF"),
            "Its NGUID; the device's UUID when left out or zero.",
        ),
        optional(
            "eui64",
            form("16 hexadecimal digits", "0123456789ABCDEF"),
            "Its EUI-64; none when left out or zero.",
        ),
        optional("uuid", Kind::Uuid, "Its UUID; the device's when left out."),
        optional(
            "ptpl_file",
            Kind::Text,
            "Path of a file that keeps reservations that persist through power loss.",
        ),
        optional("anagrpid", GROUP_OR_0, "Its ANA group; its number when left out or 0."),
        only("no_auto_visible", "false", "a namespace is visible to every host that may connect"),
        only("hide_metadata", "false", "blocks carry no metadata"),
    ]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        let nguid = params.optional("nguid")?.map(|Nguid(id)| id);
        let eui64 = params.optional("eui64")?.map(|Eui64(id)| id);
        let ptpl_file: Option<String> = params.optional("ptpl_file")?;
        if ptpl_file.as_ref().is_some_and(|path| path.contains('\0')) {
            return Err(params.refuse("ptpl_file", "it has to be the path of a file"));
        }
        Ok(Self {
            bdev_name: params.required("bdev_name")?,
            nsid: params.optional("nsid")?.filter(|&id| id > 0),
            nguid: nguid.filter(|id| *id != [0; 16]),
            eui64: eui64.filter(|id| *id != [0; 8]),
            uuid: params.optional("uuid")?,
            ptpl_file: ptpl_file.map(PathBuf::from),
            ana_group: params.optional("anagrpid")?.filter(|&id| id > 0),
        })
    }
}

struct Add {
    subsystem: SubsystemName,
    namespace: Namespace,
}

impl Request for Add {
    const PARAMS: Defs =
        &[SUBSYSTEM, &[required("namespace", Kind::Object(Namespace::PARAMS), "The namespace.")]];

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
    if let Some(file) = &namespace.ptpl_file {
        context.roots().check(file)?;
    }
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

/// The number of a namespace.
const NSID: Def = required("nsid", int(1, NAMESPACES_MAX as i128), "Number of the namespace.");

struct Remove {
    subsystem: SubsystemName,
    nsid: u32,
}

impl Request for Remove {
    const PARAMS: Defs = &[SUBSYSTEM, &[NSID]];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self { subsystem: SubsystemName::take(params)?, nsid: params.required("nsid")? })
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
    const PARAMS: Defs = &[
        SUBSYSTEM,
        &[NSID, required("anagrpid", int(1, NAMESPACES_MAX as i128), "The ANA group.")],
    ];

    fn take(params: &Params<'_>) -> Result<Self, ParamError> {
        Ok(Self {
            subsystem: SubsystemName::take(params)?,
            nsid: params.required("nsid")?,
            group: params.required("anagrpid")?,
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
