//! Properties of the generators: bounds, alignment, distribution, repeatability.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const SPEC: Spec = Spec {
    pattern: Pattern::RandRead,
    read_percent: 50,
    blocks_per_io: 1,
    num_blocks: 1000,
    seed: 1,
    device: 0,
    core: 0,
    cores: 1,
    flush_every: None,
    zones: None,
};

/// Takes the first I/Os of a stream.
struct Take(usize);

impl WorkloadVisitor for Take {
    type Output = Vec<Io>;

    fn stream<W: Workload>(self, mut workload: W) -> Vec<Io> {
        (0..self.0).map(|_| workload.next_io()).collect()
    }

    fn verify(self, _: VerifyPlan) -> Vec<Io> {
        panic!("verify is a plan and not a stream")
    }

    fn zones(self, _: ZoneWriters) -> Vec<Io> {
        panic!("no stream, but several")
    }
}

struct TakePlan;

impl WorkloadVisitor for TakePlan {
    type Output = VerifyPlan;

    fn stream<W: Workload>(self, _: W) -> VerifyPlan {
        panic!("only verify is a plan")
    }

    fn verify(self, plan: VerifyPlan) -> VerifyPlan {
        plan
    }

    fn zones(self, _: ZoneWriters) -> VerifyPlan {
        panic!("only verify is a plan")
    }
}

fn ios(spec: Spec, count: usize) -> Vec<Io> {
    spec.visit(Take(count)).unwrap_or_else(|error| panic!("{spec:?}: {error}"))
}

#[test]
fn patterns_read_as_they_print() {
    for pattern in Pattern::value_variants() {
        assert_eq!(pattern.to_string().parse(), Ok(*pattern));
        let value = pattern.to_possible_value().expect("no pattern is hidden");
        assert_eq!(value.get_name(), pattern.name());
        assert_eq!(serde_json::json!(pattern), pattern.name());
    }
    for op in Op::ALL {
        assert_eq!(serde_json::json!(op), op.name());
        assert_eq!(Op::ALL[op as usize], op);
    }
}

#[test]
fn each_pattern_does_what_it_says() {
    let only = |pattern, op| {
        let ios = ios(Spec { pattern, ..SPEC }, 200);
        assert!(ios.iter().all(|io| io.op == op), "{pattern}");
        ios
    };
    let sequential = |ios: Vec<Io>| ios.iter().enumerate().all(|(i, io)| io.lba == i as u64);
    assert!(sequential(only(Pattern::Read, Op::Read)));
    assert!(sequential(only(Pattern::Write, Op::Write)));
    assert!(sequential(only(Pattern::Unmap, Op::Unmap)));
    assert!(sequential(only(Pattern::WriteZeroes, Op::WriteZeroes)));
    assert!(sequential(ios(Spec { pattern: Pattern::Rw, ..SPEC }, 200)));
    assert!(!sequential(only(Pattern::RandRead, Op::Read)));
    assert!(!sequential(only(Pattern::RandWrite, Op::Write)));
    only(Pattern::Flush, Op::Flush);
}

#[test]
fn sequences_repeat_for_a_seed_and_differ_otherwise() {
    let sequence = |spec| ios(spec, 64);
    let base = sequence(SPEC);
    assert_eq!(base, sequence(SPEC));
    for other in [Spec { seed: 2, ..SPEC }, Spec { device: 1, ..SPEC }, Spec { core: 1, ..SPEC }] {
        let shared = sequence(other).iter().filter(|io| base.contains(io)).count();
        assert!(shared < 20, "{other:?} shares {shared} of 64 addresses");
    }
}

#[test]
fn random_addresses_are_uniform() {
    // Chi-square over 1,000 slots: mean 999, standard deviation 44.7; the seed is fixed.
    let mut counts = [0_u32; 1000];
    for io in ios(SPEC, 1_000_000) {
        counts[usize::try_from(io.lba).expect("a small device")] += 1;
    }
    let chi_square: f64 = counts.iter().map(|c| (f64::from(*c) - 1000.0).powi(2) / 1000.0).sum();
    assert!((750.0..1250.0).contains(&chi_square), "{chi_square}");
}

#[test]
fn successive_addresses_are_independent() {
    // The same over 32 × 32 pairs of one address and the next.
    let mut counts = vec![0_u32; 1024];
    let ios = ios(Spec { num_blocks: 32, ..SPEC }, 1_024_001);
    for pair in ios.windows(2) {
        counts[usize::try_from(pair[0].lba * 32 + pair[1].lba).expect("a small device")] += 1;
    }
    let chi_square: f64 = counts.iter().map(|c| (f64::from(*c) - 1000.0).powi(2) / 1000.0).sum();
    assert!((770.0..1280.0).contains(&chi_square), "{chi_square}");
}

#[test]
fn the_mix_is_as_asked_and_independent_of_the_address() {
    for percent in [0_u8, 1, 30, 70, 99, 100] {
        let spec = Spec { pattern: Pattern::RandRw, read_percent: percent, ..SPEC };
        let ios = ios(spec, 100_000);
        for half in [0..500, 500..1000] {
            let here: Vec<_> = ios.iter().filter(|io| half.contains(&io.lba)).collect();
            let reads = here.iter().filter(|io| io.op == Op::Read).count();
            let found = reads as f64 / here.len() as f64 * 100.0;
            assert!((found - f64::from(percent)).abs() < 1.0, "{percent} % gave {found}");
            assert!(!matches!(percent, 0 | 100) || found == f64::from(percent));
        }
    }
}

#[test]
fn flushes_come_after_the_asked_number_of_writes() {
    let spec = Spec { pattern: Pattern::Write, flush_every: Some(3), ..SPEC };
    let ops: Vec<Op> = ios(spec, 9).iter().map(|io| io.op).collect();
    let (w, f) = (Op::Write, Op::Flush);
    assert_eq!(ops, [w, w, w, f, w, w, w, f, w]);

    let mixed = ios(Spec { pattern: Pattern::Rw, flush_every: Some(4), ..SPEC }, 10_000);
    let count = |op| mixed.iter().filter(|io| io.op == op).count();
    assert_eq!(count(Op::Flush), count(Op::Write) / 4);
    assert!(count(Op::Read) > 3000);
}

#[test]
fn too_small_devices_are_refused() {
    for (pattern, num_blocks, blocks_per_io, cores, fits) in [
        (Pattern::RandRead, 7, 8, 1, false),
        (Pattern::RandRead, 8, 8, 4, true),
        (Pattern::Read, 31, 8, 4, false),
        (Pattern::Read, 32, 8, 4, true),
        (Pattern::Verify, 31, 8, 4, false),
        (Pattern::RandRead, 0, 1, 1, false),
        (Pattern::RandRead, 8, 0, 1, false),
    ] {
        let spec = Spec { pattern, num_blocks, blocks_per_io, cores, ..SPEC };
        assert_eq!(spec.check().is_ok(), fits, "{spec:?}");
    }
    let error = Spec { num_blocks: 7, blocks_per_io: 8, ..SPEC }.check().expect_err("too small");
    assert!(error.to_string().contains("holds 0 I/Os of 8 blocks (7 blocks in all)"), "{error}");
}

proptest! {
    #[test]
    fn every_io_is_aligned_and_inside(
        pattern in proptest::sample::select(vec![
            Pattern::Read, Pattern::RandRead, Pattern::RandRw, Pattern::Rw, Pattern::Unmap,
        ]),
        num_blocks in 1_u64..=u64::MAX,
        blocks_per_io in 1_u64..5000,
        seed: u64,
        (core, cores) in (1_u32..64).prop_flat_map(|cores| (0..cores, Just(cores))),
    ) {
        let spec = Spec { pattern, num_blocks, blocks_per_io, seed, core, cores, ..SPEC };
        prop_assume!(spec.check().is_ok());
        for io in ios(spec, 100) {
            prop_assert_eq!(io.lba % blocks_per_io, 0);
            prop_assert!(io.lba <= num_blocks - blocks_per_io);
        }
    }

    #[test]
    fn sequential_cores_cover_the_device_without_overlap(
        slots in 1_u64..200, blocks_per_io in 1_u64..9, rest in 0_u64..8, cores in 1_u32..20,
    ) {
        let num_blocks = slots * blocks_per_io + rest.min(blocks_per_io - 1);
        prop_assume!(slots >= u64::from(cores));
        let mut seen = HashSet::new();
        for core in 0..cores {
            let pattern = Pattern::Write;
            let spec = Spec { pattern, num_blocks, blocks_per_io, core, cores, ..SPEC };
            let (first, end) = spec.slots().expect("it fits");
            let len = usize::try_from(end - first).expect("small");
            let pass = ios(spec, len + 1);
            prop_assert_eq!(pass[0], pass[len], "wraps");
            prop_assert!(pass[..len].iter().all(|io| seen.insert(io.lba)));
        }
        prop_assert_eq!(seen.len() as u64, slots);
    }

    /// Plays the plan against a model of zones: one write at a time, at the write pointer.
    #[test]
    fn the_plan_keeps_the_order_of_zones(
        zones in 1_u64..40, capacity_blocks in 1_u64..40, stop_after in 0_usize..5000,
        blocks_per_io in 1_u64..4, flush_every in proptest::option::of(1_u64..100),
    ) {
        prop_assume!(capacity_blocks >= blocks_per_io);
        let zone_blocks = 64;
        let shape = ZoneShape { zone_blocks, capacity_blocks, zones };
        let (pattern, num_blocks) = (Pattern::Verify, zone_blocks * zones);
        let spec =
            Spec { pattern, num_blocks, blocks_per_io, flush_every, zones: Some(shape), ..SPEC };
        let mut plan = spec.visit(TakePlan).expect("it fits");
        let (mut device, mut audit) = (HashMap::new(), HashSet::new());
        // Full at first: nothing can be written before a reset.
        let mut pointers = vec![capacity_blocks; usize::try_from(zones).expect("small")];
        let place = |lba: u64| (usize::try_from(lba / zone_blocks).expect("small"), lba % zone_blocks);
        let (mut in_flight, mut steps) = (0, 0);
        loop {
            if steps == stop_after {
                plan.stop();
            }
            steps += 1;
            match plan.next_step() {
                Step::Reset { lba } => {
                    prop_assert_eq!((in_flight, place(lba).1), (0, 0));
                    pointers[place(lba).0] = 0;
                    device.retain(|other, _| place(*other).0 != place(lba).0);
                    in_flight = 1;
                }
                Step::Write { lba, generation } => {
                    prop_assert_eq!((in_flight, place(lba).1), (0, pointers[place(lba).0]));
                    prop_assert!(steps <= stop_after, "no write after the stop");
                    pointers[place(lba).0] += blocks_per_io;
                    prop_assert!(pointers[place(lba).0] <= capacity_blocks);
                    device.insert(lba, generation);
                    in_flight = 1;
                }
                Step::Read { lba, generation } => {
                    prop_assert_eq!(device.get(&lba), Some(&generation));
                    audit.insert(lba);
                    in_flight += 1;
                }
                Step::Flush => prop_assert_eq!(in_flight, 0),
                Step::Drain => in_flight = 0,
                Step::Done => break,
            }
        }
        prop_assert!(device.keys().all(|lba| audit.contains(lba)));
    }

    /// Plays the plan against a model device in which everything in flight completes at a drain.
    #[test]
    fn the_plan_checks_every_write(
        slots in 1_u64..10_000, blocks_per_io in 1_u64..4, stop_after in 0_usize..30_000,
        flush_every in proptest::option::of(1_u64..100),
    ) {
        let num_blocks = slots * blocks_per_io;
        let pattern = Pattern::Verify;
        let spec = Spec { pattern, num_blocks, blocks_per_io, flush_every, ..SPEC };
        let mut plan = spec.visit(TakePlan).expect("it fits");
        let (mut device, mut unchecked) = (HashMap::new(), HashSet::new());
        let (mut in_flight, mut unflushed, mut audit) = (HashSet::new(), 0_u64, HashSet::new());
        let mut steps = 0;
        loop {
            if steps == stop_after {
                plan.stop();
            }
            steps += 1;
            match plan.next_step() {
                Step::Write { lba, generation } => {
                    prop_assert!(steps <= stop_after, "no write after the stop");
                    prop_assert!(in_flight.insert(lba));
                    let before = device.insert(lba, generation).unwrap_or(0);
                    prop_assert_eq!(before + 1, generation);
                    prop_assert!(unchecked.insert(lba), "checked before it is written again");
                    unflushed += 1;
                    prop_assert!(flush_every.is_none_or(|every| unflushed <= every));
                }
                Step::Read { lba, generation } => {
                    prop_assert!(in_flight.insert(lba));
                    prop_assert_eq!(device.get(&lba), Some(&generation));
                    prop_assert!(flush_every.is_none() || unflushed == 0);
                    if !unchecked.remove(&lba) {
                        prop_assert!(audit.insert(lba), "audited once");
                    }
                }
                Step::Reset { .. } => prop_assert!(false, "there are no zones"),
                Step::Flush => {
                    prop_assert!(flush_every.is_some() && in_flight.is_empty());
                    unflushed = 0;
                }
                Step::Drain => in_flight.clear(),
                Step::Done => break,
            }
            prop_assert!(steps < 200_000, "the plan ends");
        }
        prop_assert!(unchecked.is_empty() && in_flight.is_empty());
        prop_assert_eq!(audit.len(), device.len(), "all is read once more at the end");
        prop_assert_eq!(plan.next_step(), Step::Done);
    }
}
