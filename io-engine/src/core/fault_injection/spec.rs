//! What is to be injected, as a URI says it.

use std::fmt;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use spdk_rs::bdev::IoTypes;

use super::delay::Delay;
use super::error::FaultError;
use super::kind::{CorruptByte, Kind, Reorder};
use super::operation::{self, READ_WRITE, Stage, both};
use crate::bdev::{BdevUri, Params, UriError};

/// The scheme.
pub const SCHEME: &str = "inject";

/// The latest time in milliseconds: what a clock in nanoseconds can count to.
const TIME_MS_MAX: u64 = 1 << 43;

/// The most I/Os that can be gathered to change places.
const WINDOW_MAX: u64 = 1024;

/// A probability of 1 in the unit of [`InjectionSpec::probability_ppb`].
pub(super) const PPB: u64 = 1_000_000_000;

/// What is to be injected, where and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InjectionSpec {
    /// The device as it was given: a name, an alias or a UUID.
    pub device: String,
    /// The I/O that is asked for.
    pub ops: IoTypes,
    /// The stage; none for the one that fits the fault and the I/O.
    pub stage: Option<Stage>,
    /// What happens.
    pub kind: Kind,
    /// From this time on, counted from the add.
    pub begin: Duration,
    /// Until this time; none for ever.
    pub end: Option<Duration>,
    /// The first block.
    pub offset_blocks: u64,
    /// How many blocks; none for all from there on.
    pub num_blocks: Option<u64>,
    /// How often at the most, over all cores; none for always.
    pub retries: Option<u64>,
    /// How likely it is for an I/O that fits, in billionths.
    pub probability_ppb: u64,
    /// What random choices are made from; chosen when the injection is added if none is given.
    pub seed: Option<u64>,
    /// So many I/Os that fit are let pass first.
    pub after: u64,
    /// Of those that follow, each so many-th.
    pub every: u64,
}

impl InjectionSpec {
    /// An injection for every read and write of a device, at the stage that fits.
    #[must_use]
    pub fn new(device: &str, kind: Kind) -> Self {
        Self {
            device: device.to_owned(),
            ops: READ_WRITE,
            stage: None,
            kind,
            begin: Duration::ZERO,
            end: None,
            offset_blocks: 0,
            num_blocks: None,
            retries: None,
            probability_ppb: PPB,
            seed: None,
            after: 0,
            every: 1,
        }
    }

    /// Reads `inject://device?op=&stage=&type=…`; see docs/faults.md for the parameters.
    ///
    /// # Errors
    /// [`FaultError`], naming the parameter and what is allowed.
    pub fn parse(text: &str) -> Result<Self, FaultError> {
        let uri = BdevUri::parse(text)?;
        if uri.scheme() != SCHEME {
            return Err(uri.unknown_scheme(&[SCHEME]).into());
        }
        let mut params = uri.params();
        let spec = Self::take(device_of(&uri)?, &mut params)?;
        params.finish()?;
        spec.check()?;
        Ok(spec)
    }

    fn take(device: String, params: &mut Params<'_>) -> Result<Self, FaultError> {
        take_domain(params)?;
        let ops = params.take_str("op").map_or(Ok(None), |text| {
            let ops = operation::parse(text).map(Some);
            ops.ok_or_else(|| value("op", text, operation::allowed()))
        })?;
        let stage = params.take_choice("stage", &Stage::WORDS)?;
        let kind = take_kind(params)?;
        let mut time = |names: [&'static str; 2]| -> Result<Option<Duration>, UriError> {
            params.at_most_one_of(&names)?;
            let first = params.take_u64(names[0], 0..=TIME_MS_MAX)?;
            let ms = params.take_u64(names[1], 0..=TIME_MS_MAX)?.or(first);
            Ok(ms.map(Duration::from_millis))
        };
        let begin = time(["begin_at", "begin"])?.unwrap_or(Duration::ZERO);
        let end = time(["end_at", "end"])?;
        if let Some(end) = end.filter(|end| *end <= begin) {
            let allowed = format!("it has to be after the begin, {} ms", begin.as_millis());
            return Err(value("end_at", &end.as_millis().to_string(), allowed));
        }
        params.at_most_one_of(&["num_blk", "num_blocks"])?;
        let num_blk = params.take_u64("num_blk", 1..=u64::MAX)?;
        let num_blocks = params.take_u64("num_blocks", 1..=u64::MAX)?.or(num_blk);
        let chance = params.take_str("probability").map_or(Ok(PPB), |text| {
            let allowed = "it has to be a number from 0 to 1, as 0.25, with 9 places at the most";
            probability(text).ok_or_else(|| value("probability", text, allowed.to_owned()))
        })?;
        Ok(Self {
            device,
            ops: ops.unwrap_or_else(|| default_ops(kind)),
            stage,
            kind,
            begin,
            end,
            offset_blocks: params.take_u64("offset", 0..=u64::MAX)?.unwrap_or(0),
            num_blocks,
            retries: params.take_u64("retries", 0..=u64::MAX)?,
            probability_ppb: chance,
            seed: params.take_u64("seed", 0..=u64::MAX)?,
            after: params.take_u64("after", 0..=u64::MAX)?.unwrap_or(0),
            every: params.take_u64("every", 1..=u64::MAX)?.unwrap_or(1),
        })
    }

    fn check(&self) -> Result<(), FaultError> {
        if let Some(retries) = self.retries.filter(|&n| n > 1 && self.kind.is_final()) {
            let allowed = format!("{} happens once; leave it out", self.kind.name());
            return Err(value("retries", &retries.to_string(), allowed));
        }
        let stages = [Stage::Submission, Stage::Completion];
        if stages.iter().any(|&stage| self.ops_at(stage) != IoTypes::default()) {
            return Ok(());
        }
        let could = |stage: Stage| {
            let ops = self.kind.can_happen_to(stage);
            let some = ops != IoTypes::default();
            some.then(|| format!("{} at {}", operation::show(ops), stage.name()))
        };
        let allowed: Vec<_> = stages.into_iter().filter_map(could).collect();
        Err(FaultError::Never {
            kind: self.kind.name(),
            ops: operation::show(self.ops),
            stage: self.stage.map_or("any stage", Stage::name),
            allowed: allowed.join(" and "),
        })
    }

    /// The I/O that it happens to at a stage. What is asked for and cannot have the fault there is
    /// left out; when no stage is given, each kind of I/O has the fault at one.
    #[must_use]
    pub fn ops_at(&self, stage: Stage) -> IoTypes {
        let possible = both(self.ops, self.kind.can_happen_to(stage));
        match self.stage {
            Some(given) if given == stage => possible,
            Some(_) => IoTypes::default(),
            None if stage == Stage::Submission => possible,
            None => possible.without(self.kind.can_happen_to(Stage::Submission)),
        }
    }
}

/// The I/O that a fault is for when nothing is said.
fn default_ops(kind: Kind) -> IoTypes {
    if kind == Kind::DroppedFlush { kind.can_happen_to(Stage::Submission) } else { READ_WRITE }
}

/// The device: what stands before the parameters.
fn device_of(uri: &BdevUri) -> Result<String, UriError> {
    let path = uri.path();
    match (uri.host(), uri.port()) {
        (None, _) => match path.strip_prefix('/').unwrap_or(path) {
            "" => Err(UriError::NoName { scheme: SCHEME.to_owned() }),
            // A file's path is its device's name, with the slash.
            _ => Ok(path.to_owned()),
        },
        (Some(host), None) => Ok(format!("{host}{path}")),
        (Some(host), Some(port)) => Ok(format!("{host}:{port}{path}")),
    }
}

/// Mayastor's layers. One hook stands for all that there are here.
fn take_domain(params: &mut Params<'_>) -> Result<(), FaultError> {
    let Some(domain) = params.take_str("domain") else { return Ok(()) };
    let here = ["block", "block_device", "BlockDevice", "bdev_io", "BdevIo"];
    if here.contains(&domain) {
        return Ok(());
    }
    let allowed = "it has to be block_device or bdev_io; there is no nexus, inject into its child";
    Err(value("domain", domain, allowed.to_owned()))
}

fn take_kind(params: &mut Params<'_>) -> Result<Kind, FaultError> {
    params.at_most_one_of(&["type", "method"])?;
    let (name, word) = match (params.take_str("type"), params.take_str("method")) {
        (Some(word), _) => ("type", word),
        (None, Some(word)) => ("method", word),
        (None, None) => ("type", "status"),
    };
    let kind = Kind::parse(word).ok_or_else(|| value(name, word, Kind::ALLOWED.to_owned()))?;
    let delay = params.take_str("delay_us");
    let offset = params.take_u64("corrupt_offset", 0..=u64::MAX)?;
    let xor = params.take_u64("corrupt_value", 1..=255)?;
    let window = params.take_u64("window", 2..=WINDOW_MAX)?;
    let distance = params.take_u64("distance", 1..=u64::MAX)?;
    let not_for = |parameter, text: String, of: &str| {
        Err(value(parameter, &text, format!("it belongs to type={of}; leave it out")))
    };
    if let Some(text) = delay.filter(|_| !matches!(kind, Kind::Delay(_) | Kind::Reorder(_))) {
        return not_for("delay_us", text.to_owned(), "delay or reorder");
    }
    if let Some(offset) = offset.filter(|_| !matches!(kind, Kind::Corrupt(_))) {
        return not_for("corrupt_offset", offset.to_string(), "data");
    }
    if let Some(xor) = xor.filter(|_| !matches!(kind, Kind::Corrupt(_))) {
        return not_for("corrupt_value", xor.to_string(), "data");
    }
    if let Some(window) = window.filter(|_| !matches!(kind, Kind::Reorder(_))) {
        return not_for("window", window.to_string(), "reorder");
    }
    if let Some(distance) = distance.filter(|_| !matches!(kind, Kind::Misdirected(_))) {
        return not_for("distance", distance.to_string(), "misdirected");
    }
    match kind {
        Kind::Delay(_) => {
            let Some(text) = delay else { return Err(params.missing("delay_us").into()) };
            let read = Delay::parse(text).map(Kind::Delay);
            read.ok_or_else(|| value("delay_us", text, Delay::ALLOWED.to_owned()))
        }
        Kind::Corrupt(_) => match (offset, xor) {
            (None, None) => Ok(kind),
            (offset, Some(xor)) => {
                let value = u8::try_from(xor).unwrap_or(u8::MAX);
                let offset_bytes = offset.unwrap_or(0);
                Ok(Kind::Corrupt(Some(CorruptByte { offset_bytes, value })))
            }
            (Some(_), None) => Err(params.missing("corrupt_value, 1 to 255").into()),
        },
        Kind::Reorder(default) => {
            let window = window.and_then(|window| usize::try_from(window).ok());
            let limit_us = match delay.map(|text| (text, Delay::parse(text))) {
                None => default.limit_us,
                Some((_, Some(Delay::Fixed(us)))) => us,
                Some((text, _)) => {
                    let allowed = "it has to be microseconds up to an hour: the longest wait";
                    return Err(value("delay_us", text, allowed.to_owned()));
                }
            };
            Ok(Kind::Reorder(Reorder { window: window.unwrap_or(default.window), limit_us }))
        }
        Kind::Misdirected(_) => Ok(Kind::Misdirected(distance)),
        _ => Ok(kind),
    }
}

fn value(name: &'static str, value: &str, allowed: String) -> FaultError {
    UriError::Value { name, value: value.to_owned(), allowed }.into()
}

/// Reads a number from 0 to 1 in billionths.
fn probability(text: &str) -> Option<u64> {
    let (whole, places) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + places.len() == 0 || places.len() > 9 || !digits(whole) || !digits(places) {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let places: u64 = format!("{places:0<9}").parse().ok()?;
    let ppb = whole.checked_mul(PPB)?.checked_add(places)?;
    (ppb <= PPB).then_some(ppb)
}

fn show_probability(ppb: u64) -> String {
    let text = format!("{}.{:09}", ppb / PPB, ppb % PPB);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

impl fmt::Display for InjectionSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // In the path, a name can have any letters; a leading slash is the path's own.
        let name = self.device.strip_prefix('/').unwrap_or(&self.device);
        write!(f, "{SCHEME}:///{}", utf8_percent_encode(name, NON_ALPHANUMERIC))?;
        write!(f, "?op={}&type={}", operation::show(self.ops), self.kind.name())?;
        let mut field = |name: &str, value: Option<String>| match value {
            Some(value) => write!(f, "&{name}={value}"),
            None => Ok(()),
        };
        let number = |value: Option<u64>| value.map(|value| value.to_string());
        let unless = |value: u64, default: u64| number((value != default).then_some(value));
        let ms = |time: Duration| time.as_millis().to_string();
        match self.kind {
            Kind::Delay(delay) => field("delay_us", Some(delay.to_string()))?,
            Kind::Corrupt(Some(CorruptByte { offset_bytes, value })) => {
                field("corrupt_offset", number(Some(offset_bytes)))?;
                field("corrupt_value", number(Some(value.into())))?;
            }
            Kind::Reorder(Reorder { window, limit_us }) => {
                field("window", Some(window.to_string()))?;
                field("delay_us", number(Some(limit_us)))?;
            }
            Kind::Misdirected(distance) => field("distance", number(distance))?,
            _ => {}
        }
        field("stage", self.stage.map(|stage| stage.name().to_owned()))?;
        field("begin_at", (!self.begin.is_zero()).then(|| ms(self.begin)))?;
        field("end_at", self.end.map(ms))?;
        field("offset", unless(self.offset_blocks, 0))?;
        field("num_blk", number(self.num_blocks))?;
        field("retries", number(self.retries))?;
        let chance = (self.probability_ppb != PPB).then(|| show_probability(self.probability_ppb));
        field("probability", chance)?;
        field("seed", number(self.seed))?;
        field("after", unless(self.after, 0))?;
        field("every", unless(self.every, 1))
    }
}

#[cfg(test)]
mod tests;
