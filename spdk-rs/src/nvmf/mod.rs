//! The NVMe-oF target: devices of the block device layer, exported to other hosts.
