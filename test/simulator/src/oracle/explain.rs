//! Whether what was found can be explained: by some of the operations, each whole or not at all,
//! in an order in which what ended before another began comes first.
//!
//! The question is answered from the end. An operation can have been the last one if nothing that
//! remains began after it ended, and every block of it that is still open holds what it writes.
//! Such an operation can always be put last: blocks that it closes ask nothing of the others any
//! more. So no other order needs to be tried, but where an optional operation, whose trace may be
//! nowhere (zeroes), stands in the way: it is then either absent or earlier, and both are tried.

use super::content::{Content, Tag};

/// A moment in the order of events that clients saw. Later is larger.
pub type Moment = u32;

/// What an operation puts into its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Blocks that name the operation.
    Write,
    /// Zeroes.
    Zero,
}

/// An operation that may have happened.
#[derive(Clone, Debug)]
pub struct Candidate<'a> {
    /// Its number.
    pub id: u64,
    /// What it writes.
    pub effect: Effect,
    /// Where: first block and number of blocks, in order of its data.
    pub ranges: &'a [(u64, u64)],
    /// When it was submitted.
    pub submitted: Moment,
    /// When it ended; `Moment::MAX` when it has not.
    pub ended: Moment,
    /// Whether it must have happened.
    pub required: bool,
}

impl Candidate<'_> {
    /// The blocks it covers, with what it puts there.
    fn blocks(&self) -> impl Iterator<Item = (u64, Content)> {
        let mut index = 0;
        self.ranges.iter().flat_map(|&(first, count)| first..first + count).map(move |block| {
            let content = match self.effect {
                Effect::Write => Content::Tag(Tag { op: self.id, index }),
                Effect::Zero => Content::Zero,
            };
            index += 1;
            (block, content)
        })
    }
}

/// Why what was found cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unexplained {
    /// A block holds what no operation can have left there.
    Content {
        /// The block.
        block: u64,
        /// What it holds.
        found: Content,
    },
    /// No order of whole operations leads there.
    Impossible,
    /// Too many possibilities; the plan has more optional zeroes at a time than it should.
    Undecided,
}

/// Steps that the search may take before it gives up: far more than any real case needs.
const STEPS_MAX: usize = 100_000;

struct Search<'a> {
    candidates: Vec<(Candidate<'a>, Vec<(usize, Content)>)>,
    found: &'a [Option<Content>],
    initial: &'a [Content],
    steps: usize,
}

#[derive(Clone)]
struct State {
    /// Candidates that are neither placed nor dropped.
    remaining: Vec<usize>,
    /// Blocks whose last writer is not decided.
    open: Vec<bool>,
}

/// Whether `found` can be the state after some of the candidates, from `initial` on. Blocks that
/// are none in `found` may hold anything; blocks beyond `initial` were zeroes.
///
/// # Errors
/// Why it cannot.
pub fn explain(
    found: &[Option<Content>],
    initial: &[Content],
    candidates: &[Candidate<'_>],
) -> Result<(), Unexplained> {
    let mut seen: Vec<u64> = Vec::new();
    for (block, content) in found.iter().enumerate() {
        let Some(content) = *content else { continue };
        if content == initial.get(block).copied().unwrap_or(Content::Zero) {
            continue;
        }
        let known = match content {
            Content::Zero => true,
            Content::Foreign => false,
            Content::Tag(tag) => {
                seen.push(tag.op);
                candidates.iter().any(|candidate| candidate.id == tag.op)
            }
        };
        if !known {
            return Err(Unexplained::Content { block: block as u64, found: content });
        }
    }
    seen.sort_unstable();
    // An optional write without a trace is absent; that asks the least of the others.
    let present = |candidate: &&Candidate<'_>| {
        candidate.required
            || candidate.effect == Effect::Zero
            || seen.binary_search(&candidate.id).is_ok()
    };
    let candidates = candidates
        .iter()
        .filter(present)
        .map(|candidate| {
            let inside = |(block, content)| {
                usize::try_from(block).ok().filter(|&at| at < found.len()).map(|at| (at, content))
            };
            (candidate.clone(), candidate.blocks().filter_map(inside).collect())
        })
        .collect::<Vec<_>>();
    let state = State {
        remaining: (0..candidates.len()).collect(),
        open: found.iter().map(Option::is_some).collect(),
    };
    let mut search = Search { candidates, found, initial, steps: 0 };
    match search.solve(state) {
        true => Ok(()),
        false if search.steps > STEPS_MAX => Err(Unexplained::Undecided),
        false => Err(Unexplained::Impossible),
    }
}

impl Search<'_> {
    fn must_be_there(&self, index: usize) -> bool {
        let candidate = &self.candidates[index].0;
        candidate.required || candidate.effect == Effect::Write
    }

    /// Whether the open blocks of a candidate hold what it writes.
    fn fits(&self, state: &State, index: usize) -> bool {
        self.candidates[index]
            .1
            .iter()
            .all(|&(block, content)| !state.open[block] || self.found[block] == Some(content))
    }

    fn place(&self, state: &mut State, index: usize) {
        for &(block, _) in &self.candidates[index].1 {
            state.open[block] = false;
        }
        state.remaining.retain(|&other| other != index);
    }

    /// The latest submission among the remaining, and among those that must be there.
    fn latest(&self, state: &State) -> (Moment, Moment) {
        let (mut any, mut sure) = (0, 0);
        for &index in &state.remaining {
            let submitted = self.candidates[index].0.submitted;
            any = any.max(submitted);
            if self.must_be_there(index) {
                sure = sure.max(submitted);
            }
        }
        (any, sure)
    }

    fn solve(&mut self, mut state: State) -> bool {
        loop {
            self.steps += 1;
            if self.steps > STEPS_MAX {
                return false;
            }
            let (latest, latest_sure) = self.latest(&state);
            let last = state.remaining.iter().rev().copied().find(|&index| {
                self.candidates[index].0.ended >= latest && self.fits(&state, index)
            });
            if let Some(last) = last {
                self.place(&mut state, last);
                continue;
            }
            let all_placed = !state.remaining.iter().any(|&index| self.must_be_there(index));
            if all_placed && self.is_initial(&state) {
                return true;
            }
            // Only optional operations can stand behind the last one: they are absent then.
            let choices: Vec<usize> = state
                .remaining
                .iter()
                .copied()
                .filter(|&index| {
                    self.candidates[index].0.ended >= latest_sure && self.fits(&state, index)
                })
                .collect();
            return choices.into_iter().any(|index| {
                let mut tried = state.clone();
                let ended = self.candidates[index].0.ended;
                tried.remaining.retain(|&other| self.candidates[other].0.submitted <= ended);
                self.place(&mut tried, index);
                self.solve(tried)
            });
        }
    }

    fn is_initial(&self, state: &State) -> bool {
        state.open.iter().enumerate().filter(|&(_, &open)| open).all(|(block, _)| {
            self.found[block] == Some(self.initial.get(block).copied().unwrap_or(Content::Zero))
        })
    }
}

#[cfg(test)]
mod tests;
