//! What a run does: operations by a seed.
//!
//! * [`generate`]: a scenario of a seed.
//! * [`shrink`]: a failing scenario made small.

use std::fmt;

use crate::device::driver::DeviceOptions;
use crate::device::faults::FaultPlan;

pub mod generate;
pub mod shrink;

/// A volume's or snapshot's name, as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub u8);

impl Name {
    /// So many names there are.
    pub const COUNT: u8 = 8;

    /// All names that a plan uses.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).map(Self)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

/// Blocks of a volume: the first, and how many.
pub type Range = (u64, u64);

/// One operation. One that makes no sense when its turn comes (a volume that is not there, a
/// range beyond the end) is passed over, so that a plan stays a plan when parts are taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes a volume: its name, its blocks, whether thin.
    Create(Name, u64, bool),
    /// Removes a volume or snapshot.
    Delete(Name),
    /// Takes a snapshot of the first name under the second.
    Snapshot(Name, Name),
    /// Makes a volume of the second name from the snapshot of the first.
    Clone(Name, Name),
    /// Changes the size to so many blocks.
    Resize(Name, u64),
    /// Changes the first name to the second.
    Rename(Name, Name),
    /// Makes a clone independent.
    Decouple(Name),
    /// Writes blocks; with force unit access or not.
    Write(Name, Range, bool),
    /// Writes several ranges at once; with force unit access or not.
    Transaction(Name, Vec<Range>, bool),
    /// Writes zeroes; with force unit access or not.
    Zeroes(Name, Range, bool),
    /// Gives blocks back.
    Unmap(Name, Range),
    /// Flushes a volume.
    Flush(Name),
    /// Reads blocks.
    Read(Name, Range),
    /// Checkpoints the store.
    Checkpoint,
    /// Exports the store and imports it again.
    Reimport,
    /// Waits for all that is running.
    Wait,
    /// Lets microseconds pass.
    Pause(u64),
}

/// The device and the store of a scenario.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The device, but for its seed.
    pub device: DeviceOptions,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Blocks of the journal.
    pub journal_blocks: u64,
    /// Operations that run at a time.
    pub depth: usize,
    /// So many blocks are left for the operations, beside what the store keeps for itself; none when
    /// there is space for everything.
    pub tight: Option<u64>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            device: DeviceOptions::default(),
            size_bytes: 8 << 20,
            journal_blocks: 32,
            depth: 4,
            tight: None,
        }
    }
}

/// Everything that decides a run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The seed of all that is left to chance.
    pub seed: u64,
    /// The device and the store.
    pub shape: Shape,
    /// The device's faults, while operations run.
    pub faults: FaultPlan,
    /// Operations; between two segments the power is cut.
    pub segments: Vec<Vec<Op>>,
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}, {:?}", self.seed, self.shape, self.faults)?;
        for (number, segment) in self.segments.iter().enumerate() {
            writeln!(f, "segment {number}:")?;
            for op in segment {
                writeln!(f, "    {op:?}")?;
            }
        }
        Ok(())
    }
}
