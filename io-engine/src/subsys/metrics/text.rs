//! The text format of Prometheus, version 0.0.4.

use std::fmt::{self, Write as _};

/// The media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A sum that only grows, until the process or the thing that is counted ends.
    Counter,
    /// A value of now.
    Gauge,
    /// A sum and a count, `_sum` and `_count`.
    Summary,
    /// The same, and how many did not exceed each of some bounds, `_bucket`.
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
            Self::Histogram => "histogram",
        }
    }
}

/// A value. Integers are written with all of their digits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Whole(u64),
    /// Any other.
    Real(f64),
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<u32> for Number {
    fn from(value: u32) -> Self {
        Self::Whole(value.into())
    }
}

impl From<usize> for Number {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<bool> for Number {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => write!(f, "{value}"),
            Self::Real(value) if value.is_infinite() => {
                f.write_str(if *value > 0.0 { "+Inf" } else { "-Inf" })
            }
            Self::Real(value) => write!(f, "{value}"),
        }
    }
}

/// The labels of a sample: names and values.
pub type Labels<'a> = [(&'a str, &'a str)];

/// A family in a table: its name, its help, and its value of a thing.
pub type Figure<T, N> = (&'static str, &'static str, fn(&T) -> N);

/// The same with its kind.
pub type KindFigure<T, N> = (&'static str, Kind, &'static str, fn(&T) -> N);

/// A text in the making. Families come one after the other, each once.
#[derive(Debug, Default)]
pub struct Exposition(String);

/// One family. Its head is written before its first sample; without samples there is none.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'a str,
    kind: Kind,
    help: &'a str,
    begun: bool,
}

impl Exposition {
    /// Begins a family.
    pub fn family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &'a str) -> Family<'a> {
        Family { text: &mut self.0, name, kind, help, begun: false }
    }

    /// A family of a single sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Into<Number>) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// Adds a sample.
    pub fn sample(&mut self, labels: &Labels<'_>, value: impl Into<Number>) {
        self.suffixed("", labels, value.into());
    }

    /// Adds the count and the sum of a summary.
    pub fn summary(&mut self, labels: &Labels<'_>, count: u64, sum: impl Into<Number>) {
        self.suffixed("_sum", labels, sum.into());
        self.suffixed("_count", labels, count.into());
    }

    /// Adds the buckets, the sum and the count of a histogram. `buckets` are bounds that ascend,
    /// each with how many did not exceed it; the one for all is added.
    pub fn histogram(
        &mut self,
        labels: &Labels<'_>,
        buckets: &[(f64, u64)],
        count: u64,
        sum: impl Into<Number>,
    ) {
        for (bound, below) in buckets.iter().copied().chain([(f64::INFINITY, count)]) {
            let bound = Number::Real(bound).to_string();
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.suffixed("_bucket", &labels, below.into());
        }
        self.summary(labels, count, sum);
    }

    fn suffixed(&mut self, suffix: &str, labels: &Labels<'_>, value: Number) {
        // Writing into a text does not fail.
        if !self.begun {
            self.begun = true;
            let (name, kind) = (self.name, self.kind.name());
            let _ = write!(self.text, "# HELP {name} ");
            escape(self.text, self.help, false);
            let _ = writeln!(self.text, "\n# TYPE {name} {kind}");
        }
        let _ = write!(self.text, "{}{suffix}", self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            escape(self.text, text, true);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

fn escape(text: &mut String, raw: &str, quotes: bool) {
    for c in raw.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '"' if quotes => text.push_str("\\\""),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_one_head_and_its_samples() {
        let mut text = Exposition::default();
        let mut family = text.family("a_total", Kind::Counter, "How\\often\nit \"was\".");
        family.sample(&[("x", "1"), ("y", "a\"b\\c\nd")], u64::MAX);
        family.sample(&[("x", "2"), ("y", "")], 0.25);
        text.family("none", Kind::Gauge, "Nothing.");
        text.single("b", Kind::Gauge, "Be.", f64::INFINITY);
        text.family("c_seconds", Kind::Summary, "See.").summary(&[("k", "v")], 3, 1.5);
        let mut family = text.family("d_seconds", Kind::Histogram, "Spread.");
        family.histogram(&[("k", "v")], &[(0.000_001, 1), (2.5, 3)], 4, 9.5);
        let expected = "# HELP a_total How\\\\often\\nit \"was\".\n# TYPE a_total counter\n\
            a_total{x=\"1\",y=\"a\\\"b\\\\c\\nd\"} 18446744073709551615\n\
            a_total{x=\"2\",y=\"\"} 0.25\n\
            # HELP b Be.\n# TYPE b gauge\nb +Inf\n\
            # HELP c_seconds See.\n# TYPE c_seconds summary\n\
            c_seconds_sum{k=\"v\"} 1.5\nc_seconds_count{k=\"v\"} 3\n\
            # HELP d_seconds Spread.\n# TYPE d_seconds histogram\n\
            d_seconds_bucket{k=\"v\",le=\"0.000001\"} 1\n\
            d_seconds_bucket{k=\"v\",le=\"2.5\"} 3\n\
            d_seconds_bucket{k=\"v\",le=\"+Inf\"} 4\n\
            d_seconds_sum{k=\"v\"} 9.5\nd_seconds_count{k=\"v\"} 4\n";
        assert_eq!(text.into_text(), expected);
    }
}
