//! What a subsystem remembers, under its lock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Namespace, Nqn};
use crate::nvmf::ana::AnaStates;
use crate::nvmf::controller::Controller;
use crate::nvmf::target::Listener;

/// A listener through which a subsystem is reached.
#[derive(Clone, Debug)]
pub struct SubsystemListener {
    /// Where it listens.
    pub listener: Arc<Listener>,
    /// How well each ANA group is reached through it.
    pub ana: AnaStates,
}

/// The changing part of a subsystem.
#[derive(Debug)]
pub(super) struct State {
    pub(super) allow_any_host: bool,
    pub(super) hosts: BTreeSet<Nqn>,
    pub(super) listeners: Vec<SubsystemListener>,
    pub(super) namespaces: BTreeMap<u32, Arc<Namespace>>,
    pub(super) controllers: BTreeMap<u16, Arc<Controller>>,
    /// Where the search for a free controller identifier goes on.
    pub(super) next_cntlid: u16,
    /// No connect is accepted any more.
    pub(super) deleting: bool,
    /// Counts changes of the ANA log page.
    pub(super) ana_changes: u64,
}
