//! Errors and lies of a device: how often, and how many of each in a run.

use spdk_rs::NvmeStatus;

use crate::rng::Rng;

/// A way to misbehave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A read fails.
    ReadError,
    /// A write fails; all, some or none of it took effect.
    WriteError,
    /// A flush fails; what it was to bring to the medium may be forgotten.
    FlushError,
    /// A write succeeds and does nothing.
    LostWrite,
    /// A write succeeds and goes elsewhere.
    MisdirectedWrite,
    /// A read returns what was there some time ago.
    StaleRead,
    /// A bit on the medium changes by itself.
    BitRot,
    /// An I/O takes a hundred times as long.
    LatencySpike,
    /// The device is gone from now on.
    Removal,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::ReadError,
        Self::WriteError,
        Self::FlushError,
        Self::LostWrite,
        Self::MisdirectedWrite,
        Self::StaleRead,
        Self::BitRot,
        Self::LatencySpike,
        Self::Removal,
    ];

    /// Whether the device says that something is wrong. What it does not say can undo a flush,
    /// and no store can help that; it can only notice.
    #[must_use]
    pub fn is_honest(self) -> bool {
        !matches!(self, Self::LostWrite | Self::MisdirectedWrite | Self::StaleRead | Self::BitRot)
    }
}

/// Which faults a run has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Per kind: so many times in a thousand I/Os that it fits, and at the most so often.
    kinds: [(u16, u32); FaultKind::ALL.len()],
}

impl FaultPlan {
    /// The plan with one kind more: `per_mille` of the I/Os that it fits, at most `budget` times.
    #[must_use]
    pub fn with(mut self, kind: FaultKind, per_mille: u16, budget: u32) -> Self {
        self.kinds[kind as usize] = (per_mille, budget);
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Decides on faults, and counts them.
#[derive(Clone, Debug)]
pub struct Faults {
    plan: FaultPlan,
    rng: Rng,
    armed: bool,
    injected: [u32; FaultKind::ALL.len()],
}

impl Faults {
    /// Faults by a plan and a seed. None happens before [`Faults::arm`].
    #[must_use]
    pub fn new(plan: FaultPlan, seed: u64) -> Self {
        let rng = Rng::stream(seed, 0xfa17);
        Self { plan, rng, armed: false, injected: [0; FaultKind::ALL.len()] }
    }

    /// Lets faults happen from now on, or no more.
    pub fn arm(&mut self, on: bool) {
        self.armed = on;
    }

    /// Whether a fault of this kind happens now.
    pub fn strikes(&mut self, kind: FaultKind) -> bool {
        let (per_mille, budget) = self.plan.kinds[kind as usize];
        let count = &mut self.injected[kind as usize];
        let strikes = self.armed && *count < budget && self.rng.per_mille(per_mille.into());
        *count += u32::from(strikes);
        strikes
    }

    /// How often a kind has happened.
    #[must_use]
    pub fn injected(&self, kind: FaultKind) -> u32 {
        self.injected[kind as usize]
    }

    /// What a fault leaves to chance.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The status of a failing I/O: the one for its kind, or an internal error.
    pub fn status(&mut self, usual: NvmeStatus) -> NvmeStatus {
        if self.rng.one_in(4) { NvmeStatus::INTERNAL_ERROR } else { usual }
    }
}
