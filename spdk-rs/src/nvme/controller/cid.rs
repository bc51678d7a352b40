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
    index_bits: u32,
}

struct Place<T> {
    generation: u16,
    command: Option<T>,
}

impl<T> CommandTable<T> {
    /// A table for `capacity` commands at a time, 1 to 65,535.
    pub(crate) fn new(capacity: u16) -> Self {
        let capacity = capacity.max(1);
        let index_bits = u16::BITS - (capacity - 1).leading_zeros();
        let places = (0..capacity).map(|_| Place { generation: 0, command: None }).collect();
        Self { places, free: (0..capacity).rev().collect(), index_bits }
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
        Ok(self.cid(index))
    }

    /// The CID of a place in its present generation.
    #[inline(always)]
    fn cid(&self, index: u16) -> u16 {
        let generation = u32::from(self.places[usize::from(index)].generation);
        let bits = generation << self.index_bits | u32::from(index);
        u16::try_from(bits & 0xffff).unwrap_or(index)
    }

    /// The index of the command with a CID, if there is one.
    #[inline(always)]
    fn find(&self, cid: u16) -> Option<u16> {
        let mask = (1_u32 << self.index_bits) - 1;
        let index = u16::try_from(u32::from(cid) & mask).ok()?;
        let place = self.places.get(usize::from(index))?;
        (place.command.is_some() && self.cid(index) == cid).then_some(index)
    }

    /// The command with a CID, if there is one.
    #[inline(always)]
    pub(crate) fn get(&self, cid: u16) -> Option<&T> {
        self.places[usize::from(self.find(cid)?)].command.as_ref()
    }

    /// The command with a CID, if there is one.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, cid: u16) -> Option<&mut T> {
        let index = self.find(cid)?;
        self.places[usize::from(index)].command.as_mut()
    }

    /// Takes the command with a CID out, if there is one.
    #[inline(always)]
    pub(crate) fn remove(&mut self, cid: u16) -> Option<T> {
        let index = self.find(cid)?;
        let place = &mut self.places[usize::from(index)];
        place.generation = place.generation.wrapping_add(1);
        self.free.push(index);
        place.command.take()
    }

    /// Takes any command out, for emptying the table.
    pub(crate) fn pop(&mut self) -> Option<(u16, T)> {
        let index = self.places.iter().position(|place| place.command.is_some())?;
        let cid = self.cid(u16::try_from(index).ok()?);
        self.remove(cid).map(|command| (cid, command))
    }

    /// The commands with their CIDs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &T)> {
        self.places.iter().zip(0..=u16::MAX).filter_map(|(place, index)| {
            place.command.as_ref().map(|command| (self.cid(index), command))
        })
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
