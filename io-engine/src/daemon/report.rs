//! The start-up report: what was found, what was given up, and the remedy for it.
//!
//! The facts are gathered first and judged without looking at the machine again, so that every
//! judgement can be tested on any machine.

use serde_json::Value;
use spdk_rs::env::MemoryReport;
use spdk_rs::env::cpu::{self, CoreSet};
use spdk_rs::env::os::{self, Limit, Privileges};
use spdk_rs::env::system::{HugePageStats, huge_page_stats, tsc};
use spdk_rs::reactor::{FixedBuffers, PollMode};

use crate::core::{Engine, EngineOptions};
use crate::size::Size;

/// A line of the report.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    topic: &'static str,
    found: String,
    /// What to do about it, when something was given up.
    remedy: Option<String>,
}

/// What the report is made of.
struct Facts {
    memory: MemoryReport,
    pools: Vec<HugePageStats>,
    no_huge: bool,
    memlock: Option<Limit>,
    ring_refusal: Option<String>,
    fixed_buffers: FixedBuffers,
    /// Name and driver's facts of each uring device.
    uring_devices: Vec<(String, Value)>,
    cores: CoreSet,
    allowed: CoreSet,
    node: Option<u32>,
    nodes: usize,
    mode: PollMode,
    uid: u32,
    privileges: Privileges,
    invariant_tsc: bool,
    tick_source: String,
    hz: u64,
}

/// Logs the report: a line per topic, and what was given up as a warning with its remedy.
pub(super) fn print(engine: &Engine, options: &EngineOptions, no_huge: bool) {
    for Line { topic, found, remedy } in lines(&gather(engine, options, no_huge)) {
        match remedy {
            None => tracing::info!("{topic}: {found}"),
            Some(remedy) => tracing::warn!("{topic}: {found}; {remedy}"),
        }
    }
}

fn gather(engine: &Engine, options: &EngineOptions, no_huge: bool) -> Facts {
    let runtime = engine.runtime();
    let uring = engine.registry().all().into_iter().filter(|b| b.info().driver_name == "uring");
    Facts {
        memory: engine.memory().report(),
        pools: huge_page_stats(),
        no_huge,
        memlock: os::memlock_limit().ok(),
        ring_refusal: runtime.ring_refusal().map(str::to_owned),
        fixed_buffers: runtime.fixed_buffers(),
        uring_devices: uring.map(|b| (b.name().to_owned(), b.ops().driver_info())).collect(),
        cores: options.runtime.cores.clone(),
        allowed: runtime.allowed_cores().clone(),
        node: options.memory.backing.numa_node,
        nodes: cpu::numa_nodes().len(),
        mode: options.runtime.mode,
        uid: os::uid(),
        privileges: os::privileges(),
        invariant_tsc: tsc::tsc_is_invariant(),
        tick_source: format!("{:?}", tsc::tick_source()),
        hz: tsc::ticks_hz(),
    }
}

fn lines(facts: &Facts) -> Vec<Line> {
    vec![
        cores(facts),
        numa(facts),
        clock(facts),
        huge_pages(facts),
        locked_memory(facts),
        io_uring(facts),
        registered_buffers(facts),
        iopoll(facts),
        privileges(facts),
    ]
}

fn found(topic: &'static str, found: impl Into<String>) -> Line {
    Line { topic, found: found.into(), remedy: None }
}

fn given_up(topic: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Line {
    Line { topic, found: found.into(), remedy: Some(remedy.into()) }
}

fn cores(facts: &Facts) -> Line {
    let mode = match facts.mode {
        PollMode::Busy => "which spin all the time".to_owned(),
        PollMode::Adaptive { spin } => {
            format!("which spin for at most {} µs and then sleep", spin.as_micros())
        }
    };
    let (cores, allowed) = (&facts.cores, &facts.allowed);
    let count = cores.len();
    let reactors = if count == 1 { "reactor" } else { "reactors" };
    found("cores", format!("{count} {reactors} pinned to {cores} of {allowed}, {mode}"))
}

fn numa(facts: &Facts) -> Line {
    match (facts.nodes, facts.node) {
        (0 | 1, _) => found("NUMA", "one node"),
        (_, Some(node)) => found("NUMA", format!("cores and memory are on node {node}")),
        (nodes, None) => given_up(
            "NUMA",
            format!("the cores are on several of {nodes} nodes, so some reach memory across nodes"),
            "choose cores of one node with -l",
        ),
    }
}

fn clock(facts: &Facts) -> Line {
    let mhz = facts.hz / 1_000_000;
    let text = format!("{} at {mhz} MHz", facts.tick_source);
    if facts.invariant_tsc {
        return found("clock", format!("{text}, invariant time stamp counter"));
    }
    let remedy = "expose an invariant time stamp counter (invtsc) to this machine";
    let lost = "the processor promises no invariant time stamp counter";
    given_up("clock", format!("{text}; {lost}"), remedy)
}

fn huge_pages(facts: &Facts) -> Line {
    let MemoryReport { size_bytes, pages, .. } = facts.memory;
    let size = Size(size_bytes as u64);
    let text = format!("{size} for I/O buffers in {pages}");
    if pages.is_reserved() || facts.no_huge {
        return found("huge pages", text);
    }
    let pools: Vec<String> = facts
        .pools
        .iter()
        .map(|pool| {
            format!(
                "{} of {} pages of {} free",
                pool.available(),
                pool.total,
                Size(pool.size_bytes)
            )
        })
        .collect();
    let pools = match pools.as_slice() {
        [] => "the kernel shows no pools of them".to_owned(),
        pools => format!("pools: {}", pools.join(", ")),
    };
    let pages = size_bytes.div_ceil(2 << 20);
    let remedy = format!("reserve them with `sysctl vm.nr_hugepages={pages}`, or say --no-huge");
    given_up("huge pages", format!("{text}; {pools}"), remedy)
}

fn locked_memory(facts: &Facts) -> Line {
    let limit = match (facts.privileges.ipc_lock, facts.memlock) {
        (true, _) => "not limited (CAP_IPC_LOCK)".to_owned(),
        (false, Some(Limit::Unlimited)) => "not limited".to_owned(),
        (false, Some(Limit::Bytes(bytes))) => format!("limited to {}", Size(bytes)),
        (false, None) => "limit unknown".to_owned(),
    };
    match (&facts.memory.lock_error, facts.memory.locked) {
        (_, true) => found("locked memory", format!("I/O buffers are locked; {limit}")),
        (None, false) => found("locked memory", format!("I/O buffers need no lock; {limit}")),
        (Some(why), false) => given_up(
            "locked memory",
            format!("I/O buffers may be swapped out ({why})"),
            "raise it with `ulimit -l unlimited` (LimitMEMLOCK=infinity), or grant CAP_IPC_LOCK",
        ),
    }
}

fn io_uring(facts: &Facts) -> Line {
    match &facts.ring_refusal {
        None => found("io_uring", "a ring per reactor"),
        Some(why) => given_up(
            "io_uring",
            format!("not available ({why}); files go through Linux AIO, sockets through epoll"),
            "allow it with `sysctl kernel.io_uring_disabled=0`, and in the container's seccomp \
             profile",
        ),
    }
}

fn registered_buffers(facts: &Facts) -> Line {
    const TOPIC: &str = "registered buffers";
    if facts.ring_refusal.is_some() {
        return found(TOPIC, "none without io_uring");
    }
    match facts.fixed_buffers {
        FixedBuffers::Registered => {
            return found(TOPIC, "every ring has the I/O buffers registered");
        }
        FixedBuffers::Pending => {
            return found(TOPIC, "being registered with every ring in the background");
        }
        FixedBuffers::Refused => {}
    }
    let size = Size(facts.memory.size_bytes as u64);
    given_up(
        TOPIC,
        "the kernel maps buffers anew for every I/O",
        format!("allow {size} more of locked memory (`ulimit -l`), or start with a smaller -s"),
    )
}

fn iopoll(facts: &Facts) -> Line {
    const TOPIC: &str = "IOPOLL";
    if facts.uring_devices.is_empty() {
        return found(TOPIC, "no uring device to poll");
    }
    let polled =
        |facts: &Value| facts.pointer("/uring/iopoll").and_then(Value::as_bool) == Some(true);
    let (with, without): (Vec<_>, Vec<_>) =
        facts.uring_devices.iter().partition(|(_, facts)| polled(facts));
    let names = |list: Vec<&(String, Value)>| {
        list.into_iter().map(|(name, _)| format!("'{name}'")).collect::<Vec<_>>().join(", ")
    };
    if without.is_empty() {
        return found(TOPIC, format!("completions are polled for {}", names(with)));
    }
    // Interrupts are right for a device without poll queues: nothing was lost by a setting.
    found(TOPIC, format!("completions come by interrupt for {}", names(without)))
}

fn privileges(facts: &Facts) -> Line {
    let Privileges { ipc_lock, sys_admin, sys_nice } = facts.privileges;
    let held =
        [("CAP_IPC_LOCK", ipc_lock), ("CAP_SYS_ADMIN", sys_admin), ("CAP_SYS_NICE", sys_nice)];
    let held: Vec<&str> = held.iter().filter(|(_, held)| *held).map(|(name, _)| *name).collect();
    let held = if held.is_empty() { "no capability".to_owned() } else { held.join(", ") };
    found("privileges", format!("user {} with {held}", facts.uid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use spdk_rs::env::system::PageKind;
    use std::time::Duration;

    fn facts() -> Facts {
        let set = |text: &str| CoreSet::parse_list(text).expect("cores");
        Facts {
            memory: MemoryReport {
                size_bytes: 256 << 20,
                free_bytes: 256 << 20,
                largest_free_bytes: 256 << 20,
                pages: PageKind::Huge2M,
                locked: true,
                lock_error: None,
            },
            pools: vec![HugePageStats { size_bytes: 2 << 20, total: 8, free: 4, reserved: 1 }],
            no_huge: false,
            memlock: Some(Limit::Bytes(8 << 20)),
            ring_refusal: None,
            fixed_buffers: FixedBuffers::Registered,
            uring_devices: Vec::new(),
            cores: set("0-1"),
            allowed: set("0-7"),
            node: Some(0),
            nodes: 2,
            mode: PollMode::Adaptive { spin: Duration::from_micros(50) },
            uid: 1000,
            privileges: Privileges::default(),
            invariant_tsc: true,
            tick_source: "Tsc".into(),
            hz: 2_100_000_000,
        }
    }

    fn line(facts: &Facts, topic: &str) -> (String, Option<String>) {
        let line = lines(facts).into_iter().find(|line| line.topic == topic).expect(topic);
        (line.found, line.remedy)
    }

    #[test]
    fn nothing_is_given_up_on_a_machine_that_has_all() {
        for line in lines(&facts()) {
            assert_eq!(line.remedy, None, "{line:?}");
        }
        let (cores, _) = line(&facts(), "cores");
        assert_eq!(
            cores,
            "2 reactors pinned to 0-1 of 0-7, which spin for at most 50 µs and then sleep"
        );
        assert_eq!(line(&facts(), "NUMA").0, "cores and memory are on node 0");
    }

    #[test]
    fn what_is_given_up_has_a_remedy() {
        let mut poor = facts();
        poor.memory.pages = PageKind::Transparent;
        poor.memory.locked = false;
        poor.memory.lock_error = Some("the limit is 8 MiB".into());
        poor.fixed_buffers = FixedBuffers::Refused;
        poor.node = None;
        poor.invariant_tsc = false;
        for (topic, words, remedy) in [
            ("huge pages", "pools: 3 of 8 pages of 2MiB free", "vm.nr_hugepages=128"),
            ("locked memory", "the limit is 8 MiB", "ulimit -l"),
            ("registered buffers", "anew for every I/O", "256MiB more of locked memory"),
            ("NUMA", "several of 2 nodes", "-l"),
            ("clock", "no invariant", "invtsc"),
        ] {
            let (found, given) = line(&poor, topic);
            assert!(found.contains(words), "{topic}: {found}");
            assert!(given.is_some_and(|text| text.contains(remedy)), "{topic}");
        }
        poor.ring_refusal = Some("EPERM".into());
        let (found, remedy) = line(&poor, "io_uring");
        assert!(found.contains("EPERM") && remedy.is_some_and(|r| r.contains("io_uring_disabled")));
        assert_eq!(line(&poor, "registered buffers").1, None, "one cause, one remedy");
        poor.no_huge = true;
        assert_eq!(line(&poor, "huge pages").1, None, "what was asked for is no loss");
    }

    #[test]
    fn polling_is_told_per_device() {
        let mut polled = facts();
        polled.uring_devices = vec![("a".into(), json!({"uring": {"iopoll": true}}))];
        assert_eq!(line(&polled, "IOPOLL").0, "completions are polled for 'a'");
        polled.uring_devices.push(("b".into(), json!({"uring": {"iopoll": false}})));
        assert_eq!(line(&polled, "IOPOLL").0, "completions come by interrupt for 'b'");
    }
}
