//! Command identifiers: where a command is kept, and whether a completion is meant for it.
//!
//! A CID has an index in its low bits and a generation in the rest. The generation counts at every
//! use of the place, so a completion that comes twice, late or made up names a command that is
//! not there (but for one in as many tries as there are generations).

/// Commands of one queue by their CID. Allocates when it is made and never again.
pub(crate) struct CommandTable<T> {
    places: Box<[Place<T>]>,
    /// Indices of free places; the last one is the warmest.
    free: Vec<u16>,
    /// The bits of the index.
    mask: u16,
    /// What is added to an identifier for the next generation; wraps.
    step: u16,
}

struct Place<T> {
    /// The identifier in its present generation.
    cid: u16,
    command: Option<T>,
}

impl<T> CommandTable<T> {
    /// A table for `capacity` commands at a time, 1 to 65,535.
    pub(crate) fn new(capacity: u16) -> Self {
        let capacity = capacity.max(1);
        let index_bits = u16::BITS - (capacity - 1).leading_zeros();
        let places = (0..capacity).map(|cid| Place { cid, command: None }).collect();
        // With 16 bits of index there is one generation.
        let step = u16::try_from(1_u32 << index_bits).unwrap_or(0);
        let mask = step.wrapping_sub(1);
        Self { places, free: (0..capacity).rev().collect(), mask, step }
    }

    /// Commands that can be put in now.
    #[inline(always)]
    pub(crate) fn room(&self) -> usize {
        self.free.len()
    }

    /// Commands in the table.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Puts a command in; gives it back when there is no room.
    #[inline(always)]
    pub(crate) fn insert(&mut self, command: T) -> Result<u16, T> {
        let Some(index) = self.free.pop() else { return Err(command) };
        let place = &mut self.places[usize::from(index)];
        place.command = Some(command);
        Ok(place.cid)
    }

    /// The index of a CID, and whether there is a command with it.
    #[inline(always)]
    fn find(&self, cid: u16) -> Option<usize> {
        let index = usize::from(cid & self.mask);
        let place = self.places.get(index)?;
        (place.cid == cid && place.command.is_some()).then_some(index)
    }

    /// The command with a CID, if there is one.
    #[inline(always)]
    pub(crate) fn get(&self, cid: u16) -> Option<&T> {
        self.places[self.find(cid)?].command.as_ref()
    }

    /// The command with a CID, if there is one.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, cid: u16) -> Option<&mut T> {
        let index = self.find(cid)?;
        self.places[index].command.as_mut()
    }

    /// Takes the command with a CID out, if there is one.
    #[inline(always)]
    pub(crate) fn remove(&mut self, cid: u16) -> Option<T> {
        let place = self.places.get_mut(usize::from(cid & self.mask))?;
        if place.cid != cid {
            return None;
        }
        let command = place.command.take()?;
        place.cid = cid.wrapping_add(self.step);
        self.free.push(cid & self.mask);
        Some(command)
    }

    /// Takes any command out, for emptying the table.
    pub(crate) fn pop(&mut self) -> Option<(u16, T)> {
        let place = self.places.iter().find(|place| place.command.is_some())?;
        let cid = place.cid;
        self.remove(cid).map(|command| (cid, command))
    }

    /// The commands with their CIDs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &T)> {
        let places = self.places.iter();
        places.filter_map(|place| place.command.as_ref().map(|command| (place.cid, command)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_and_forged_identifiers_name_nothing() {
        let mut table = CommandTable::new(3);
        let first = table.insert('a').unwrap();
        let second = table.insert('b').unwrap();
        assert_eq!((table.len(), table.room()), (2, 1));
        assert_eq!(table.remove(first), Some('a'));
        assert_eq!(table.remove(first), None, "twice");
        let again = table.insert('c').unwrap();
        assert_ne!(again, first, "the place is the same, the generation is not");
        assert_eq!(table.get_mut(first), None, "late");
        for cid in 0..=u16::MAX {
            let there = table.get_mut(cid).is_some();
            assert_eq!(there, cid == again || cid == second, "{cid:#x}");
        }
        table.insert('d').unwrap();
        assert_eq!(table.insert('e'), Err('e'));
        assert_eq!(table.iter().count(), 3);
        assert_eq!(std::iter::from_fn(|| table.pop()).count(), 3);
        assert_eq!(table.room(), 3);
    }

    #[test]
    fn every_capacity_has_distinct_identifiers() {
        for capacity in [1, 2, 31, 128, 4096, 65_535] {
            let mut table = CommandTable::new(capacity);
            let mut seen = std::collections::HashSet::new();
            for _ in 0..3 {
                let cids: Vec<_> = (0..capacity).map(|i| table.insert(i).unwrap()).collect();
                let distinct: std::collections::HashSet<_> = cids.iter().collect();
                assert_eq!(distinct.len(), usize::from(capacity));
                for (&cid, i) in cids.iter().zip(0..=u16::MAX) {
                    seen.insert(cid);
                    assert_eq!(table.remove(cid), Some(i));
                }
            }
            assert!(capacity > 4096 || seen.len() >= 3 * usize::from(capacity));
        }
    }
}
