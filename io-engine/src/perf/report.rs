//! Results: what was counted, what it means, and how it is printed.
//!
//! A job is one device on one core. The runner fills a [`JobStats`] per job; [`RunReport::new`]
//! turns them into figures per job, per device and in total. Quantiles of several jobs come from
//! their merged histograms and never from averaging.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::histogram::Histogram;
use super::workload::{Op, Pattern};
use crate::size::Size;

pub use progress::{Limit, Progress, Sample};

mod progress;
#[cfg(test)]
mod tests;

/// What a job was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// The device's name.
    pub device: String,
    /// The core's number in the system.
    pub core: u32,
    /// The pattern.
    pub pattern: Pattern,
    /// The length of an I/O in bytes.
    pub io_size: u64,
    /// The number of I/Os kept in flight.
    pub queue_depth: u32,
}

/// The counters of one kind of operation.
#[derive(Debug, Clone, Default)]
pub struct OpStats {
    /// Latencies of the I/Os that succeeded, in ticks.
    pub latency: Histogram,
    /// I/Os that failed.
    pub errors: u64,
}

/// The counters of one job.
#[derive(Debug, Clone, Default)]
pub struct JobStats {
    /// By operation, in the order of [`Op::ALL`].
    ops: [OpStats; Op::ALL.len()],
    /// Reads whose data was not what was written, in `-w verify`.
    pub mismatches: u64,
    /// The first failure, in words.
    pub first_error: Option<String>,
    /// The device went away, and the job ended early.
    pub device_gone: bool,
    /// From the first submission to the last completion, in nanoseconds.
    pub elapsed_ns: u64,
    /// CPU time of the core's thread in nanoseconds, as this job's share where several jobs run on
    /// one core.
    pub cpu_ns: u64,
}

impl JobStats {
    /// Counts an I/O that succeeded after `ticks`.
    #[inline]
    pub fn record(&mut self, op: Op, ticks: u64) {
        self.ops[op as usize].latency.record(ticks);
    }

    /// Counts an I/O that failed; the first failure of all is kept in words.
    #[cold]
    pub fn record_error(&mut self, op: Op, describe: impl FnOnce() -> String) {
        self.ops[op as usize].errors += 1;
        self.first_error.get_or_insert_with(describe);
    }

    /// Counts a read whose data was wrong; the first failure of all is kept in words.
    #[cold]
    pub fn record_mismatch(&mut self, describe: impl FnOnce() -> String) {
        self.mismatches += 1;
        self.first_error.get_or_insert_with(describe);
    }

    /// The counters of one operation.
    #[must_use]
    pub fn op(&self, op: Op) -> &OpStats {
        &self.ops[op as usize]
    }

    /// The same with the given CPU time in nanoseconds.
    #[must_use]
    pub fn with_cpu(mut self, cpu_ns: u64) -> Self {
        self.cpu_ns = cpu_ns;
        self
    }

    /// I/Os that have ended, failed ones included.
    #[must_use]
    pub fn ios(&self) -> u64 {
        self.ops.iter().map(|op| op.latency.count() + op.errors).sum()
    }

    /// Adds a job that ran at the same time.
    pub fn merge(&mut self, other: &Self) {
        for (mine, more) in self.ops.iter_mut().zip(&other.ops) {
            mine.latency.merge(&more.latency);
            mine.errors += more.errors;
        }
        self.mismatches += other.mismatches;
        self.device_gone |= other.device_gone;
        if self.first_error.is_none() {
            self.first_error.clone_from(&other.first_error);
        }
        self.elapsed_ns = self.elapsed_ns.max(other.elapsed_ns);
        self.cpu_ns += other.cpu_ns;
    }
}

/// Latencies in nanoseconds; all 0 when nothing succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LatencyReport {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p99_9: f64,
    /// The longest.
    pub max: f64,
}

impl LatencyReport {
    fn new(histogram: &Histogram, ns_per_tick: f64) -> Self {
        let at = |per_mille| histogram.per_mille(per_mille) as f64 * ns_per_tick;
        Self {
            mean: histogram.mean() * ns_per_tick,
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
            max: histogram.max() as f64 * ns_per_tick,
        }
    }
}

/// The figures of one kind of operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpReport {
    /// The operation.
    pub op: Op,
    /// I/Os that succeeded.
    pub ios: u64,
    /// I/Os that succeeded, per second.
    pub iops: f64,
    /// Data moved (or covered, for unmap and write zeroes) in MiB per second; 0 for flushes.
    pub mib_per_s: f64,
    /// Latencies in nanoseconds.
    pub latency_ns: LatencyReport,
    /// I/Os that failed.
    pub errors: u64,
}

/// The figures of a job, of a device (its jobs on all cores) or of the whole run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JobReport {
    /// The device's name; `total` for the whole run.
    pub device: String,
    /// The core's number; absent when several are summed up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub core: Option<u32>,
    /// The pattern.
    pub pattern: Pattern,
    /// The length of an I/O in bytes.
    pub io_size: u64,
    /// The number of I/Os kept in flight.
    pub queue_depth: u32,
    /// I/Os that succeeded.
    pub ios: u64,
    /// From the first submission to the last completion.
    pub seconds: f64,
    /// I/Os that succeeded, per second.
    pub iops: f64,
    /// Data moved (or covered, for unmap and write zeroes) in MiB per second.
    pub mib_per_s: f64,
    /// Latencies in nanoseconds, over all operations.
    pub latency_ns: LatencyReport,
    /// CPU time per I/O in nanoseconds: of the cores' threads, and in the total of the whole
    /// process.
    pub cpu_ns_per_io: f64,
    /// I/Os that failed.
    pub errors: u64,
    /// Reads whose data was not what was written, in `-w verify`.
    pub mismatches: u64,
    /// The first failure, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_error: Option<String>,
    /// The device went away, and the load on it ended early.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub device_gone: bool,
    /// The same by operation.
    pub ops: Vec<OpReport>,
}

/// `numerator / denominator`, and 0 where nothing was counted.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}

impl JobReport {
    fn new(job: &Job, stats: &JobStats, ns_per_tick: f64) -> Self {
        let seconds = stats.elapsed_ns as f64 / 1e9;
        let mut latency = Histogram::new();
        let mut ops = Vec::new();
        for op in Op::ALL {
            let OpStats { latency: of_op, errors } = stats.op(op);
            let ios = of_op.count();
            if ios == 0 && *errors == 0 {
                continue;
            }
            latency.merge(of_op);
            let io_size = if op == Op::Flush { 0 } else { job.io_size };
            ops.push(OpReport {
                op,
                ios,
                iops: ratio(ios as f64, seconds),
                mib_per_s: ratio(ios as f64 * io_size as f64 / 1_048_576.0, seconds),
                latency_ns: LatencyReport::new(of_op, ns_per_tick),
                errors: *errors,
            });
        }
        let ios: u64 = ops.iter().map(|op| op.ios).sum();
        Self {
            device: job.device.clone(),
            core: Some(job.core),
            pattern: job.pattern,
            io_size: job.io_size,
            queue_depth: job.queue_depth,
            ios,
            seconds,
            iops: ratio(ios as f64, seconds),
            mib_per_s: ops.iter().map(|op| op.mib_per_s).sum(),
            latency_ns: LatencyReport::new(&latency, ns_per_tick),
            cpu_ns_per_io: ratio(stats.cpu_ns as f64, ios as f64),
            errors: ops.iter().map(|op| op.errors).sum(),
            mismatches: stats.mismatches,
            first_error: stats.first_error.clone(),
            device_gone: stats.device_gone,
            ops,
        }
    }

    /// The figures of jobs that ran at the same time, under one name.
    fn merged(name: &str, jobs: &[&(Job, JobStats)], ns_per_tick: f64) -> Option<Self> {
        let ((first, _), _) = jobs.split_first()?;
        let mut stats = JobStats::default();
        jobs.iter().for_each(|(_, more)| stats.merge(more));
        let queue_depth = jobs.iter().map(|(job, _)| job.queue_depth).sum();
        let job = Job { device: name.to_owned(), queue_depth, ..first.clone() };
        let core = if jobs.len() == 1 { Some(first.core) } else { None };
        Some(Self { core, ..Self::new(&job, &stats, ns_per_tick) })
    }
}

/// The figures of a whole run; serialised, what `--json` prints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunReport {
    /// Every device on every core.
    pub jobs: Vec<JobReport>,
    /// Every device, its cores summed up.
    pub devices: Vec<JobReport>,
    /// Everything; absent when there was no job.
    pub total: Option<JobReport>,
}

impl RunReport {
    /// Turns the counters of all jobs into figures. `ns_per_tick` is the length of a tick in
    /// nanoseconds.
    #[must_use]
    pub fn new(jobs: &[(Job, JobStats)], ns_per_tick: f64) -> Self {
        let mut devices: Vec<(&str, Vec<&(Job, JobStats)>)> = Vec::new();
        for job in jobs {
            match devices.iter_mut().find(|(name, _)| *name == job.0.device) {
                Some((_, of_device)) => of_device.push(job),
                None => devices.push((&job.0.device, vec![job])),
            }
        }
        let merged = |name: &str, jobs: &[_]| JobReport::merged(name, jobs, ns_per_tick);
        Self {
            jobs: jobs.iter().map(|(job, stats)| JobReport::new(job, stats, ns_per_tick)).collect(),
            devices: devices.iter().filter_map(|(name, jobs)| merged(name, jobs)).collect(),
            total: merged("total", &jobs.iter().collect::<Vec<_>>()),
        }
    }

    /// Sets the CPU time of the total to that of the whole process in nanoseconds: threads that
    /// help the cores are in it.
    pub fn set_process_cpu(&mut self, cpu_ns: u64) {
        if let Some(total) = &mut self.total {
            total.cpu_ns_per_io = ratio(cpu_ns as f64, total.ios as f64);
        }
    }

    /// Whether an I/O failed or read wrong data.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        self.total.as_ref().is_some_and(|total| total.errors > 0 || total.mismatches > 0)
    }

    /// Whether wrong data was read.
    #[must_use]
    pub fn has_mismatches(&self) -> bool {
        self.total.as_ref().is_some_and(|total| total.mismatches > 0)
    }

    /// The table for people: a line per device and operation, a total when there are several, and
    /// the first failure of every device.
    #[must_use]
    pub fn to_table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY).set_header([
            "device",
            "op",
            "IOPS",
            "MiB/s",
            "mean µs",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "CPU ns/IO",
            "errors",
        ]);
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for device in &self.devices {
            add_rows(&mut table, device);
        }
        if let Some(total) = self.total.as_ref().filter(|_| self.devices.len() > 1) {
            add_rows(&mut table, total);
        }
        let mut text = self.heading();
        text.push_str(&table.to_string());
        if let Some(total) = &self.total {
            let cpu = total.cpu_ns_per_io;
            let _ = write!(text, "\nCPU of the whole process: {cpu:.0} ns per I/O");
        }
        for device in &self.devices {
            let JobReport { device, errors, mismatches, first_error, device_gone, .. } = device;
            if *device_gone {
                let _ = write!(text, "\n{device}: the device went away, its load ended early");
            }
            if let Some(first) = first_error {
                let _ = write!(
                    text,
                    "\n{device}: {errors} failed I/Os, {mismatches} with wrong data; first: {first}"
                );
            }
        }
        text
    }

    fn heading(&self) -> String {
        self.total.as_ref().map_or_else(String::new, |total| {
            let cores =
                self.jobs.iter().map(|job| job.core).collect::<std::collections::HashSet<_>>();
            format!(
                "{} · {} · depth {} in all · {} device(s) on {} core(s) · {:.2} s\n",
                total.pattern,
                Size(total.io_size),
                total.queue_depth,
                self.devices.len(),
                cores.len(),
                total.seconds
            )
        })
    }
}

/// One line per operation; a line for all of them together only when there are several.
fn add_rows(table: &mut Table, report: &JobReport) {
    let cpu = format!("{:.0}", report.cpu_ns_per_io);
    let wrong = |errors: u64, mismatches: u64| match mismatches {
        0 => errors.to_string(),
        _ => format!("{errors} + {mismatches} wrong"),
    };
    let several = report.ops.len() > 1;
    for op in &report.ops {
        let cpu = if several { "" } else { cpu.as_str() };
        let mismatches = if op.op == Op::Read { report.mismatches } else { 0 };
        let errors = wrong(op.errors, mismatches);
        let name = op.op.name();
        table.add_row(row(
            &report.device,
            name,
            op.iops,
            op.mib_per_s,
            &op.latency_ns,
            cpu,
            errors,
        ));
    }
    if several || report.ops.is_empty() {
        let JobReport { iops, mib_per_s, latency_ns, errors, mismatches, .. } = report;
        let name = if several { "all" } else { report.pattern.name() };
        let errors = wrong(*errors, *mismatches);
        table.add_row(row(&report.device, name, *iops, *mib_per_s, latency_ns, &cpu, errors));
    }
}

fn row(
    device: &str,
    op: &str,
    iops: f64,
    mib_per_s: f64,
    latency: &LatencyReport,
    cpu: &str,
    errors: String,
) -> Vec<String> {
    let us = |ns: f64| format!("{:.2}", ns / 1e3);
    let LatencyReport { mean, p50, p90, p99, p99_9, max } = *latency;
    let mut cells = vec![device.into(), op.into(), grouped(iops), format!("{mib_per_s:.1}")];
    cells.extend([mean, p50, p90, p99, p99_9, max].map(us));
    cells.extend([cpu.to_owned(), errors]);
    cells
}

/// A rate as a whole number with its thousands apart: `1 234 567`.
fn grouped(rate: f64) -> String {
    let digits = format!("{rate:.0}");
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
