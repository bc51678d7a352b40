//! Limits of I/O commands that a controller tells its hosts (Identify) and that are kept here.

/// Source ranges of a copy at the most (MSRC, told less one).
pub const COPY_RANGES_MAX: u32 = 128;

/// Blocks of one source range of a copy at the most (MSSRL).
pub const COPY_RANGE_BLOCKS_MAX: u16 = u16::MAX;

/// Blocks of a copy at the most, all ranges together (MCL).
pub const COPY_BLOCKS_MAX: u32 = 1 << 20;

/// Ranges of a dataset management command at the most: as many as its field can say.
pub const DSM_RANGES_MAX: u32 = 256;
