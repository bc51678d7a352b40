//! Compares what was found after a cut with what the history allows.

use std::collections::BTreeMap;

use spdk_rs::NvmeStatus;

use super::content::Content;
use super::explain::{Candidate, Effect, Moment, Unexplained, explain};
use super::failure::{Failure, Rule};
use super::history::{DataOp, Entry, History, InstanceId, NEVER, Names, Outcome};
use crate::plan::Name;

/// A volume or snapshot as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Block by block, what it holds, or how reading it failed.
    pub contents: Vec<Result<Content, NvmeStatus>>,
}

/// Everything that was found.
pub type Observed = BTreeMap<Name, Found>;

/// What a check takes for granted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// There was no cut: all that succeeded is there.
    pub all_completed: bool,
    /// Reads may fail.
    pub errors_allowed: bool,
    /// The device has lied: what was flushed may be gone. No block may hold what it never held.
    pub lied: bool,
}

/// A change whose outcome is not known, taken as done or not.
type Guess = (usize, bool);

impl History {
    /// Whether a state can be what a cut before a moment leaves; and what the names mean then.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(
        &self,
        moment: Moment,
        found: &Observed,
        circumstances: Circumstances,
    ) -> Result<Names, Failure> {
        if circumstances.lied {
            return self.check_after_lies(moment, found).map(|()| Names::new());
        }
        let open: Vec<usize> =
            (0..self.metas.len()).filter(|&meta| self.is_open(meta, moment)).collect();
        let mut first: Option<Failure> = None;
        for mask in 0..1u32 << open.len().min(4) {
            let guesses: Vec<Guess> = open
                .iter()
                .enumerate()
                .map(|(at, &meta)| (meta, at < 4 && mask >> at & 1 == 1))
                .collect();
            match self.check_guess(moment, found, circumstances, &guesses) {
                Ok(()) => return Ok(self.names_at(moment, &guesses)),
                // The guess under which the names fit tells the most.
                Err(failure) => {
                    let better = first.as_ref().is_none_or(|old| old.rule == Rule::Names);
                    if better {
                        first = Some(failure);
                    }
                }
            }
        }
        Err(first.unwrap_or_else(|| Failure::new(Rule::Simulator, "no guess was checked")))
    }

    /// Whether one volume or snapshot is as it may be now, without a cut.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check_only(&self, moment: Moment, found: &Observed, name: Name) -> Result<(), Failure> {
        let (Some(entry), Some(found)) = (self.names.get(&name), found.get(&name)) else {
            return Ok(());
        };
        if found.contents.len() as u64 != entry.blocks {
            let text = format!("{name} has {} blocks, not {}", found.contents.len(), entry.blocks);
            return Err(Failure::new(Rule::Size, text));
        }
        let circumstances =
            Circumstances { all_completed: true, errors_allowed: true, lied: false };
        self.check_contents(*entry, found, moment, circumstances, &[])
            .map_err(|failure| failure.at(name))
    }

    /// Whether a change may be done or not, seen from a cut at a moment.
    fn is_open(&self, meta: usize, moment: Moment) -> bool {
        let meta = &self.metas[meta];
        meta.submitted < moment && (meta.ended >= moment || meta.outcome == Outcome::Failed)
    }

    fn names_at(&self, moment: Moment, guesses: &[Guess]) -> Names {
        let mut names = self.start.clone();
        for (index, meta) in self.metas.iter().enumerate() {
            let done = meta.outcome == Outcome::Done && meta.ended < moment;
            if done || guesses.contains(&(index, true)) {
                meta.change.apply(&mut names);
            }
        }
        names
    }

    fn check_guess(
        &self,
        moment: Moment,
        found: &Observed,
        circumstances: Circumstances,
        guesses: &[Guess],
    ) -> Result<(), Failure> {
        let names = self.names_at(moment, guesses);
        for name in Name::all() {
            let (expected, is) = (names.contains_key(&name), found.contains_key(&name));
            if expected != is {
                let text = if is { "is there and must not be" } else { "is not there" };
                return Err(Failure::new(Rule::Names, format!("{name} {text}")));
            }
        }
        for (name, entry) in &names {
            let Some(found) = found.get(name) else { continue };
            let blocks = found.contents.len() as u64;
            if blocks != entry.blocks {
                let text = format!("{name} has {blocks} blocks, not {}", entry.blocks);
                return Err(Failure::new(Rule::Size, text));
            }
            let place = || format!("{name} ({:?})", entry.instance);
            self.check_contents(*entry, found, moment, circumstances, guesses)
                .map_err(|failure| failure.at(place()))?;
        }
        Ok(())
    }

    fn check_contents(
        &self,
        entry: Entry,
        found: &Found,
        moment: Moment,
        circumstances: Circumstances,
        guesses: &[Guess],
    ) -> Result<(), Failure> {
        let mut contents = Vec::with_capacity(found.contents.len());
        for (block, content) in found.contents.iter().enumerate() {
            if let Err(status) = content
                && !circumstances.errors_allowed
            {
                let text = format!("block {block} cannot be read: {status}");
                return Err(Failure::new(Rule::Status, text));
            }
            contents.push(content.ok());
        }
        let instance = &self.instances[entry.instance.0];
        if let Some((since, fixed)) = &instance.fixed
            && *since < moment
        {
            return same(&contents, fixed);
        }
        let (initial, candidates) = match instance.taken {
            None => {
                let candidates = self.candidates(entry.instance, moment, circumstances, guesses);
                (&instance.initial, candidates)
            }
            Some(taken) => {
                let candidates = self.taken_candidates(taken.origin, taken.meta, moment);
                (&self.instances[taken.origin.0].initial, candidates)
            }
        };
        judge(&contents, initial, &candidates)
    }

    /// The operations that may have happened to a volume before a moment.
    fn candidates(
        &self,
        instance: InstanceId,
        moment: Moment,
        circumstances: Circumstances,
        guesses: &[Guess],
    ) -> Vec<Candidate<'_>> {
        let ops = self.instances[instance.0].ops.iter();
        ops.filter(|op| op.submitted < moment)
            .filter_map(|op| {
                let required = match op.meta {
                    Some(meta) => match self.metas[meta].outcome {
                        Outcome::Done if self.metas[meta].ended < moment => true,
                        _ if guesses.contains(&(meta, true)) => true,
                        _ => return None,
                    },
                    None => {
                        let done = op.succeeded && op.ended < moment;
                        op.required_from < moment || circumstances.all_completed && done
                    }
                };
                Some(candidate(op, moment, required))
            })
            .collect()
    }

    /// The operations that may be part of a snapshot: those that ended before it was asked for
    /// must be, those that ran at its time may be.
    fn taken_candidates(
        &self,
        origin: InstanceId,
        meta: usize,
        moment: Moment,
    ) -> Vec<Candidate<'_>> {
        let taken = &self.metas[meta];
        let until = taken.ended.min(moment);
        let ops = self.instances[origin.0].ops.iter();
        ops.filter(|op| op.submitted < until)
            .filter(|op| op.meta.is_none_or(|meta| self.metas[meta].outcome == Outcome::Done))
            .map(|op| candidate(op, moment, op.succeeded && op.ended < taken.submitted))
            .collect()
    }

    /// After lies of the device: a block may hold whatever its name's volumes held there at any
    /// time, and nothing else.
    fn check_after_lies(&self, moment: Moment, found: &Observed) -> Result<(), Failure> {
        for (&name, found) in found {
            for (block, content) in found.contents.iter().enumerate() {
                let Ok(content) = *content else { continue };
                let known = content == Content::Zero
                    || self.instances.iter().any(|instance| {
                        instance.initial.get(block) == Some(&content)
                            || instance.ops.iter().any(|op| {
                                op.submitted < moment && writes(op, block as u64, content)
                            })
                    });
                if !known {
                    let text =
                        format!("{name} block {block} holds {content:?}, never written there");
                    return Err(Failure::new(Rule::Content, text));
                }
            }
        }
        Ok(())
    }

    /// Whether a read that ran from a moment until now may have found this in a block.
    #[must_use]
    pub fn may_read(
        &self,
        instance: InstanceId,
        block: u64,
        content: Content,
        since: Moment,
    ) -> bool {
        let own = &self.instances[instance.0];
        let at = usize::try_from(block).unwrap_or(usize::MAX);
        if let Some((_, fixed)) = &own.fixed {
            return fixed.get(at) == Some(&content);
        }
        // What ended before a snapshot began is in it; what ended meanwhile may be.
        let (source, until, since) = match own.taken {
            None => (own, NEVER, since),
            Some(taken) => {
                let made = &self.metas[taken.meta];
                (&self.instances[taken.origin.0], made.ended, since.min(made.submitted))
            }
        };
        let covers = |op: &&DataOp| {
            op.submitted < until
                && op.ranges.iter().any(|&(first, n)| (first..first + n).contains(&block))
        };
        let ops: Vec<&DataOp> = source.ops.iter().filter(covers).collect();
        // What succeeded after another had ended, and before the read began, hides it.
        let hidden = |ended: Moment| {
            ops.iter().any(|op| op.submitted > ended && op.succeeded && op.ended < since)
        };
        let initial = source.initial.get(at).copied().unwrap_or(Content::Zero);
        let untouched = !ops.iter().any(|op| op.succeeded && op.ended < since);
        (untouched && initial == content)
            || ops.iter().any(|op| writes(op, block, content) && !hidden(op.ended))
    }
}

fn candidate(op: &DataOp, moment: Moment, required: bool) -> Candidate<'_> {
    let ended = if op.ended < moment { op.ended } else { NEVER };
    let (effect, ranges, submitted) = (op.effect, &op.ranges[..], op.submitted);
    Candidate { id: op.id, effect, ranges, submitted, ended, required }
}

/// Whether an operation leaves this in a block.
fn writes(op: &DataOp, block: u64, content: Content) -> bool {
    let mut before = 0;
    for &(first, count) in &op.ranges {
        if (first..first + count).contains(&block) {
            let hit = match (op.effect, content) {
                (Effect::Zero, Content::Zero) => true,
                (Effect::Write, Content::Tag(tag)) => {
                    tag.op == op.id && tag.index == before + block - first
                }
                _ => false,
            };
            if hit {
                return true;
            }
        }
        before += count;
    }
    false
}

fn same(found: &[Option<Content>], fixed: &[Content]) -> Result<(), Failure> {
    for (block, (found, fixed)) in found.iter().zip(fixed).enumerate() {
        if let Some(found) = found
            && found != fixed
        {
            let text = format!("block {block} holds {found:?}, and held {fixed:?}");
            return Err(Failure::new(Rule::Snapshot, text));
        }
    }
    Ok(())
}

/// Explains what was found, or says which rule stands against it.
fn judge(
    found: &[Option<Content>],
    initial: &[Content],
    candidates: &[Candidate<'_>],
) -> Result<(), Failure> {
    let reason = match explain(found, initial, candidates) {
        Ok(()) => return Ok(()),
        Err(reason) => reason,
    };
    let rule = match reason {
        Unexplained::Content { .. } => Rule::Content,
        Unexplained::Undecided => Rule::Simulator,
        Unexplained::Impossible => broken_rule(found, initial, candidates),
    };
    let text = format!("{reason:?}; found {found:?}, from {initial:?}, by {candidates:#?}");
    Err(Failure::new(rule, text))
}

fn broken_rule(
    found: &[Option<Content>],
    initial: &[Content],
    candidates: &[Candidate<'_>],
) -> Rule {
    let optional: Vec<Candidate<'_>> =
        candidates.iter().map(|one| Candidate { required: false, ..one.clone() }).collect();
    if explain(found, initial, &optional).is_ok() {
        return Rule::Durability;
    }
    let unordered: Vec<Candidate<'_>> = candidates
        .iter()
        .map(|one| Candidate { submitted: 0, ended: NEVER, ..one.clone() })
        .collect();
    if explain(found, initial, &unordered).is_ok() { Rule::Order } else { Rule::Atomicity }
}

#[cfg(test)]
mod tests {
    use super::super::Tag;
    use super::super::history::{Change, Instance, Meta, Outcome, Taken};
    use super::*;

    #[test]
    fn a_snapshot_may_lack_what_ended_while_it_was_made() {
        for (ended, may_lack) in [(2, false), (5, true)] {
            let mut history = History::new();
            let volume = InstanceId(history.instances.len());
            history.instances.push(Instance::default());
            let (op, id) = history.begin(volume, Effect::Write, vec![(0, 1)], false, 1);
            let snapshot = InstanceId(history.instances.len());
            let taken = Some(Taken { origin: volume, meta: history.metas.len() });
            history.instances.push(Instance { taken, ..Instance::default() });
            let (change, outcome) = (Change::Nothing, Outcome::Done);
            history.metas.push(Meta { change, submitted: 3, ended: 4, outcome });
            history.finish(volume, op, true, ended);
            let written = Content::Tag(Tag { op: id, index: 0 });
            assert!(history.may_read(snapshot, 0, written, 6));
            assert_eq!(history.may_read(snapshot, 0, Content::Zero, 6), may_lack);
            assert!(!history.may_read(volume, 0, Content::Zero, 6));
        }
    }
}
