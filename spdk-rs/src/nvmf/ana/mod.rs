//! Asymmetric namespace access: how well each path reaches each group of namespaces.
//!
//! A subsystem keeps a state per listener and ANA group. The data path refuses commands of a
//! queue whose listener has the group inaccessible; the ANA log page and its event tell hosts.

use super::core_view::AnaState;

/// Every state, with its name in SPDK's RPCs.
pub const ANA_STATES: [(AnaState, &str); 5] = [
    (AnaState::Optimized, "optimized"),
    (AnaState::NonOptimized, "non_optimized"),
    (AnaState::Inaccessible, "inaccessible"),
    (AnaState::PersistentLoss, "persistent_loss"),
    (AnaState::Change, "change"),
];

/// The name of a state in SPDK's RPCs.
#[must_use]
pub fn ana_state_name(state: AnaState) -> &'static str {
    ANA_STATES.iter().find(|(one, _)| *one == state).map_or("optimized", |&(_, name)| name)
}

/// The states of one listener for groups 1 to the subsystem's largest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnaStates(Vec<AnaState>);

impl AnaStates {
    /// All optimized, for `groups` groups.
    #[must_use]
    pub fn new(groups: u32) -> Self {
        Self(vec![AnaState::Optimized; groups as usize])
    }

    /// The state of a group; one that does not exist is optimized.
    #[must_use]
    pub fn of(&self, group: u32) -> AnaState {
        self.0.get(group.wrapping_sub(1) as usize).copied().unwrap_or_default()
    }

    /// Sets the state of one group, or of all. Returns whether something changed.
    pub fn set(&mut self, group: Option<u32>, state: AnaState) -> bool {
        let before = self.clone();
        match group {
            Some(group) => {
                if let Some(place) = self.0.get_mut(group.wrapping_sub(1) as usize) {
                    *place = state;
                }
            }
            None => self.0.fill(state),
        }
        *self != before
    }

    /// The groups from 1 with their states.
    pub fn iter(&self) -> impl Iterator<Item = (u32, AnaState)> + '_ {
        (1..).zip(self.0.iter().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_have_their_own_state_until_all_are_set() {
        let mut states = AnaStates::new(3);
        assert!(states.set(Some(2), AnaState::Inaccessible));
        assert!(!states.set(Some(2), AnaState::Inaccessible));
        assert!(!states.set(Some(4), AnaState::Inaccessible));
        assert!(!states.set(Some(0), AnaState::Inaccessible));
        assert_eq!((states.of(1), states.of(2)), (AnaState::Optimized, AnaState::Inaccessible));
        assert!(states.set(None, AnaState::NonOptimized));
        assert!(states.iter().all(|(_, state)| state == AnaState::NonOptimized));
        assert_eq!(states.iter().map(|(group, _)| group).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn names() {
        assert_eq!(ana_state_name(AnaState::PersistentLoss), "persistent_loss");
    }
}
