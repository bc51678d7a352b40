//! A failing scenario made small: segments and operations are taken out for as long as it still
//! fails (delta debugging).

use super::{Op, Scenario};

/// A smaller scenario for which `fails` still holds, with at most so many tries.
pub fn shrink(
    scenario: &Scenario,
    tries_max: usize,
    mut fails: impl FnMut(&Scenario) -> bool,
) -> Scenario {
    let mut best = scenario.clone();
    let mut tries = 0;
    let mut attempt = |candidate: &Scenario, tries: &mut usize| {
        *tries += 1;
        *tries <= tries_max && fails(candidate)
    };
    while best.segments.len() > 1 {
        let mut shorter = best.clone();
        shorter.segments.pop();
        if !attempt(&shorter, &mut tries) {
            break;
        }
        best = shorter;
    }
    loop {
        let before = count(&best);
        let mut chunk = before.div_ceil(2).max(1);
        while chunk >= 1 && tries < tries_max {
            let mut at = 0;
            while at < count(&best) {
                let shorter = without(&best, at, chunk);
                if attempt(&shorter, &mut tries) {
                    best = shorter;
                } else {
                    at += chunk;
                }
            }
            if chunk == 1 {
                break;
            }
            chunk = chunk.div_ceil(2);
        }
        if count(&best) == before || tries >= tries_max {
            return best;
        }
    }
}

fn count(scenario: &Scenario) -> usize {
    scenario.segments.iter().map(Vec::len).sum()
}

/// The scenario without some operations, counted over all segments.
fn without(scenario: &Scenario, from: usize, len: usize) -> Scenario {
    let mut number = 0;
    let mut keep = |_: &Op| {
        number += 1;
        !(from..from + len).contains(&(number - 1))
    };
    let mut shorter = scenario.clone();
    for segment in &mut shorter.segments {
        segment.retain(&mut keep);
    }
    shorter
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::generate::{Profile, scenario};

    #[test]
    fn what_does_not_matter_goes() {
        let mut big = scenario(5, Profile::Everything);
        big.segments = vec![vec![Op::Wait; 20], vec![Op::Wait; 20]];
        big.segments[0][7] = Op::Checkpoint;
        big.segments[1][13] = Op::Reimport;
        let fails = |scenario: &Scenario| {
            let has = |op: &Op| scenario.segments.iter().flatten().any(|other| other == op);
            has(&Op::Checkpoint) && has(&Op::Reimport)
        };
        let small = shrink(&big, 1000, fails);
        assert_eq!(small.segments, [vec![Op::Checkpoint], vec![Op::Reimport]]);
    }
}
