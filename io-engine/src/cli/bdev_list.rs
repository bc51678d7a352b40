//! `io-engine bdev list`: what `bdev_get_bdevs` answers, as a table.

use comfy_table::{CellAlignment, Table, presets};
use serde::Deserialize;

use super::OutputFormat;
use crate::size::Size;

/// What the table shows of a device; the rest of the answer is passed over.
#[derive(Debug, Deserialize)]
struct Row {
    name: String,
    #[serde(default)]
    aliases: Vec<String>,
    #[serde(default)]
    product_name: String,
    block_size: u64,
    num_blocks: u64,
    #[serde(default)]
    uuid: String,
    #[serde(default)]
    claimed: bool,
}

/// The answer of `bdev_get_bdevs`.
#[derive(Debug)]
pub struct BdevList {
    answer: serde_json::Value,
    rows: Vec<Row>,
}

impl BdevList {
    /// Reads the result of `bdev_get_bdevs`.
    ///
    /// # Errors
    ///
    /// When the answer is not a list of devices with `name`, `block_size` and `num_blocks`.
    pub fn new(answer: serde_json::Value) -> Result<Self, serde_json::Error> {
        let rows = Vec::<Row>::deserialize(&answer)?;
        Ok(Self { answer, rows })
    }

    /// Prints the list into a text without a line end.
    #[must_use]
    pub fn render(&self, format: OutputFormat) -> String {
        match format {
            OutputFormat::Table => self.table().to_string(),
            OutputFormat::Json => format!("{:#}", self.answer),
        }
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY).set_header([
            "name", "product", "size", "block", "blocks", "claimed", "uuid", "aliases",
        ]);
        for column in table.column_iter_mut().skip(2).take(3) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for row in &self.rows {
            let size = match row.block_size.checked_mul(row.num_blocks) {
                Some(bytes) => Size(bytes).to_string(),
                None => "2^64 or more".to_owned(),
            };
            table.add_row([
                row.name.clone(),
                row.product_name.clone(),
                size,
                row.block_size.to_string(),
                row.num_blocks.to_string(),
                if row.claimed { "yes" } else { "no" }.to_owned(),
                row.uuid.clone(),
                row.aliases.join(", "),
            ]);
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_per_device() {
        let answer = json!([
            {"name": "m0", "product_name": "Malloc disk", "block_size": 512, "num_blocks": 131_072,
             "uuid": "0d4ae5a4", "claimed": true, "aliases": ["x", "y"], "zoned": false},
            {"name": "n0", "block_size": 4096, "num_blocks": u64::MAX},
        ]);
        let list = BdevList::new(answer.clone()).expect("two devices");
        let table = list.render(OutputFormat::Table);
        let line = |name: &str| table.lines().find(|line| line.contains(name)).expect(name);
        for cell in ["Malloc disk", "64MiB", "512", "131072", "yes", "0d4ae5a4", "x, y"] {
            assert!(line("m0").contains(cell), "{cell} in\n{table}");
        }
        assert!(line("n0").contains("2^64 or more") && line("n0").contains("no"), "{table}");
        let json: serde_json::Value =
            serde_json::from_str(&list.render(OutputFormat::Json)).expect("JSON");
        assert_eq!(json, answer, "nothing is left out");
    }

    #[test]
    fn other_answers_are_refused() {
        for answer in [json!({}), json!([{"name": "a"}]), json!(true), json!([1])] {
            assert!(BdevList::new(answer.clone()).is_err(), "{answer}");
        }
        let empty = BdevList::new(json!([])).expect("no devices");
        assert!(empty.render(OutputFormat::Table).contains("name"));
    }
}
