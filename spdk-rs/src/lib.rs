//! The polled-mode runtime and its drivers.
