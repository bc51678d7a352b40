//! The host's queue pairs over PCIe (NVMe over PCIe Transport Specification 1.0).
//!
//! A controller belongs to one association at a time. Its admin queue is on one reactor, its home;
//! every reactor that uses it has an I/O queue of its own, made and deleted by commands of the
//! admin queue. Nothing of a command takes a system call or a lock: entries are written to memory
//! and announced by one write to a doorbell per turn, completions are found by their phase tag.
//!
//! Invariants:
//! * a command ends when the controller can touch its memory no more: by its completion, by the
//!   end of the deletion of its queue, or when the controller is proven to be still (disabled and
//!   not ready, or no bus master any more). Until then its memory, and that of the rings, stays;
//! * what a controller writes is checked (command, queue, head) before it is believed; the first
//!   thing that is wrong ends the queue, and the controller is reset;
//! * data outside the memory that the controller may reach, or that no PRP or SGL can describe, are
//!   copied; they never make an address that was not mapped;
//! * sending and completing a command allocates nothing: memory for copies is there from the
//!   beginning, and a command that finds too little of it waits.
//!
//! The registers are a window of memory ([`spdk_rs_sys::mmio::Mmio`]) and all else that the code
//! needs of a PCI function is behind the trait `Function`, so a controller that is a program runs
//! the same code: the tests have one.
//!
//! I/O queues have no interrupts: while I/O is in flight its reactor polls, and it sleeps when none
//! is. The admin queue has one, so that events do not wait.

#[cfg(debug_assertions)]
mod audit;
mod cmb;
mod connect;
mod controller;
mod core;
mod data;
mod function;
#[cfg(test)]
pub(crate) mod model;
mod pair;
mod quiesce;
mod rings;
mod shadow;
mod staging;
mod stall;

pub(crate) use connect::{connect_admin, connect_io};
pub(crate) use controller::PcieController;
pub(crate) use data::TRANSFER_MAX;
