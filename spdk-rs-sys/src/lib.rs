//! The ground: everything unsafe that touches the kernel or the hardware.
