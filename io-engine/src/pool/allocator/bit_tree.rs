//! A set of numbers that finds its smallest member in a few steps.

/// Bits per word, as a shift.
const WORD_SHIFT: u32 = 6;

/// A set of numbers below a fixed bound. Level 0 has a bit per number; each further level has a
/// bit per word below it, set when the word is not 0. About one bit and a 64th per number.
#[derive(Clone, Debug)]
pub(super) struct BitTree {
    levels: Vec<Vec<u64>>,
}

impl BitTree {
    /// The empty set of numbers below `bound`.
    pub(super) fn new(bound: usize) -> Self {
        let mut levels = Vec::new();
        let mut bits = bound.max(1);
        loop {
            let words = bits.div_ceil(1 << WORD_SHIFT);
            levels.push(vec![0; words]);
            if words == 1 {
                return Self { levels };
            }
            bits = words;
        }
    }

    /// The set of all numbers below `bound`.
    pub(super) fn full(bound: usize) -> Self {
        let mut tree = Self::new(bound);
        let mut bits = bound;
        for level in &mut tree.levels {
            let last = bits % (1 << WORD_SHIFT);
            let whole = bits >> WORD_SHIFT;
            level[..whole].fill(u64::MAX);
            if last != 0 {
                level[whole] = (1 << last) - 1;
            }
            bits = bits.div_ceil(1 << WORD_SHIFT);
        }
        tree
    }

    /// Puts a number in.
    pub(super) fn insert(&mut self, number: usize) {
        let mut at = number;
        for level in &mut self.levels {
            let word = &mut level[at >> WORD_SHIFT];
            let was = *word;
            *word |= bit(at);
            if was != 0 {
                return;
            }
            at >>= WORD_SHIFT;
        }
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, number: usize) {
        let mut at = number;
        for level in &mut self.levels {
            let word = &mut level[at >> WORD_SHIFT];
            *word &= !bit(at);
            if *word != 0 {
                return;
            }
            at >>= WORD_SHIFT;
        }
    }

    /// The smallest number.
    pub(super) fn first(&self) -> Option<usize> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level[at];
            if word == 0 {
                return None;
            }
            at = (at << WORD_SHIFT) | word.trailing_zeros() as usize;
        }
        Some(at)
    }
}

fn bit(at: usize) -> u64 {
    1 << (at & ((1 << WORD_SHIFT) - 1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_set_empties_in_order() {
        for bound in [0, 1, 63, 64, 65, 4096, 4097, 270_000] {
            let mut tree = BitTree::full(bound);
            for number in 0..bound {
                assert_eq!(tree.first(), Some(number));
                tree.remove(number);
            }
            assert_eq!(tree.first(), None);
        }
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in proptest::collection::vec((any::<bool>(), 0_usize..5000), 1..300)) {
            let (mut tree, mut model) = (BitTree::new(5000), BTreeSet::new());
            for (insert, number) in steps {
                if insert {
                    tree.insert(number);
                    model.insert(number);
                } else {
                    tree.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(tree.first(), model.first().copied());
            }
        }
    }
}
