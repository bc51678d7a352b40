//! Controllers as hosts see them.

pub(in crate::nvmf) mod bench;
mod connect;
mod events;
mod life;
