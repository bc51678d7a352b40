//! NVMe controllers that the engine uses.

use spdk_rs::drivers::nvme::{ControllerInfo, NvmeDriver, PathInfo};

use super::text::{Exposition, Kind, KindFigure, Number};

pub(super) fn write(out: &mut Exposition, driver: &NvmeDriver) {
    let controllers = driver.controllers(None);
    let mut family = out.family(
        "io_engine_nvme_path_info",
        Kind::Gauge,
        "A path to an NVMe controller, and the state that it is in.",
    );
    each(&controllers, |labels, path| {
        let nqn = ("nqn", path.trid.subnqn.as_str());
        family.sample(&[labels[0], labels[1], nqn, ("state", path.state.name())], 1u64);
    });
    let columns: [KindFigure<PathInfo, Number>; 3] = [
        (
            "io_engine_nvme_path_connected",
            Kind::Gauge,
            "Whether a path to an NVMe controller is connected.",
            |path| path.trouble.is_none().into(),
        ),
        (
            "io_engine_nvme_path_io_queues",
            Kind::Gauge,
            "I/O queues that a controller granted.",
            |path| u32::from(path.io_queues).into(),
        ),
        (
            "io_engine_nvme_path_reconnects_total",
            Kind::Counter,
            "How often a path was connected anew.",
            |path| path.reconnects.into(),
        ),
    ];
    for (name, kind, help, value) in columns {
        let mut family = out.family(name, kind, help);
        each(&controllers, |labels, path| family.sample(&labels, value(path)));
    }
    let help = "Namespaces of an NVMe controller that are devices.";
    let mut family = out.family("io_engine_nvme_namespaces", Kind::Gauge, help);
    for controller in &controllers {
        family.sample(&[("controller", &controller.name)], controller.bdevs.len());
    }
}

/// Every path with its labels.
fn each(controllers: &[ControllerInfo], mut f: impl FnMut([(&str, &str); 2], &PathInfo)) {
    for controller in controllers {
        for path in &controller.paths {
            let address = path.trid.address.to_string();
            f([("controller", &controller.name), ("address", &address)], path);
        }
    }
}
