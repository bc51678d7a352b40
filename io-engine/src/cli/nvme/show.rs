//! What controllers tell, as JSON: the members have the names of the specification's fields.

use serde_json::{Map, Value, json};
use spdk_rs::NvmeStatus;
use spdk_rs::nvme::spec::identify::{IdentifyController, IdentifyNamespace, fna, oacs, oncs, vwc};
use spdk_rs::nvme::spec::log::{ErrorEntry, FirmwareSlots};
use spdk_rs::nvme::spec::register::Vs;
use spdk_rs::nvme::spec::text;

/// Optional admin commands.
const ADMIN: &[(u16, &str)] = &[
    (oacs::SECURITY, "security"),
    (oacs::FORMAT, "format"),
    (oacs::FIRMWARE, "firmware"),
    (oacs::NAMESPACE_MANAGEMENT, "namespace management"),
    (oacs::SELF_TEST, "self-test"),
    (oacs::DIRECTIVES, "directives"),
    (oacs::DOORBELL_BUFFER, "doorbell buffer"),
];

/// Optional I/O commands.
const IO: &[(u16, &str)] = &[
    (oncs::COMPARE, "compare"),
    (oncs::DATASET_MANAGEMENT, "dataset management"),
    (oncs::WRITE_ZEROES, "write zeroes"),
    (oncs::RESERVATIONS, "reservations"),
    (oncs::VERIFY, "verify"),
    (oncs::COPY, "copy"),
];

fn words(field: &[u8]) -> Value {
    String::from_utf8_lossy(text::padded(field)).trim().into()
}

fn known(bits: u16, names: &[(u16, &str)]) -> Value {
    let there = names.iter().filter(|(bit, _)| bits & bit != 0);
    there.map(|(_, name)| *name).collect::<Vec<_>>().into()
}

/// Bytes of 128 bits as JSON, which has 64: the largest number stands for all beyond.
fn bytes(value: u128) -> Value {
    u64::try_from(value).unwrap_or(u64::MAX).into()
}

fn hex(bytes: &[u8]) -> Value {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

fn members<const N: usize>(all: [(&str, Value); N]) -> Map<String, Value> {
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A controller.
pub(super) fn controller(data: &IdentifyController) -> Value {
    let vs = Vs(data.ver.get());
    let mut all = members([
        ("mn", words(&data.mn)),
        ("sn", words(&data.sn)),
        ("fr", words(&data.fr)),
        ("subnqn", data.subnqn().unwrap_or_default().into()),
        ("vid", format!("{:#06x}", data.vid.get()).into()),
        ("ssvid", format!("{:#06x}", data.ssvid.get()).into()),
        ("cntlid", data.cntlid.get().into()),
        ("ver", format!("{}.{}.{}", vs.major(), vs.minor(), vs.tertiary()).into()),
        ("cntrltype", data.cntrltype.into()),
        ("cmic", data.cmic.into()),
        ("mdts", data.mdts.into()),
        ("nn", data.nn.get().into()),
        ("mnan", data.mnan.get().into()),
        ("tnvmcap_bytes", bytes(data.tnvmcap.get())),
        ("unvmcap_bytes", bytes(data.unvmcap.get())),
        ("oaes", data.oaes.get().into()),
        ("ctratt", data.ctratt.get().into()),
    ]);
    all.extend(members([
        ("oacs", data.oacs.get().into()),
        ("admin_commands", known(data.oacs.get(), ADMIN)),
        ("oncs", data.oncs.get().into()),
        ("io_commands", known(data.oncs.get(), IO)),
        ("fuses", data.fuses.get().into()),
        ("fna", data.fna.into()),
        ("crypto_erase", (data.fna & fna::CRYPTO_ERASE != 0).into()),
        ("vwc", data.vwc.into()),
        ("write_cache", (data.vwc & vwc::PRESENT != 0).into()),
        ("sanicap", data.sanicap.get().into()),
        ("frmw", data.frmw.into()),
        ("fwug", data.fwug.into()),
        ("lpa", data.lpa.into()),
        ("elpe", data.elpe.into()),
        ("aerl", data.aerl.into()),
        ("acl", data.acl.into()),
        ("npss", data.npss.into()),
        ("wctemp", data.wctemp.get().into()),
        ("cctemp", data.cctemp.get().into()),
        ("kas", data.kas.get().into()),
        ("rtd3e", data.rtd3e.get().into()),
        ("awun", data.awun.get().into()),
        ("awupf", data.awupf.get().into()),
        ("acwu", data.acwu.get().into()),
        ("sgls", data.sgls.get().into()),
    ]));
    all.into()
}

/// A namespace with its LBA formats, one of which is in use.
pub(super) fn namespace(data: &IdentifyNamespace, in_use: u8) -> Value {
    let count = usize::from(data.nlbaf) + 1;
    let formats = (0_u8..64).zip(data.lbaf.iter().take(count));
    let there = formats.filter(|(_, format)| format.lbads != 0);
    let formats: Vec<Value> = there
        .map(|(index, format)| {
            let performance = ["best", "better", "good", "degraded"];
            json!({
                "index": index,
                "block_size": 1_u64.checked_shl(format.lbads.into()),
                "metadata_size": format.ms.get(),
                "performance": performance[usize::from(format.rp & 3)],
                "in_use": index == in_use,
            })
        })
        .collect();
    let all = members([
        ("nsze", data.nsze.get().into()),
        ("ncap", data.ncap.get().into()),
        ("nuse", data.nuse.get().into()),
        ("nsfeat", data.nsfeat.into()),
        ("nlbaf", data.nlbaf.into()),
        ("flbas", data.flbas.into()),
        ("mc", data.mc.into()),
        ("dpc", data.dpc.into()),
        ("dps", data.dps.into()),
        ("nmic", data.nmic.into()),
        ("rescap", data.rescap.into()),
        ("fpi", data.fpi.into()),
        ("dlfeat", data.dlfeat.into()),
        ("noiob", data.noiob.get().into()),
        ("nvmcap_bytes", bytes(data.nvmcap.get())),
        ("anagrpid", data.anagrpid.get().into()),
        ("nguid", hex(&data.nguid)),
        ("eui64", hex(&data.eui64)),
        ("lbafs", formats.into()),
    ]);
    all.into()
}

/// An entry of the error log.
pub(super) fn error(entry: &ErrorEntry) -> Value {
    let status = NvmeStatus::from_bits(entry.status.get() >> 1);
    // All ones where it belongs to no queue and no command.
    let of = |id: u16| if id == u16::MAX { Value::Null } else { id.into() };
    json!({
        "error_count": entry.error_count.get(),
        "sqid": of(entry.sqid.get()),
        "cid": of(entry.cid.get()),
        "nsid": entry.nsid.get(),
        "lba": entry.lba.get(),
        "location": of(entry.location.get()),
        "status": status.to_string(),
        "status_field": entry.status.get() >> 1,
    })
}

/// The firmware slots; bits 3:1 of FRMW are their number.
pub(super) fn slots(slots: &FirmwareSlots, frmw: u8) -> Value {
    let count = usize::from(frmw >> 1 & 7).max(1);
    let numbered = (1_u8..).zip(slots.frs.iter()).take(count);
    let shown = numbered.map(|(slot, revision)| {
        let revision: &[u8] = if *revision == [0; 8] { &[] } else { revision };
        json!({
            "slot": slot,
            "revision": words(revision),
            "active": slots.afi & 7 == slot,
            "active_next": slots.afi >> 4 & 7 == slot,
        })
    });
    shown.collect::<Vec<_>>().into()
}
