//! The progress line: drawn on standard error while a run is on, and only on a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What ends a run; whichever comes first when both are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The time to run for.
    pub time: Option<Duration>,
    /// The number of I/Os to do, over all devices and cores.
    pub ios: Option<u64>,
}

/// What has been done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    /// Since the start of the run.
    pub elapsed: Duration,
    /// I/Os completed, failed ones included.
    pub ios: u64,
    /// Bytes moved.
    pub bytes: u64,
    /// I/Os that failed or read wrong data.
    pub errors: u64,
}

impl Sample {
    /// The rates between an earlier sample and this one, in words.
    fn rates_since(&self, earlier: &Self) -> String {
        let seconds = self.elapsed.saturating_sub(earlier.elapsed).as_secs_f64();
        let per_second = |now: u64, then: u64| match seconds {
            0.0 => 0.0,
            seconds => now.saturating_sub(then) as f64 / seconds,
        };
        let iops = per_second(self.ios, earlier.ios);
        let mib = per_second(self.bytes, earlier.bytes) / 1_048_576.0;
        let mut text = match iops {
            0.0..1e4 => format!("{iops:.0} IOPS"),
            1e4..1e6 => format!("{:.1} kIOPS", iops / 1e3),
            _ => format!("{:.2} MIOPS", iops / 1e6),
        };
        text.push_str(&format!(", {mib:.0} MiB/s"));
        if self.errors > 0 {
            text.push_str(&format!(", {} errors", self.errors));
        }
        text
    }

    /// How much of the run is done, in thousandths.
    fn per_mille(&self, limit: &Limit) -> u64 {
        let part = |done: u128, all: u128| (done * 1000).checked_div(all).unwrap_or(1000);
        let time = limit.time.map(|all| part(self.elapsed.as_nanos(), all.as_nanos()));
        let ios = limit.ios.map(|all| part(self.ios.into(), all.into()));
        let done = time.unwrap_or(0).max(ios.unwrap_or(0)).min(1000);
        u64::try_from(done).unwrap_or(1000)
    }
}

/// The line itself. It vanishes when it is finished or dropped.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    limit: Limit,
    last: Sample,
}

impl Progress {
    /// A line on standard error when that is a terminal, else nothing.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        // Draws nothing by itself when standard error is not a terminal.
        Self::on(ProgressDrawTarget::stderr(), limit)
    }

    /// A line that is never drawn, for `--json` into a pipe and for tests.
    #[must_use]
    pub fn hidden(limit: Limit) -> Self {
        Self::on(ProgressDrawTarget::hidden(), limit)
    }

    fn on(target: ProgressDrawTarget, limit: Limit) -> Self {
        let bar = ProgressBar::with_draw_target(Some(1000), target);
        if let Ok(style) = ProgressStyle::with_template("{elapsed} {bar:30} {percent:>3} % {msg}") {
            bar.set_style(style);
        }
        Self { bar, limit, last: Sample::default() }
    }

    /// Shows where the run is, with the rates since the last call.
    pub fn update(&mut self, now: Sample) {
        self.bar.set_message(now.rates_since(&self.last));
        self.bar.set_position(now.per_mille(&self.limit));
        self.last = now;
    }

    /// Takes the line away.
    pub fn finish(self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: u64, ios: u64, errors: u64) -> Sample {
        Sample { elapsed: Duration::from_millis(millis), ios, bytes: ios * 4096, errors }
    }

    #[test]
    fn rates_are_those_of_the_interval() {
        let start = sample(1000, 1000, 0);
        assert_eq!(sample(1500, 1500, 0).rates_since(&start), "1000 IOPS, 4 MiB/s");
        assert_eq!(sample(2000, 51_000, 0).rates_since(&start), "50.0 kIOPS, 195 MiB/s");
        assert_eq!(
            sample(2000, 2_501_000, 7).rates_since(&start),
            "2.50 MIOPS, 9766 MiB/s, 7 errors"
        );
        assert_eq!(start.rates_since(&start), "0 IOPS, 0 MiB/s");
    }

    #[test]
    fn the_limit_that_comes_first_counts() {
        let limit = Limit { time: Some(Duration::from_secs(10)), ios: Some(1000) };
        assert_eq!(sample(1000, 500, 0).per_mille(&limit), 500);
        assert_eq!(sample(9000, 500, 0).per_mille(&limit), 900);
        assert_eq!(sample(90_000, 500, 0).per_mille(&limit), 1000);
        assert_eq!(sample(1, 1, 0).per_mille(&Limit { time: None, ios: None }), 0);
        let nothing = Limit { time: Some(Duration::ZERO), ios: None };
        assert_eq!(sample(1, 1, 0).per_mille(&nothing), 1000);
    }

    #[test]
    fn the_line_follows_the_samples() {
        let mut progress = Progress::hidden(Limit { time: None, ios: Some(200) });
        progress.update(sample(1000, 50, 0));
        assert_eq!(progress.bar.position(), 250);
        assert_eq!(progress.bar.message(), "50 IOPS, 0 MiB/s");
        let bar = progress.bar.clone();
        progress.finish();
        assert!(bar.is_finished());
    }
}
