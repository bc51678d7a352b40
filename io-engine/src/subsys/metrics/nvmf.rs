//! The NVMe-oF target: poll groups, transports, subsystems, controllers.

use std::sync::Arc;

use spdk_rs::nvmf::controller::Controller;
use spdk_rs::nvmf::subsystem::Subsystem;
use spdk_rs::nvmf::target::{CoreStats, QueueStats, Target};
use spdk_rs::nvmf::tcp::{TcpStats, TcpTransport};

use super::text::{Exposition, Figure, Kind, KindFigure, Number};

/// Figures of queues: the end of the name, what is counted, and which.
const QUEUES: &[Figure<QueueStats, u64>] = &[
    ("commands_total", "Commands of I/O queues", |queues| queues.commands),
    ("errors_total", "Commands of I/O queues that ended in an error", |queues| queues.errors),
    ("reads_total", "Read commands", |queues| queues.reads),
    ("read_bytes_total", "Bytes that read commands asked for", |queues| queues.read_bytes),
    ("writes_total", "Write commands", |queues| queues.writes),
    ("write_bytes_total", "Bytes that write commands brought", |queues| queues.write_bytes),
    ("memory_waits_total", "Times that a command had to wait for memory", |queues| queues.waits),
];

const GROUPS: &[KindFigure<CoreStats, Number>] = &[
    (
        "io_engine_nvmf_admin_qpairs_total",
        Kind::Counter,
        "Admin queue pairs that came to a reactor.",
        |group| group.admin_qpairs.into(),
    ),
    (
        "io_engine_nvmf_io_qpairs_total",
        Kind::Counter,
        "I/O queue pairs that came to a reactor.",
        |group| group.io_qpairs.into(),
    ),
    ("io_engine_nvmf_admin_qpairs", Kind::Gauge, "Admin queue pairs of a reactor.", |group| {
        group.current_admin_qpairs.into()
    }),
    ("io_engine_nvmf_io_qpairs", Kind::Gauge, "I/O queue pairs of a reactor.", |group| {
        group.current_io_qpairs.into()
    }),
    (
        "io_engine_nvmf_pending_io",
        Kind::Gauge,
        "Commands of I/O queues of a reactor that are in flight.",
        |group| group.pending_io.into(),
    ),
    (
        "io_engine_nvmf_completed_io_total",
        Kind::Counter,
        "Commands of I/O queues of a reactor that have ended.",
        |group| group.completed_io.into(),
    ),
];

const SUBSYSTEMS: &[Figure<Subsystem, usize>] = &[
    ("io_engine_nvmf_subsystem_namespaces", "Namespaces of a subsystem.", |one| {
        one.namespaces().len()
    }),
    ("io_engine_nvmf_subsystem_listeners", "Listeners of a subsystem.", |one| {
        one.listeners().len()
    }),
    (
        "io_engine_nvmf_subsystem_controllers",
        "Controllers of a subsystem: hosts that are connected.",
        |one| one.controllers().len(),
    ),
];

/// A controller and what its queues counted.
struct Row {
    nqn: String,
    cntlid: String,
    controller: Arc<Controller>,
    queues: QueueStats,
}

pub(super) async fn write(out: &mut Exposition, target: &Target) {
    // Reactors that have ended count nothing any more.
    let groups = target.stats().await.unwrap_or_default();
    for (name, kind, help, value) in GROUPS {
        let mut family = out.family(name, *kind, help);
        for group in &groups {
            family.sample(&[("core", &group.core.to_string())], value(group));
        }
    }
    for (end, help, value) in QUEUES {
        let name = format!("io_engine_nvmf_{end}");
        let help = format!("{help}, by reactor.");
        let mut family = out.family(&name, Kind::Counter, &help);
        for group in &groups {
            family.sample(&[("core", &group.core.to_string())], value(&group.queues));
        }
    }
    write_transports(out, target);
    let subsystems = target.subsystems();
    for (name, help, value) in SUBSYSTEMS {
        let mut family = out.family(name, Kind::Gauge, help);
        for one in &subsystems {
            family.sample(&[("nqn", one.nqn().as_str())], value(one));
        }
    }
    write_controllers(out, &subsystems).await;
}

fn write_transports(out: &mut Exposition, target: &Target) {
    let transports = target.transports();
    let tcp: Vec<TcpStats> = transports
        .iter()
        .filter_map(|transport| transport.as_any().downcast_ref::<TcpTransport>())
        .map(TcpTransport::stats)
        .collect();
    let columns: [KindFigure<TcpStats, u64>; 3] = [
        ("io_engine_nvmf_connections", Kind::Gauge, "Connections of a transport.", |tcp| {
            tcp.current
        }),
        (
            "io_engine_nvmf_connections_accepted_total",
            Kind::Counter,
            "Connections that a transport accepted.",
            |tcp| tcp.accepted,
        ),
        (
            "io_engine_nvmf_connections_terminated_total",
            Kind::Counter,
            "Connections that a transport ended for a fatal error of the protocol.",
            |tcp| tcp.terminated,
        ),
    ];
    for (name, kind, help, value) in columns {
        let mut family = out.family(name, kind, help);
        tcp.iter().for_each(|stats| family.sample(&[("trtype", "TCP")], value(stats)));
    }
}

async fn write_controllers(out: &mut Exposition, subsystems: &[Arc<Subsystem>]) {
    let mut rows = Vec::new();
    for subsystem in subsystems {
        for controller in subsystem.controllers() {
            let queues = controller.queue_stats().await;
            let io = queues.into_iter().filter(|(qid, _)| *qid != 0).map(|(_, stats)| stats);
            rows.push(Row {
                nqn: subsystem.nqn().to_string(),
                cntlid: controller.cntlid().to_string(),
                queues: io.fold(QueueStats::default(), QueueStats::plus),
                controller,
            });
        }
    }
    let mut family =
        out.family("io_engine_nvmf_controller_info", Kind::Gauge, "A host's controller.");
    for row in &rows {
        let peer = row.controller.info().peer.to_string();
        let host = row.controller.host().nqn.to_string();
        let labels = [
            ("nqn", row.nqn.as_str()),
            ("cntlid", &row.cntlid),
            ("hostnqn", &host),
            ("peer", &peer),
        ];
        family.sample(&labels, 1u64);
    }
    let help = "I/O queues of a controller.";
    let mut family = out.family("io_engine_nvmf_controller_io_queues", Kind::Gauge, help);
    for row in &rows {
        let labels = [("nqn", row.nqn.as_str()), ("cntlid", row.cntlid.as_str())];
        family.sample(&labels, row.controller.io_queue_count());
    }
    for (end, help, value) in QUEUES {
        let name = format!("io_engine_nvmf_controller_{end}");
        let help = format!("{help}, by controller, of the queues that it has now.");
        let mut family = out.family(&name, Kind::Counter, &help);
        for row in &rows {
            let labels = [("nqn", row.nqn.as_str()), ("cntlid", row.cntlid.as_str())];
            family.sample(&labels, value(&row.queues));
        }
    }
}
