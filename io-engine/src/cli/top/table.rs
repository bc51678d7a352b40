//! The load as text.

use comfy_table::{CellAlignment, Table};

use super::Sort;
use super::sample::{DeviceLoad, Load, ReactorLoad};
use crate::cli::manage::view::empty_table;

/// Both tables.
pub(super) fn text(load: &Load, sort: Sort) -> String {
    let mut reactors =
        table(&["reactor", "busy", "asleep", "turns/s", "kernel entries/s", "stalls"]);
    for one in &load.reactors {
        reactors.add_row(of_reactor(one));
    }
    let mut devices = table(&[
        "device",
        "read/s",
        "write/s",
        "read",
        "written",
        "read latency",
        "write latency",
        "errors",
    ]);
    for one in load.sorted(sort) {
        devices.add_row(of_device(one));
    }
    format!("{reactors}\n{devices}")
}

fn table(heads: &[&str]) -> Table {
    let mut table = empty_table();
    table.set_header(heads.iter().copied());
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn of_reactor(one: &ReactorLoad) -> [String; 6] {
    [
        one.name.clone(),
        percent(one.busy),
        percent(one.asleep),
        short(one.turns),
        short(one.kernel_entries),
        one.stalls.to_string(),
    ]
}

fn of_device(one: &DeviceLoad) -> [String; 8] {
    [
        one.name.clone(),
        short(one.read_iops),
        short(one.write_iops),
        bytes(one.read_bytes),
        bytes(one.write_bytes),
        latency(one.read_latency),
        latency(one.write_latency),
        one.errors.to_string(),
    ]
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A number with at most five characters and a unit.
fn scaled(mut value: f64, step: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        ..10.0 => 2,
        ..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", units[unit])
}

fn short(value: f64) -> String {
    scaled(value, 1000.0, &["", "k", "M", "G"])
}

fn bytes(value: f64) -> String {
    scaled(value, 1024.0, &[" B/s", " KiB/s", " MiB/s", " GiB/s", " TiB/s"])
}

fn latency(seconds: Option<f64>) -> String {
    seconds
        .map_or_else(|| "-".to_owned(), |s| scaled(s * 1e9, 1000.0, &[" ns", " µs", " ms", " s"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, words) in
            [(0.0, "0"), (999.4, "999"), (1234.0, "1.23k"), (56_789.0, "56.8k"), (2e8, "200M")]
        {
            assert_eq!(short(value), words);
        }
        assert_eq!(bytes(1_572_864.0), "1.50 MiB/s");
        assert_eq!(latency(Some(0.000_012_34)), "12.3 µs");
        assert_eq!(latency(None), "-");
    }

    #[test]
    fn a_line_per_reactor_and_device() {
        let device =
            DeviceLoad { name: "m0".into(), read_iops: 1500.0, errors: 4, ..DeviceLoad::default() };
        let reactor =
            ReactorLoad { name: "reactor_0".into(), busy: 0.255, ..ReactorLoad::default() };
        let text = text(&Load { devices: vec![device], reactors: vec![reactor] }, Sort::Name);
        let line = |name: &str| text.lines().find(|line| line.contains(name)).expect(name);
        assert!(line("reactor_0").contains("25.5 %"), "{text}");
        assert!(line("m0").contains("1.50k") && line("m0").contains(" 4 "), "{text}");
    }
}
