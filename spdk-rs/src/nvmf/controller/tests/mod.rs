//! Controllers as hosts see them.

pub(in crate::nvmf) mod bench;
mod cache;
mod connect;
mod events;
mod life;
mod reservation;
