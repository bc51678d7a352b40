//! Fault injections.

use super::text::{Exposition, Kind, KindFigure};
use crate::core::fault_injection::{FaultInjections, InjectionInfo};

const COLUMNS: [KindFigure<InjectionInfo, u64>; 3] = [
    (
        "io_engine_fault_injection_matched_total",
        Kind::Counter,
        "I/Os that fitted a fault injection.",
        |info| info.matched,
    ),
    (
        "io_engine_fault_injection_hits_total",
        Kind::Counter,
        "I/Os that a fault was injected into.",
        |info| info.hits,
    ),
    (
        "io_engine_fault_injection_held",
        Kind::Gauge,
        "I/Os that hang because of a fault injection.",
        |info| info.held,
    ),
];

pub(super) fn write(out: &mut Exposition, faults: &FaultInjections) {
    let all = faults.list(None);
    for (name, kind, help, value) in COLUMNS {
        let mut family = out.family(name, kind, help);
        for info in &all {
            let (id, what) = (info.id.to_string(), info.spec.kind.name());
            let labels = [("id", id.as_str()), ("bdev", &info.device), ("type", &what)];
            family.sample(&labels, value(info));
        }
    }
}
