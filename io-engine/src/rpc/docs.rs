//! The reference of methods, made of their definitions: the tables in `docs/rpc.md`, and what
//! `io-engine rpc --describe` prints.
//!
//! `docs/rpc.md` is written by hand but for the parts between `<!-- methods: GROUP -->` and
//! `<!-- end -->`. A test fails when one of them is stale, and writes them anew when the
//! environment variable `UPDATE_DOCS` is set.

use std::fmt::Write as _;

use super::params::def::{Default, Need, each};
use super::params::{Def, Defs, Kind};
use super::{Method, When};

/// A text for a terminal that says what a method does and takes.
#[must_use]
pub fn describe(method: &Method) -> String {
    let mut text = format!("{}: {}\n", method.name(), method.summary());
    let rows = rows(method.params(), "");
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    for row in &rows {
        let need = if row.required { " (required)" } else { "" };
        // A string takes what is written into it.
        let _ = writeln!(text, "  {:width$}  {}{need}: {}", row.name, row.value, row.about);
    }
    for line in [limits(method.params()), refusals(method.params())].into_iter().flatten() {
        let _ = writeln!(text, "  {}", line.replace('`', ""));
    }
    let _ = writeln!(text, "answers: {}", method.answer().replace('`', ""));
    text
}

/// The reference of a group's methods, in Markdown.
#[must_use]
pub fn reference(group: &str) -> String {
    let all = super::methods();
    let mut text = String::new();
    for method in all.iter().filter(|method| method.group() == group) {
        let _ = write!(text, "### `{}`\n\n{}", method.name(), method.summary());
        text.push_str(match method.when() {
            When::Always => " It may be called at any time.",
            When::Startup => " It may be called before the start only.",
            When::Runtime => "",
        });
        if let Some(shape) = method.subscribes() {
            let (sent, end) = (shape.notification, shape.end);
            let _ = write!(
                text,
                " Over a WebSocket only. Messages are named `{sent}`; `{end}` with `[ID]` ends it."
            );
        }
        if let Some(subsystem) = method.subsystem() {
            let _ = write!(text, " It may stand in a configuration file, under `{subsystem}`.");
        }
        text.push_str("\n\n");
        let rows = rows(method.params(), "");
        if !rows.is_empty() {
            text.push_str("| parameter | it is | meaning |\n|---|---|---|\n");
        }
        for row in rows {
            let need = if row.required { "required; " } else { "" };
            let _ = writeln!(text, "| `{}` | {need}{} | {} |", row.name, row.value, row.about);
        }
        if !text.ends_with("\n\n") {
            text.push('\n');
        }
        for line in [limits(method.params()), refusals(method.params())].into_iter().flatten() {
            let _ = write!(text, "{line}\n\n");
        }
        let _ = write!(text, "Answers: {}\n\n", method.answer());
    }
    text
}

/// A line of a table of parameters.
struct Row {
    name: String,
    required: bool,
    value: String,
    about: &'static str,
}

/// The parameters that mean something, and those inside of them.
fn rows(defs: Defs, before: &str) -> Vec<Row> {
    let mut all = Vec::new();
    for def in each(defs) {
        let default = match def.need {
            Need::Required => Default::Said,
            Need::Optional(default) => default,
            Need::Only { .. } | Need::NotDone { .. } => continue,
        };
        let name = format!("{before}{}", def.name);
        let mut value = shown(&def.kind);
        if let Some(default) = default.value() {
            let _ = write!(value, " ({default})");
        }
        let required = matches!(def.need, Need::Required);
        let (inside, place) = match def.kind {
            Kind::Object(inside) => (inside, format!("{name}.")),
            Kind::List { item: Kind::Object(inside), .. } => (*inside, format!("{name}[].")),
            _ => (&[] as Defs, String::new()),
        };
        all.push(Row { name, required, value, about: def.about });
        all.extend(rows(inside, &place));
    }
    all
}

/// What a value has to be, shorter than in an error: the rows below say what is inside.
fn shown(kind: &Kind) -> String {
    match kind {
        Kind::Name => "a name".to_owned(),
        Kind::Text => "a text".to_owned(),
        Kind::Uuid => "a UUID".to_owned(),
        Kind::Object(_) | Kind::AnyObject => "an object".to_owned(),
        Kind::List { min, max, .. } => format!("a list of {min} to {max}"),
        other => other.expected(),
    }
}

/// Parameters with one value only, also those of objects.
fn limits(defs: Defs) -> Option<String> {
    let limited = all(defs, "").into_iter().filter_map(|(name, def)| match def.need {
        Need::Only { neutral, reason } => Some(format!("`{name}` {neutral} ({reason})")),
        _ => None,
    });
    let limited: Vec<String> = limited.collect();
    (!limited.is_empty()).then(|| format!("With these values only: {}.", limited.join(", ")))
}

/// Parameters that are refused.
fn refusals(defs: Defs) -> Option<String> {
    let refused = all(defs, "").into_iter().filter_map(|(name, def)| match def.need {
        Need::NotDone { reason } => Some(format!("`{name}` ({reason})")),
        _ => None,
    });
    let refused: Vec<String> = refused.collect();
    (!refused.is_empty()).then(|| format!("Not supported: {}.", refused.join(", ")))
}

fn all(defs: Defs, before: &str) -> Vec<(String, &'static Def)> {
    let mut found = Vec::new();
    for def in each(defs) {
        let name = format!("{before}{}", def.name);
        if let Kind::Object(inside) = def.kind {
            found.extend(all(inside, &format!("{name}.")));
        }
        found.push((name, def));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/rpc.md");

    /// The page with its generated parts made anew.
    fn anew(page: &str) -> String {
        let mut text = String::new();
        let mut rest = page;
        while let Some((before, after)) = rest.split_once("<!-- methods: ") {
            let (group, after) = after.split_once(" -->").expect("a marker has an end");
            let (_, after) = after.split_once("<!-- end -->").expect("a part has an end");
            let _ = write!(text, "{before}<!-- methods: {group} -->\n\n{}", reference(group));
            text.push_str("<!-- end -->");
            rest = after;
        }
        text.push_str(rest);
        text
    }

    #[test]
    fn the_reference_is_not_stale() {
        let page = std::fs::read_to_string(PATH).expect("the reference");
        let anew = anew(&page);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(PATH, &anew).expect("written");
        } else {
            assert!(anew == page, "docs/rpc.md is stale: run the tests with UPDATE_DOCS=1");
        }
        for method in crate::rpc::methods() {
            let title = format!("\n### `{}`\n", method.name());
            let count = anew.matches(&title).count();
            assert_eq!(count, 1, "{} is in {count} groups of docs/rpc.md", method.name());
        }
    }

    #[test]
    fn a_method_is_described() {
        let all = crate::rpc::methods();
        let find = |name: &str| describe(all.iter().find(|m| m.name() == name).expect(name));
        let text = find("bdev_malloc_create");
        for words in ["Creates a device in memory.", "block_size  ", "one of 512, 4096 (required)"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(find("nvmf_subsystem_add_ns").contains("namespace.bdev_name"));
        assert!(find("block_free").contains("blocks[].offset"));
        assert!(find("nvmf_set_config").contains("admin_cmd_passthru.sanitize false"));
        assert!(
            find("nvmf_subsystem_add_host").contains("Not supported: psk (there is no TLS yet")
        );
    }
}
