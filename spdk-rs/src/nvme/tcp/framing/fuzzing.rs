//! A way in for the fuzzer: gives a receiver bytes as a stream does, without a stream.
#![allow(unsafe_code, reason = "received bytes are copied to where the receiver asked for them")]

use super::{Destinations, Receiver};
use crate::net::ReadSpace;

/// Gives a receiver the start of `bytes`, as one receive would; returns how many it had room for.
pub fn receive(receiver: &mut Receiver, places: &impl Destinations, bytes: &[u8]) -> usize {
    let mut space = ReadSpace::new();
    receiver.read_space(places, &mut space);
    let mut rest = bytes;
    for piece in space.seal().0 {
        let (here, behind) = rest.split_at(piece.len().min(rest.len()));
        // SAFETY: the receiver named the piece for writing; it is at least as long as `here`, and
        // nobody else uses it until `received`.
        unsafe { std::ptr::copy_nonoverlapping(here.as_ptr(), piece.base(), here.len()) };
        rest = behind;
    }
    let taken = bytes.len() - rest.len();
    space.fill(taken);
    space.clear();
    receiver.received(places, taken);
    taken
}
