//! Admin commands as hosts send them.

mod features;
mod identify;
mod logs;
