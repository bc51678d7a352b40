//! Every workload of three operations, with every cut of each.

use crate::device::faults::FaultPlan;
use crate::plan::{Name, Op, Scenario, Shape};

const VOLUME: Name = Name(0);
const SNAPSHOT: Name = Name(1);

/// The operations that workloads are made of.
fn alphabet() -> Vec<Op> {
    vec![
        Op::Write(VOLUME, (0, 1), false),
        Op::Write(VOLUME, (1, 2), false),
        Op::Write(VOLUME, (0, 4), false),
        Op::Write(VOLUME, (1, 1), true),
        Op::Transaction(VOLUME, vec![(0, 1), (3, 1)], false),
        Op::Zeroes(VOLUME, (1, 2), false),
        Op::Unmap(VOLUME, (0, 1)),
        Op::Flush(VOLUME),
        Op::Checkpoint,
        Op::Snapshot(VOLUME, SNAPSHOT),
        Op::Delete(SNAPSHOT),
        Op::Resize(VOLUME, 3),
    ]
}

/// The number of workloads: three operations, one after the other or at a time.
#[must_use]
pub fn count() -> u64 {
    2 * (alphabet().len() as u64).pow(3)
}

/// The workload of a number.
#[must_use]
pub fn scenario(number: u64) -> Scenario {
    let alphabet = alphabet();
    let mut rest = number / 2;
    let sequential = number.is_multiple_of(2);
    // What the workloads change.
    let mut ops = vec![Op::Create(VOLUME, 5, true), Op::Write(VOLUME, (0, 4), true), Op::Wait];
    for _ in 0..3 {
        let choice = usize::try_from(rest % alphabet.len() as u64).unwrap_or(0);
        rest /= alphabet.len() as u64;
        ops.push(alphabet[choice].clone());
        if sequential {
            ops.push(Op::Wait);
        }
    }
    let shape = Shape { journal_blocks: 16, ..Shape::default() };
    Scenario { seed: number, shape, faults: FaultPlan::default(), segments: vec![ops] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_workloads_are_the_same() {
        let all: std::collections::BTreeSet<String> =
            (0..count()).map(|number| format!("{:?}", scenario(number).segments)).collect();
        assert_eq!(all.len() as u64, count());
    }
}
