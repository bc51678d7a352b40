//! The daemon and its sub-commands.

fn main() {}
