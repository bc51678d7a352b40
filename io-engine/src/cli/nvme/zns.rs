//! `io-engine nvme zns`: the zones of a namespace, and what is done with them.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use spdk_rs::bdev::Zone;
use spdk_rs::nvme::spec::Sqe;
use spdk_rs::nvme::spec::identify::{Flbas, IdentifyNamespace, cns, csi};
use spdk_rs::nvme::spec::zns::{
    IdentifyControllerZoned, IdentifyNamespaceZoned, ZoneAction, ZoneDescriptor, ZoneReport,
};

use super::access::Target;
use super::{ControllerArgs, Done, ForceArgs, facts, listed, read};
use crate::cli::ExitCode;
use crate::cli::manage::view::{Column, Form};
use crate::cli::remote::fail;

/// Bytes of one report: what every controller transfers at once.
const REPORT_BYTES: u32 = 4096;

const ZONES: &[Column] = &[
    ("first block", "/slba", Form::Count),
    ("write pointer", "/wp", Form::Count),
    ("capacity", "/cap", Form::Count),
    ("state", "/state", Form::Text),
    ("attributes", "/attrs", Form::Count),
];

/// What to do with the zones of a namespace.
#[derive(Debug, Clone, Subcommand)]
pub enum ZnsCommand {
    /// Show what a zoned namespace tells of itself
    IdNs(ControllerArgs),
    /// Show the zones
    ReportZones {
        /// The namespace.
        #[command(flatten)]
        target: ControllerArgs,
        /// A block of the first zone that is shown
        #[arg(short, long, value_name = "BLOCK", default_value_t = 0)]
        start_lba: u64,
        /// Show so many zones at the most
        #[arg(short, long, value_name = "ZONES")]
        descs: Option<u64>,
    },
    /// Make a zone empty; all data in it are lost
    ResetZone {
        /// Which zone.
        #[command(flatten)]
        zone: ZoneArgs,
        /// Whether to ask.
        #[command(flatten)]
        force: ForceArgs,
    },
    /// Open a zone for writes
    OpenZone(ZoneArgs),
    /// Close a zone that is open
    CloseZone(ZoneArgs),
    /// Make a zone full, however much of it is written
    FinishZone(ZoneArgs),
    /// Take a zone out of use for good that can only be read; all data in it are lost
    OfflineZone {
        /// Which zone.
        #[command(flatten)]
        zone: ZoneArgs,
        /// Whether to ask.
        #[command(flatten)]
        force: ForceArgs,
    },
}

/// A zone, or all of them.
#[derive(Debug, Clone, Args)]
pub struct ZoneArgs {
    /// The namespace.
    #[command(flatten)]
    pub target: ControllerArgs,
    /// The first block of the zone
    #[arg(short, long, value_name = "BLOCK", required_unless_present = "select_all")]
    pub start_lba: Option<u64>,
    /// All zones whose state allows it
    #[arg(short = 'a', long, conflicts_with = "start_lba")]
    pub select_all: bool,
}

impl ZnsCommand {
    /// The namespace that the command is for.
    pub(super) fn place(&self) -> &ControllerArgs {
        match self {
            Self::IdNs(target) | Self::ReportZones { target, .. } => target,
            Self::ResetZone { zone, .. }
            | Self::OfflineZone { zone, .. }
            | Self::OpenZone(zone)
            | Self::CloseZone(zone)
            | Self::FinishZone(zone) => &zone.target,
        }
    }

    /// What it destroys, and whether that was confirmed.
    pub(super) fn destroys(&self) -> Option<(&'static str, &ForceArgs)> {
        let (zone, force) = match self {
            Self::ResetZone { zone, force } | Self::OfflineZone { zone, force } => (zone, force),
            _ => return None,
        };
        let what =
            if zone.select_all { "lose the data of all zones" } else { "lose the zone's data" };
        Some((what, force))
    }
}

/// Does what a command says with the namespace of a controller.
pub(super) fn execute(target: &Target, command: &ZnsCommand) -> Done {
    let nsid = target.namespace()?;
    match command {
        ZnsCommand::IdNs(_) => {
            let ns = Zoned::of(target, nsid)?;
            Ok((ns.shown, facts))
        }
        ZnsCommand::ReportZones { start_lba, descs, .. } => {
            report(target, nsid, *start_lba, descs.unwrap_or(u64::MAX))
        }
        ZnsCommand::ResetZone { zone, .. } => manage(target, nsid, zone, ZoneAction::Reset),
        ZnsCommand::OfflineZone { zone, .. } => manage(target, nsid, zone, ZoneAction::Offline),
        ZnsCommand::OpenZone(zone) => manage(target, nsid, zone, ZoneAction::Open),
        ZnsCommand::CloseZone(zone) => manage(target, nsid, zone, ZoneAction::Close),
        ZnsCommand::FinishZone(zone) => manage(target, nsid, zone, ZoneAction::Finish),
    }
}

fn manage(target: &Target, nsid: u32, zone: &ZoneArgs, action: ZoneAction) -> Done {
    let sqe = Sqe::zone_send(nsid, zone.start_lba.unwrap_or(0), action, zone.select_all);
    target.io(&sqe, 0, &format!("{} zone", action.name()))?;
    Ok((Value::Null, |_| String::new()))
}

/// What is the same for all zones.
struct Zoned {
    num_blocks: u64,
    zone_blocks: u64,
    shown: Value,
}

impl Zoned {
    fn of(target: &Target, nsid: u32) -> Result<Self, ExitCode> {
        let what = "identify namespace";
        let data = target.admin(&Sqe::identify(cns::NAMESPACE, nsid, 0), 4096, what)?;
        let data: IdentifyNamespace = read(&data, what)?;
        let what = "identify namespace, zoned namespace command set";
        let sqe = Sqe::identify(cns::NAMESPACE_CSI, nsid, csi::ZONED);
        let zoned: IdentifyNamespaceZoned = read(&target.admin(&sqe, 4096, what)?, what)?;
        let what = "identify controller, zoned namespace command set";
        let sqe = Sqe::identify(cns::CONTROLLER_CSI, 0, csi::ZONED);
        let limits: IdentifyControllerZoned = read(&target.admin(&sqe, 4096, what)?, what)?;
        Self::read(&data, &zoned, &limits).map_err(|why| fail(ExitCode::Refused, &why))
    }

    fn read(
        data: &IdentifyNamespace,
        zoned: &IdentifyNamespaceZoned,
        limits: &IdentifyControllerZoned,
    ) -> Result<Self, String> {
        let zone_blocks = zoned.lbafe[usize::from(Flbas(data.flbas).index())].zsze.get();
        if zone_blocks == 0 {
            return Err("the namespace has no zones".to_owned());
        }
        let num_blocks = data.nsze.get();
        // 0's based, and all ones for no limit.
        let limit = |field: u32| field.checked_add(1);
        let shown = json!({
            "zone_size": zone_blocks,
            "nr_zones": num_blocks.div_ceil(zone_blocks),
            "max_active": limit(zoned.mar.get()),
            "max_open": limit(zoned.mor.get()),
            "zoc": zoned.zoc.get(),
            "ozcs": zoned.ozcs.get(),
            "zasl": limits.zasl,
        });
        Ok(Self { num_blocks, zone_blocks, shown })
    }
}

fn report(target: &Target, nsid: u32, start_lba: u64, count: u64) -> Done {
    let zoned = Zoned::of(target, nsid)?;
    let (mut shown, mut next) = (Vec::new(), start_lba);
    while (shown.len() as u64) < count && next < zoned.num_blocks {
        let sqe = Sqe::zone_report(nsid, next, REPORT_BYTES);
        let data = target.io(&sqe, REPORT_BYTES.into(), "report zones")?;
        let failed = |why: &dyn std::fmt::Display| fail(ExitCode::Failure, &why.to_string());
        let report = ZoneReport::read(&data).map_err(|error| failed(&error))?;
        let before = next;
        for descriptor in report.zones {
            let zone = descriptor.zone().map_err(|error| failed(&error))?;
            next = next.max(zone.first_block.saturating_add(zoned.zone_blocks));
            shown.push(describe(&zone, descriptor));
        }
        if next == before {
            break;
        }
    }
    shown.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    let answer = json!({ "zone_size": zoned.zone_blocks, "zones": shown });
    Ok((answer, |answer| listed(&answer["zones"], ZONES)))
}

fn describe(zone: &Zone, descriptor: &ZoneDescriptor) -> Value {
    json!({
        "slba": zone.first_block,
        "wp": zone.write_pointer,
        "cap": zone.capacity_blocks,
        "state": zone.state.name(),
        "type": descriptor.kind(),
        "attrs": descriptor.za,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use spdk_rs::bdev::ZoneState;

    #[test]
    fn zones_are_shown() {
        let mut descriptor = ZoneDescriptor { zt: 2, zs: 0x40, za: 4, ..Default::default() };
        descriptor.zslba.set(4096);
        descriptor.wp.set(4104);
        descriptor.zcap.set(3000);
        let zone = descriptor.zone().expect("a zone");
        assert_eq!(zone.state, ZoneState::Closed);
        let shown = json!([describe(&zone, &descriptor)]);
        let wanted = json!([{
            "slba": 4096, "wp": 4104, "cap": 3000, "state": "closed", "type": 2, "attrs": 4,
        }]);
        assert_eq!(shown, wanted);
        let table = listed(&shown, ZONES);
        assert!(table.contains("closed") && table.contains("4104"), "{table}");
        descriptor.zs = 0xe0;
        let full = descriptor.zone().expect("a zone");
        assert_eq!(describe(&full, &descriptor)["wp"], Value::Null, "a full zone has none");
    }

    #[test]
    fn what_is_the_same_for_all_zones_is_shown() {
        let mut data = IdentifyNamespace { flbas: 1, ..Default::default() };
        data.nsze.set(1000);
        let mut zoned = IdentifyNamespaceZoned::default();
        let limits = IdentifyControllerZoned { zasl: 5, ..Default::default() };
        assert!(Zoned::read(&data, &zoned, &limits).is_err(), "no zones in the format in use");
        zoned.lbafe[1].zsze.set(100);
        zoned.mor.set(3);
        zoned.mar.set(u32::MAX);
        let shown = Zoned::read(&data, &zoned, &limits).expect("zones").shown;
        assert_eq!((&shown["nr_zones"], &shown["max_open"]), (&json!(10), &json!(4)));
        assert_eq!((&shown["max_active"], &shown["zasl"]), (&Value::Null, &json!(5)));
    }
}
