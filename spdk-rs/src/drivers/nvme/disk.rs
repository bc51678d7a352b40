//! A namespace as a block device.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use super::channel::ChannelCore;
use super::command::{self, COMMAND_BLOCKS_MAX, SEGMENTS_MAX};
use super::head::{Head, Path, ana_words};
use crate::bdev::{Bdev, BdevChannel, BdevInfo, BdevOps, IoLimits, IoTypes, ZoneGeometry};
use crate::nvme::controller::link::LinkInfo;
use crate::nvme::controller::scan::Namespace;
use crate::nvme::spec::identify::{cmic, csi, nmic, oacs, oncs, vwc};
use crate::nvme::spec::text;
use crate::reactor::Reactor;

/// A namespace's part of the driver.
pub struct NvmeDisk {
    head: Arc<Head>,
    types: IoTypes,
    zones: Option<ZoneGeometry>,
}

impl NvmeDisk {
    /// The paths to the namespace.
    #[must_use]
    pub fn paths(&self) -> Vec<super::IoPathInfo> {
        self.head.path_infos()
    }
}

/// Makes the block device of a namespace.
pub(super) fn make(head: &Arc<Head>, info: &LinkInfo, namespace: &Namespace) -> Arc<Bdev> {
    let limits = limits(info, namespace);
    let zones = zones(namespace, &limits);
    let bdev = BdevInfo {
        name: head.name.clone(),
        aliases: Vec::new(),
        uuid: unique(info, namespace),
        product_name: "NVMe disk".to_owned(),
        driver_name: "nvme",
        block_len: namespace.block_len,
        phys_block_len: namespace.phys_block_len,
        num_blocks: namespace.num_blocks,
        alignment: 1,
        write_cache: info.identify.vwc & vwc::PRESENT != 0,
        read_only: namespace.read_only,
        limits,
    };
    let types = command::io_types(info, namespace);
    Bdev::new(bdev, Box::new(NvmeDisk { head: Arc::clone(head), types, zones }))
}

/// The namespace's own name, or one made of the subsystem's and its number.
fn unique(info: &LinkInfo, namespace: &Namespace) -> Uuid {
    namespace.ids.as_uuid().unwrap_or_else(|| {
        let subsystem = match info.pcie {
            // A controller on this machine has the name that it gives itself, old ones none.
            Some(_) => format!(
                "{}:{}:{}",
                info.identify.subnqn().unwrap_or_default(),
                String::from_utf8_lossy(text::padded(&info.identify.mn)),
                String::from_utf8_lossy(text::padded(&info.identify.sn)),
            ),
            None => info.trid.subnqn.clone(),
        };
        let name = format!("{subsystem}/{}", namespace.nsid);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes())
    })
}

/// The zones, in blocks.
fn zones(namespace: &Namespace, limits: &IoLimits) -> Option<ZoneGeometry> {
    let zones = namespace.zones?;
    let told = zones.append_bytes_max.map(|bytes| (bytes / u64::from(namespace.block_len)).max(1));
    Some(ZoneGeometry {
        zone_blocks: zones.zone_blocks,
        append_blocks_max: told.map_or(limits.blocks_max, |blocks| blocks.min(limits.blocks_max)),
        open_max: zones.open_max,
        active_max: zones.active_max,
        reads_cross: zones.reads_cross,
    })
}

/// What one command may be.
fn limits(info: &LinkInfo, namespace: &Namespace) -> IoLimits {
    let block_len = u64::from(namespace.block_len);
    let mut blocks_max = (info.transfer_max() / block_len).clamp(1, COMMAND_BLOCKS_MAX);
    if command::io_types(info, namespace).contains(crate::bdev::IoType::Copy) {
        blocks_max = blocks_max.min(namespace.copy_blocks_max.into());
    }
    let mut dataless_blocks_max = COMMAND_BLOCKS_MAX;
    // WZSL is a power of two in units of the smallest page (NVM Command Set 1.0, figure 118).
    if let Some(shift @ 1..=40) = Some(info.nvm.wzsl) {
        let bytes = (4096_u64 << info.cap.mpsmin()) << shift;
        dataless_blocks_max = dataless_blocks_max.min((bytes / block_len).max(1));
    }
    if info.nvm.dmrsl.get() != 0 {
        dataless_blocks_max = dataless_blocks_max.min(info.nvm.dmrsl.get().into());
    }
    IoLimits { blocks_max, dataless_blocks_max, segments_max: SEGMENTS_MAX, boundary_blocks: 0 }
}

impl BdevOps for NvmeDisk {
    fn io_types(&self) -> IoTypes {
        self.types
    }

    fn zones(&self) -> Option<ZoneGeometry> {
        self.zones
    }

    fn create_channel(&self, reactor: &Rc<Reactor>) -> std::io::Result<Box<dyn BdevChannel>> {
        Ok(Box::new(ChannelCore::open(reactor, &self.head)))
    }

    fn driver_info(&self) -> Value {
        let (paths, policy) = self.head.paths();
        let (name, selector) = policy.names();
        let described: Vec<_> = paths.iter().map(describe).collect();
        json!({ "nvme": described, "mp_policy": name, "selector": selector })
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

/// A path with the members that SPDK shows.
fn describe(path: &Path) -> Value {
    let trid = &path.controller.trid;
    let mut described = json!({
        "trid": {
            "trtype": trid.trtype.name(),
            "adrfam": trid.adrfam().name(),
            "traddr": trid.traddr(),
            "trsvcid": trid.trsvcid(),
            "subnqn": trid.subnqn,
        },
        "ns_data": {
            "id": path.namespace.nsid,
            "can_share": path.namespace.shared,
            "csi": if path.namespace.zones.is_some() { csi::ZONED } else { csi::NVM },
        },
    });
    let Some(info) = path.controller.info() else { return described };
    let identify = &info.identify;
    let words = |field: &[u8]| String::from_utf8_lossy(text::padded(field)).trim().to_owned();
    let can = |bit: u16| u8::from(identify.oacs.get() & bit != 0);
    described["ctrlr_data"] = json!({
        "cntlid": info.cntlid,
        "vendor_id": format!("0x{:04x}", identify.vid.get()),
        "model_number": words(&identify.mn),
        "serial_number": words(&identify.sn),
        "firmware_revision": words(&identify.fr),
        "subnqn": trid.subnqn,
        "oacs": {
            "security": can(oacs::SECURITY),
            "format": can(oacs::FORMAT),
            "firmware": can(oacs::FIRMWARE),
            "ns_manage": can(oacs::NAMESPACE_MANAGEMENT),
        },
        "oncs": { "reservations": identify.oncs.get() & oncs::RESERVATIONS != 0 },
        "multi_ctrlr": identify.cmic & cmic::MULTI_CONTROLLER != 0,
        "ana_reporting": info.reports_ana(),
    });
    let vs = info.vs;
    described["vs"] = json!({ "nvme_version": format!("{}.{}", vs.major(), vs.minor()) });
    described["ns_data"]["can_share"] = json!(path.namespace.shared);
    if info.reports_ana() {
        described["ns_data"]["ana_state"] = json!(ana_words(path.ana));
    }
    debug_assert_eq!(nmic::SHARED, 1);
    described
}
