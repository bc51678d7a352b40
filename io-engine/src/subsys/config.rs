//! The configuration file, in SPDK's format:
//! `{"subsystems": [{"subsystem": "bdev", "config": [{"method": …, "params": {…}}, …]}]}`.
//!
//! Invariants:
//!
//! - Nothing is applied before all of it was read: a method, parameter or subsystem that is not
//!   known is refused while nothing has been created.
//! - Every error names the file and the place in it.
//! - Sections are applied in the order of the engine's subsystems, wherever they stand: devices
//!   are there before they are exported.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;
use thiserror::Error;

use crate::rpc::params::Given;
use crate::rpc::{Context, Method, When};

/// The longest file, in bytes.
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Why a configuration is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path:?}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not JSON, or not of the format; the text names line and column.
    #[error("configuration {path:?}: {source}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A call failed.
    #[error("configuration {path:?}: {place}: {reason}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// The section and the step.
        place: String,
        /// What the method answered.
        reason: String,
        /// The code that the method answered.
        code: i32,
    },
    /// A section or a step is refused.
    #[error("configuration {path:?}: {place}: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// The section, or the section and the step.
        place: String,
        /// Why, and what is allowed.
        reason: String,
    },
}

/// A file, or one section of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Either {
    subsystem: Option<String>,
    config: Option<Vec<Entry>>,
    subsystems: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    subsystems: Vec<Section>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    subsystem: String,
    /// SPDK writes `null` for a subsystem without configuration.
    #[serde(default)]
    config: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    method: String,
    #[serde(default)]
    params: Given,
}

/// One call to be made.
#[derive(Debug)]
struct Step {
    method: Arc<Method>,
    params: Given,
    place: String,
    /// The subsystem's index in the list of them.
    rank: usize,
}

/// A configuration that was read whole, and not applied yet.
#[derive(Debug)]
pub struct Config {
    path: PathBuf,
    steps: Vec<Step>,
}

impl Config {
    /// Reads a file and checks all of it against the methods there are.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_limited(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Checks all of a configuration against the methods there are. Errors name it as `path`. It
    /// may be a whole file, or one section of it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self, ConfigError> {
        let format = |source| ConfigError::Format { path: path.to_owned(), source };
        let file = match serde_json::from_slice::<Either>(text) {
            Ok(Either { subsystem: Some(subsystem), config, subsystems: None }) => {
                File { subsystems: vec![Section { subsystem, config }] }
            }
            // Also for its words, which are those of the format that a file has.
            _ => serde_json::from_slice::<File>(text).map_err(format)?,
        };
        let subsystems = crate::rpc::subsystem_names();
        let methods: Vec<Arc<Method>> = crate::rpc::methods().into_iter().map(Arc::new).collect();
        let mut steps = Vec::new();
        for (index, section) in file.subsystems.into_iter().enumerate() {
            let Section { subsystem, config } = section;
            let place = format!("subsystems[{index}] ({})", printable(&subsystem));
            let refused = |place: &str, reason: String| ConfigError::Refused {
                path: path.to_owned(),
                place: place.to_owned(),
                reason,
            };
            let rank = subsystems.iter().position(|known| *known == subsystem);
            let rank = rank.ok_or_else(|| {
                let reason = format!("unknown subsystem; known are {}", subsystems.join(", "));
                refused(&place, reason)
            })?;
            for (index, entry) in config.unwrap_or_default().into_iter().enumerate() {
                let Entry { method, params } = entry;
                let place = format!("{place}, config[{index}] ({})", printable(&method));
                let method = find(&methods, &method, &subsystem)
                    .map_err(|reason| refused(&place, reason))?;
                method.check(&params).map_err(|error| refused(&place, error.to_string()))?;
                steps.push(Step { method, params, place, rank });
            }
        }
        // The order within a section stays.
        steps.sort_by_key(|step| step.rank);
        Ok(Self { path: path.to_owned(), steps })
    }

    /// How many calls it makes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether it makes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether it has calls of methods that may be called before the start only.
    #[must_use]
    pub fn has_startup_calls(&self) -> bool {
        self.steps.iter().any(|step| step.method.when() == When::Startup)
    }

    /// Makes the calls, in order, and stops at the first that fails. What was made until then is
    /// the caller's to end.
    ///
    /// # Errors
    /// [`ConfigError::Failed`].
    pub async fn apply(&self, context: &Arc<Context>) -> Result<(), ConfigError> {
        self.apply_startup(context).await?;
        self.apply_runtime(context).await
    }

    /// As [`Config::apply`], only what has to be done before the start.
    ///
    /// # Errors
    /// [`ConfigError::Failed`].
    pub async fn apply_startup(&self, context: &Arc<Context>) -> Result<(), ConfigError> {
        self.apply_at(context, true).await
    }

    /// As [`Config::apply`], all that [`Config::apply_startup`] leaves.
    ///
    /// # Errors
    /// [`ConfigError::Failed`].
    pub async fn apply_runtime(&self, context: &Arc<Context>) -> Result<(), ConfigError> {
        self.apply_at(context, false).await
    }

    async fn apply_at(&self, context: &Arc<Context>, startup: bool) -> Result<(), ConfigError> {
        let now = |step: &&Step| (step.method.when() == When::Startup) == startup;
        for step in self.steps.iter().filter(now) {
            let call = step.method.call(Arc::clone(context), &step.params);
            call.await.map_err(|error| ConfigError::Failed {
                path: self.path.clone(),
                place: step.place.clone(),
                reason: error.message().to_owned(),
                code: error.code(),
            })?;
        }
        Ok(())
    }
}

/// Reads a file that is not too long to be a configuration.
fn read_limited(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        let words = format!("it is longer than {FILE_BYTES_MAX} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, words));
    }
    Ok(text)
}

fn find(methods: &[Arc<Method>], name: &str, subsystem: &str) -> Result<Arc<Method>, String> {
    let allowed = |method: &&Arc<Method>| method.subsystem() == Some(subsystem);
    let found = methods.iter().find(|method| method.name() == name);
    if let Some(method) = found.filter(allowed) {
        return Ok(Arc::clone(method));
    }
    let names: Vec<&str> = methods.iter().filter(allowed).map(|method| method.name()).collect();
    let what = if found.is_some() { "no method for a configuration" } else { "unknown method" };
    Err(format!("{what}; allowed in {subsystem} are {}", names.join(", ")))
}

/// A name out of a file for an error text.
fn printable(name: &str) -> String {
    name.escape_debug().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(Path::new("c.json"), text.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_as_spdk_writes_it() {
        let config = parse(
            r#"{"subsystems": [{"subsystem": "bdev", "config": [
                {"method": "bdev_malloc_create",
                 "params": {"name": "m", "num_blocks": 8, "block_size": 512}},
                {"params": {"uri": "null:///n?size_mb=1"}, "method": "bdev_create"},
                {"method": "bdev_wait_for_examine"}]},
                {"subsystem": "bdev", "config": null}, {"subsystem": "bdev"}]}"#,
        )
        .expect("valid");
        assert_eq!(config.len(), 3);
        assert!(!config.is_empty() && parse(r#"{"subsystems": []}"#).expect("none").is_empty());
    }

    #[test]
    fn devices_come_before_what_exports_them() {
        let config = parse(
            r#"{"subsystems": [
                {"subsystem": "nvmf", "config": [
                    {"method": "nvmf_create_transport", "params": {"trtype": "TCP"}},
                    {"method": "nvmf_create_subsystem",
                     "params": {"nqn": "nqn.2016-06.io.spdk:a"}}]},
                {"subsystem": "bdev", "config": [{"method": "bdev_wait_for_examine"}]}]}"#,
        )
        .expect("valid");
        let names: Vec<_> = config.steps.iter().map(|step| step.method.name()).collect();
        let order = ["bdev_wait_for_examine", "nvmf_create_transport", "nvmf_create_subsystem"];
        assert_eq!(names, order);
    }

    #[test]
    fn errors_name_the_place() {
        let step = |step: &str| {
            format!(r#"{{"subsystems": [{{"subsystem": "bdev", "config": [{step}]}}]}}"#)
        };
        for (text, words) in [
            ("", "EOF while parsing"),
            ("{\n \"subsystems\": [}", "line 2 column"),
            ("{}", "missing field `subsystems`"),
            (r#"{"subsystems": [], "extra": 1}"#, "unknown field `extra`"),
            (
                r#"{"subsystems": [{"subsystem": "nbd", "config": []}]}"#,
                "\"c.json\": subsystems[0] (nbd): unknown subsystem; known are log, bdev, nvmf",
            ),
            (
                &step(r#"{"method": "bdev_wait_for_examine"}, {"method": "bdev_melt"}"#),
                "subsystems[0] (bdev), config[1] (bdev_melt): unknown method; allowed in bdev are",
            ),
            (
                &step(r#"{"method": "spdk_kill_instance", "params": {"sig_name": "SIGTERM"}}"#),
                "config[0] (spdk_kill_instance): no method for a configuration",
            ),
            (
                &step(r#"{"method": "bdev_create", "params": {"url": "x"}}"#),
                "config[0] (bdev_create): unknown parameter `url`; allowed are uri",
            ),
            (
                &step(r#"{"method": "bdev_create", "params": {"uri": "melt:///a"}}"#),
                "unknown scheme `melt`",
            ),
            (
                &step(r#"{"method": "bdev_create", "params": {"uri": "a", "uri": "b"}}"#),
                "given twice at line 1",
            ),
            (&step(r#"{"method": "bdev_create", "params": [1]}"#), "an object of parameters"),
            (&step(r#"{"method": "bdev_create", "after": 1}"#), "unknown field `after`"),
            (
                &step(r#"{"method": "nvmf_create_transport", "params": {"trtype": "TCP"}}"#),
                "config[0] (nvmf_create_transport): no method for a configuration; allowed in bdev",
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(words) && error.contains("c.json"), "{text}: {error}");
        }
        let section = parse(r#"{"subsystem": "bdev", "config": [{"method": "bdev_melt"}]}"#);
        assert!(section.expect_err("a section").contains("subsystems[0] (bdev), config[0]"));
        let zeroes = Config::read(Path::new("/dev/zero")).expect_err("endless").to_string();
        assert!(zeroes.contains("/dev/zero"), "{zeroes}");
        let missing = Config::read(Path::new("/nonexistent/c.json")).expect_err("missing");
        assert!(missing.to_string().contains("/nonexistent/c.json"), "{missing}");
    }

    /// A file with something of everything that can be in one.
    const WHOLE: &str = r#"{"subsystems": [
        {"subsystem": "bdev", "config": [
            {"method": "bdev_malloc_create", "params":
                {"name": "m", "num_blocks": 8, "block_size": 512,
                 "uuid": "0d4ae5a4-6c1b-4c2e-9d0f-5c7f3e1b2a60"}},
            {"method": "bdev_create", "params": {"uri": "null:///n?size_mb=1"}}]},
        {"subsystem": "nvmf", "config": [
            {"method": "nvmf_create_subsystem", "params":
                {"nqn": "nqn.2016-06.io.spdk:a", "allow_any_host": true}},
            {"method": "nvmf_subsystem_add_listener", "params":
                {"nqn": "nqn.2016-06.io.spdk:a", "listen_address":
                    {"trtype": "TCP", "traddr": "127.0.0.1", "trsvcid": "4420"}}}]}]}"#;

    #[test]
    fn a_file_broken_at_any_byte_is_refused_with_its_place_or_means_something() {
        let whole = WHOLE.as_bytes();
        let parse = |text: &[u8]| {
            Config::parse(Path::new("c.json"), text).map_err(|error| error.to_string())
        };
        assert_eq!(parse(whole).expect("valid").len(), 4);
        let placed = |text: &[u8], error: &str| {
            let named = error.contains(" line ") || error.contains("subsystems[");
            assert!(named, "{error}\n{}", String::from_utf8_lossy(text));
        };
        let mut refused = 0;
        for at in 0..whole.len() {
            let error = parse(&whole[..at]).expect_err("a file that ends too early");
            placed(&whole[..at], &error);
            for byte in [0, b'"', b'{', b'}', b',', b':', b'x', b'\\', 0xff] {
                let mut text = whole.to_vec();
                text[at] = byte;
                if let Err(error) = parse(&text) {
                    placed(&text, &error);
                    refused += 1;
                }
                text.insert(at, byte);
                if let Err(error) = parse(&text) {
                    placed(&text, &error);
                }
            }
        }
        assert!(refused > whole.len() * 4, "{refused} of {} were refused", whole.len() * 9);
    }
}
