//! Tables out of JSON.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value};

use crate::size::Size;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Form {
    /// As it is.
    Text,
    /// A number, to the right.
    Count,
    /// Bytes.
    Size,
    /// Nanoseconds.
    Nanoseconds,
    /// How many there are.
    Length,
}

/// A column: its head, where its value is (a JSON pointer), and how it is written.
pub(in crate::cli) type Column = (&'static str, &'static str, Form);

/// The borders of every table.
pub(in crate::cli) fn empty_table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table
}

/// A line for each of `rows`.
pub(in crate::cli) fn table(columns: &[Column], rows: &[Value]) -> String {
    let mut table = empty_table();
    table.set_header(columns.iter().map(|(head, ..)| *head));
    for (column, (_, _, form)) in table.column_iter_mut().zip(columns) {
        if *form != Form::Text {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for row in rows {
        table.add_row(columns.iter().map(|(_, place, form)| {
            row.pointer(place).map_or_else(String::new, |value| written(value, *form))
        }));
    }
    table.to_string()
}

/// A line for each member; members of members stand with both names.
pub(in crate::cli) fn facts(members: &Map<String, Value>) -> String {
    fn add(table: &mut Table, before: &str, members: &Map<String, Value>) {
        for (name, value) in members {
            let name = format!("{before}{name}");
            match value {
                Value::Object(inside) if !inside.is_empty() => {
                    add(table, &format!("{name}."), inside);
                }
                value => {
                    let form = match name.rsplit('_').next() {
                        Some("bytes") => Form::Size,
                        Some("ns") => Form::Nanoseconds,
                        _ => Form::Text,
                    };
                    table.add_row([name, written(value, form)]);
                }
            }
        }
    }
    let mut table = empty_table();
    add(&mut table, "", members);
    table.to_string()
}

/// A value without quotes and brackets.
pub(in crate::cli) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Array(list) => list.iter().map(text).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let pairs = members.iter().map(|(name, value)| format!("{name}={}", text(value)));
            pairs.collect::<Vec<_>>().join(" ")
        }
    }
}

fn written(value: &Value, form: Form) -> String {
    match (form, value, value.as_u64()) {
        (Form::Size, _, Some(bytes)) => Size(bytes).to_string(),
        (Form::Nanoseconds, _, Some(ns)) => nanoseconds(ns),
        (Form::Length, Value::Array(list), _) => list.len().to_string(),
        _ => text(value),
    }
}

/// A duration in the unit that leaves one to three digits before the point.
pub(in crate::cli) fn nanoseconds(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "µs")];
    match units.into_iter().find(|(unit, _)| ns >= *unit) {
        Some((unit, name)) => format!("{:.2} {name}", ns as f64 / unit as f64),
        None => format!("{ns} ns"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_each() {
        let rows = [
            json!({ "name": "a", "size": 4096, "in": { "ns": 1500 }, "list": [1, 2] }),
            json!({ "name": null, "list": [] }),
        ];
        let columns = [
            ("name", "/name", Form::Text),
            ("size", "/size", Form::Size),
            ("time", "/in/ns", Form::Nanoseconds),
            ("how many", "/list", Form::Length),
        ];
        let table = table(&columns, &rows);
        let line = table.lines().find(|line| line.contains(" a ")).expect("a line");
        for cell in ["4KiB", "1.50 µs", " 2 "] {
            assert!(line.contains(cell), "{cell} in\n{table}");
        }
        assert!(table.contains("how many") && table.contains(" 0 "), "{table}");
    }

    #[test]
    fn members_of_members_have_both_names() {
        let answer = json!({ "flush": { "count": 3, "total_ns": 2_000_000 }, "free_bytes": 1024, "ok": true });
        let facts = facts(answer.as_object().expect("an object"));
        let line = |name: &str| facts.lines().find(|line| line.contains(name)).expect(name);
        assert!(
            line("flush.count").contains('3') && line("flush.total_ns").contains("2.00 ms"),
            "{facts}"
        );
        assert!(line("free_bytes").contains("1KiB") && line("ok").contains("yes"), "{facts}");
    }

    #[test]
    fn durations() {
        for (ns, words) in
            [(0, "0 ns"), (999, "999 ns"), (1000, "1.00 µs"), (2_500_000_000, "2.50 s")]
        {
            assert_eq!(nanoseconds(ns), words);
        }
    }
}
