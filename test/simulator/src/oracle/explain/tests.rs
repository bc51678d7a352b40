//! The search against plain enumeration, and cases by name.

use super::*;
use crate::rng::Rng;

fn op(id: u64, ranges: &[(u64, u64)], span: (Moment, Moment), required: bool) -> Candidate<'_> {
    let effect = Effect::Write;
    Candidate { id, effect, ranges, submitted: span.0, ended: span.1, required }
}

fn tag(op: u64, index: u64) -> Option<Content> {
    Some(Content::Tag(Tag { op, index }))
}

const ZERO: Option<Content> = Some(Content::Zero);

#[test]
fn a_write_is_whole_or_absent() {
    let ops = [op(1, &[(0, 2)], (0, 1), false)];
    assert_eq!(explain(&[tag(1, 0), tag(1, 1)], &[], &ops), Ok(()));
    assert_eq!(explain(&[ZERO, ZERO], &[], &ops), Ok(()));
    assert_eq!(explain(&[tag(1, 0), ZERO], &[], &ops), Err(Unexplained::Impossible));
    let swapped = explain(&[tag(1, 1), tag(1, 0)], &[], &ops);
    assert_eq!(swapped, Err(Unexplained::Impossible));
}

#[test]
fn a_required_write_is_there_or_overwritten() {
    let required = [op(1, &[(0, 1)], (0, 1), true)];
    assert_eq!(explain(&[ZERO], &[], &required), Err(Unexplained::Impossible));
    let later = [op(1, &[(0, 1)], (0, 1), true), op(2, &[(0, 1)], (2, 3), false)];
    assert_eq!(explain(&[tag(2, 0)], &[], &later), Ok(()));
    assert_eq!(explain(&[tag(1, 0)], &[], &later), Ok(()));
}

#[test]
fn an_old_write_does_not_come_back_over_a_newer_one() {
    let ops = [op(1, &[(0, 1)], (0, 1), true), op(2, &[(0, 1)], (2, 3), true)];
    assert_eq!(explain(&[tag(1, 0)], &[], &ops), Err(Unexplained::Impossible));
    let together = [op(1, &[(0, 1)], (0, 3), true), op(2, &[(0, 1)], (2, 4), true)];
    assert_eq!(explain(&[tag(1, 0)], &[], &together), Ok(()));
}

#[test]
fn two_writes_at_a_time_have_one_order_for_all_blocks() {
    let ops = [op(1, &[(0, 2)], (0, 9), true), op(2, &[(0, 2)], (0, 9), true)];
    assert_eq!(explain(&[tag(1, 0), tag(1, 1)], &[], &ops), Ok(()));
    assert_eq!(explain(&[tag(1, 0), tag(2, 1)], &[], &ops), Err(Unexplained::Impossible));
}

#[test]
fn what_nobody_wrote_is_named() {
    let found = [ZERO, tag(9, 0)];
    let error = explain(&found, &[], &[]).unwrap_err();
    let content = Content::Tag(Tag { op: 9, index: 0 });
    assert_eq!(error, Unexplained::Content { block: 1, found: content });
    assert_eq!(explain(&[Some(Content::Foreign)], &[Content::Zero], &[]).unwrap_err(), {
        Unexplained::Content { block: 0, found: Content::Foreign }
    });
    assert_eq!(explain(&[None], &[Content::Zero], &[]), Ok(()));
}

/// All orders of all subsets, tried one by one.
fn by_enumeration(found: &[Option<Content>], initial: &[Content], ops: &[Candidate<'_>]) -> bool {
    fn go(
        state: &mut [Content],
        left: &mut Vec<usize>,
        found: &[Option<Content>],
        ops: &[Candidate<'_>],
    ) -> bool {
        if left.is_empty() {
            return found.iter().zip(&*state).all(|(f, s)| f.is_none_or(|f| f == *s));
        }
        for at in 0..left.len() {
            let index = left.remove(at);
            let first = left.iter().all(|&other| ops[other].ended >= ops[index].submitted);
            if first {
                let mut next = state.to_vec();
                for (block, content) in ops[index].blocks() {
                    next[usize::try_from(block).unwrap()] = content;
                }
                if go(&mut next, left, found, ops) {
                    return true;
                }
            }
            left.insert(at, index);
        }
        false
    }
    (0..1u32 << ops.len()).any(|mask| {
        let chosen = |index: usize| mask >> index & 1 == 1;
        let mut left: Vec<usize> = (0..ops.len()).filter(|&index| chosen(index)).collect();
        let all_required = (0..ops.len()).all(|index| chosen(index) || !ops[index].required);
        all_required && go(&mut initial.to_vec(), &mut left, found, ops)
    })
}

#[test]
fn the_search_agrees_with_enumeration() {
    let mut rng = Rng::new(11);
    let (mut yes, mut no) = (0, 0);
    for _ in 0..30_000 {
        let blocks = rng.between(1, 4);
        let count = rng.between(1, 5);
        let ranges: Vec<Vec<(u64, u64)>> = (0..count)
            .map(|_| {
                let first = rng.below(blocks);
                vec![(first, rng.between(1, blocks - first))]
            })
            .collect();
        let ops: Vec<Candidate<'_>> = (0..count)
            .map(|id| {
                let submitted = u32::try_from(rng.below(12)).unwrap();
                let ended = submitted + u32::try_from(rng.between(1, 6)).unwrap();
                let effect = if rng.one_in(3) { Effect::Zero } else { Effect::Write };
                let ranges = &ranges[usize::try_from(id).unwrap()];
                Candidate { id, effect, ranges, submitted, ended, required: rng.one_in(2) }
            })
            .collect();
        let initial: Vec<Content> = (0..blocks)
            .map(|index| {
                let old = Content::Tag(Tag { op: 99, index });
                if rng.one_in(2) { old } else { Content::Zero }
            })
            .collect();
        // Mostly what some order of some of them leaves, so that both answers are frequent.
        let mut state = initial.clone();
        let mut order: Vec<usize> = (0..ops.len()).filter(|_| !rng.one_in(4)).collect();
        order.sort_by_key(|&index| (ops[index].submitted, rng.next_u64()));
        for index in order {
            for (block, content) in ops[index].blocks() {
                state[usize::try_from(block).unwrap()] = content;
            }
        }
        if rng.one_in(3) {
            let at = rng.index(state.len());
            state[at] = if rng.one_in(2) { Content::Zero } else { initial[at] };
        }
        let found: Vec<Option<Content>> =
            state.into_iter().map(|content| (!rng.one_in(10)).then_some(content)).collect();
        let expected = by_enumeration(&found, &initial, &ops);
        let answer = explain(&found, &initial, &ops);
        assert_eq!(answer.is_ok(), expected, "{answer:?}: {found:?} from {initial:?} by {ops:?}");
        *if expected { &mut yes } else { &mut no } += 1;
    }
    assert!(yes > 5000 && no > 5000, "{yes} possible, {no} not");
}
