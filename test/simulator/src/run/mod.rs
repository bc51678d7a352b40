//! A plan on a store, and a recovery after a cut.
//!
//! * [`reactor`]: one reactor on virtual time per run, with a limit to what it may take.
//! * [`ballast`]: a volume that leaves little room.
//! * [`executor`]: the operations of a segment, each checked when it ends.
//! * [`observe`]: what a store holds.
//! * [`recovery`]: opens what a cut left, and checks it.
//! * [`scenario`]: segments with cuts between them.
//! * [`damage`]: what becomes of a medium that is damaged in one place.
//!
//! Invariants:
//! * everything that is left to chance is drawn from the scenario's seed;
//! * a run ends: what waits for ever is a failure with a name.

pub mod ballast;
pub mod damage;
pub mod executor;
pub mod observe;
pub mod reactor;
pub mod recovery;
pub mod scenario;
