//! Random numbers without a state: each is made from a seed, the number of the hit and what it is
//! for. So a seed gives the same faults again, on however many cores.

/// The number for a purpose of a hit (the finaliser of splitmix64, twice).
pub(super) fn draw(seed: u64, hit: u64, purpose: Purpose) -> u64 {
    let hit = scramble(hit.wrapping_add(0x9e37_79b9_7f4a_7c15));
    scramble(seed ^ hit ^ (purpose as u64).wrapping_mul(0xd6e8_feb8_6659_fd93))
}

/// What a number is for. Numbers for different purposes have nothing to do with each other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Whether a fault fires.
    Fire = 1,
    /// Bytes of data, from this number on.
    Data,
    /// A place in the data or on the device.
    Place,
    /// A time.
    Time,
    /// An order.
    Order,
}

/// Fills bytes with random ones.
pub(super) fn fill(seed: u64, hit: u64, bytes: &mut [u8]) {
    let first = draw(seed, hit, Purpose::Data);
    for (index, piece) in (0_u64..).zip(bytes.chunks_mut(8)) {
        let word = scramble(first.wrapping_add(index.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        piece.copy_from_slice(&word.to_le_bytes()[..piece.len()]);
    }
}

fn scramble(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_repeat_and_differ() {
        assert_eq!(draw(1, 2, Purpose::Fire), draw(1, 2, Purpose::Fire));
        assert_ne!(draw(1, 2, Purpose::Fire), draw(1, 3, Purpose::Fire));
        assert_ne!(draw(1, 2, Purpose::Fire), draw(2, 2, Purpose::Fire));
        assert_ne!(draw(1, 2, Purpose::Fire), draw(1, 2, Purpose::Place));
        let (mut one, mut other) = ([0; 37], [0; 37]);
        fill(7, 0, &mut one);
        fill(7, 0, &mut other);
        assert_eq!(one, other);
        fill(7, 1, &mut other);
        assert_ne!(one, other);
    }
}
