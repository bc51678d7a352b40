//! Sixteen messages at once: lane *n* of every vector belongs to message *n*.
//!
//! A 64-byte chunk is exactly one vector, so sixteen chunks are loaded as rows and transposed into
//! the sixteen message words; the rotations and the three-input functions are one instruction each.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_loadu_si512, _mm512_ror_epi32, _mm512_set_epi64,
    _mm512_set1_epi32, _mm512_shuffle_epi8, _mm512_shuffle_i32x4, _mm512_srli_epi32,
    _mm512_storeu_si512, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::constants::{INITIAL, ROUND_CONSTANTS};
use super::{Chunk, rows_to_digests};

/// Messages that are digested at once.
pub(super) const LANES: usize = 16;

/// Truth table of `x ^ y ^ z`.
const XOR3: i32 = 0x96;
/// Truth table of `if x { y } else { z }`, the function Ch of FIPS 180-4.
const CHOOSE: i32 = 0xca;
/// Truth table of the majority of three bits, the function Maj of FIPS 180-4.
const MAJORITY: i32 = 0xe8;

/// The digests of sixteen messages of equally many chunks, each followed by `padding`.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn sha256(messages: [&[Chunk]; LANES], padding: &Chunk) -> [[u8; 32]; LANES] {
    let mut state = [_mm512_set1_epi32(0); 8];
    for (vector, word) in state.iter_mut().zip(INITIAL) {
        *vector = _mm512_set1_epi32(word.cast_signed());
    }
    for at in 0..messages[0].len() {
        let mut rows = [_mm512_set1_epi32(0); LANES];
        for (row, message) in rows.iter_mut().zip(messages) {
            *row = load(&message[at]);
        }
        compress(&mut state, transposed(rows));
    }
    compress(&mut state, transposed([load(padding); LANES]));
    let mut rows = [[0; LANES]; 8];
    for (row, vector) in rows.iter_mut().zip(state) {
        store(row, vector);
    }
    rows_to_digests(&rows)
}

/// The bytes of a chunk as sixteen big-endian words.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn load(chunk: &Chunk) -> __m512i {
    let swap = _mm512_set_epi64(
        0x0c0d_0e0f_0809_0a0b,
        0x0405_0607_0001_0203,
        0x0c0d_0e0f_0809_0a0b,
        0x0405_0607_0001_0203,
        0x0c0d_0e0f_0809_0a0b,
        0x0405_0607_0001_0203,
        0x0c0d_0e0f_0809_0a0b,
        0x0405_0607_0001_0203,
    );
    // SAFETY: the chunk is 64 readable bytes, and the instruction asks for no alignment.
    let bytes = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
    _mm512_shuffle_epi8(bytes, swap)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(row: &mut [u32; LANES], vector: __m512i) {
    // SAFETY: the row is 64 writable bytes, and the instruction asks for no alignment.
    unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), vector) }
}

/// Word *i* of row *j* becomes word *j* of row *i*.
#[inline]
#[target_feature(enable = "avx512f")]
fn transposed(rows: [__m512i; LANES]) -> [__m512i; LANES] {
    let mut pairs = rows;
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Quarter k of `quads[4 * g + c]` is column 4 * k + c of the rows 4 * g to 4 * g + 3.
    let mut quads = pairs;
    for at in (0..LANES).step_by(4) {
        quads[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
        quads[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
        quads[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        quads[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    const EVEN: i32 = 0b10_00_10_00;
    const ODD: i32 = 0b11_01_11_01;
    let mut columns = quads;
    for at in 0..4 {
        let low_even = _mm512_shuffle_i32x4::<EVEN>(quads[at], quads[at + 4]);
        let low_odd = _mm512_shuffle_i32x4::<ODD>(quads[at], quads[at + 4]);
        let high_even = _mm512_shuffle_i32x4::<EVEN>(quads[at + 8], quads[at + 12]);
        let high_odd = _mm512_shuffle_i32x4::<ODD>(quads[at + 8], quads[at + 12]);
        columns[at] = _mm512_shuffle_i32x4::<EVEN>(low_even, high_even);
        columns[at + 4] = _mm512_shuffle_i32x4::<EVEN>(low_odd, high_odd);
        columns[at + 8] = _mm512_shuffle_i32x4::<ODD>(low_even, high_even);
        columns[at + 12] = _mm512_shuffle_i32x4::<ODD>(low_odd, high_odd);
    }
    columns
}

/// Works one chunk of every message, given as words, into the state (FIPS 180-4, section 6.2.2).
#[inline]
#[target_feature(enable = "avx512f")]
fn compress(state: &mut [__m512i; 8], mut words: [__m512i; 16]) {
    let before = *state;
    let [first, middle @ .., last] = ROUND_CONSTANTS.as_chunks::<16>().0 else { unreachable!() };
    for constants in [first].into_iter().chain(middle) {
        sixteen_rounds::<true>(state, &mut words, constants);
    }
    sixteen_rounds::<false>(state, &mut words, last);
    for (word, old) in state.iter_mut().zip(before) {
        *word = _mm512_add_epi32(*word, old);
    }
}

/// Sixteen rounds. With `MORE` to follow, each word of the message schedule makes place for the one
/// that is needed sixteen rounds later.
#[inline]
#[target_feature(enable = "avx512f")]
fn sixteen_rounds<const MORE: bool>(
    state: &mut [__m512i; 8],
    words: &mut [__m512i; 16],
    constants: &[u32; 16],
) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    // Instead of eight moves after each round, the names rotate: eight rounds bring them home. All
    // is written out, since the words stay in registers only if their indices are constants.
    macro_rules! round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $at:literal) => {
            let constant = _mm512_set1_epi32(constants[$at].cast_signed());
            let input = _mm512_add_epi32(_mm512_add_epi32($h, constant), words[$at]);
            let chosen = _mm512_ternarylogic_epi32::<CHOOSE>($e, $f, $g);
            let first = _mm512_add_epi32(_mm512_add_epi32(input, chosen), big_sigma1($e));
            let second =
                _mm512_add_epi32(big_sigma0($a), _mm512_ternarylogic_epi32::<MAJORITY>($a, $b, $c));
            $d = _mm512_add_epi32($d, first);
            $h = _mm512_add_epi32(first, second);
            if MORE {
                let near = _mm512_add_epi32(words[$at], words[($at + 9) % 16]);
                let sigma0 = small_sigma0(words[($at + 1) % 16]);
                let sigma1 = small_sigma1(words[($at + 14) % 16]);
                words[$at] = _mm512_add_epi32(near, _mm512_add_epi32(sigma0, sigma1));
            }
        };
    }
    round!(a b c d e f g h, 0);
    round!(h a b c d e f g, 1);
    round!(g h a b c d e f, 2);
    round!(f g h a b c d e, 3);
    round!(e f g h a b c d, 4);
    round!(d e f g h a b c, 5);
    round!(c d e f g h a b, 6);
    round!(b c d e f g h a, 7);
    round!(a b c d e f g h, 8);
    round!(h a b c d e f g, 9);
    round!(g h a b c d e f, 10);
    round!(f g h a b c d e, 11);
    round!(e f g h a b c d, 12);
    round!(d e f g h a b c, 13);
    round!(c d e f g h a b, 14);
    round!(b c d e f g h a, 15);
    *state = [a, b, c, d, e, f, g, h];
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma0(x: __m512i) -> __m512i {
    xor3(_mm512_ror_epi32::<2>(x), _mm512_ror_epi32::<13>(x), _mm512_ror_epi32::<22>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn big_sigma1(x: __m512i) -> __m512i {
    xor3(_mm512_ror_epi32::<6>(x), _mm512_ror_epi32::<11>(x), _mm512_ror_epi32::<25>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma0(x: __m512i) -> __m512i {
    xor3(_mm512_ror_epi32::<7>(x), _mm512_ror_epi32::<18>(x), _mm512_srli_epi32::<3>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn small_sigma1(x: __m512i) -> __m512i {
    xor3(_mm512_ror_epi32::<17>(x), _mm512_ror_epi32::<19>(x), _mm512_srli_epi32::<10>(x))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn xor3(x: __m512i, y: __m512i, z: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<XOR3>(x, y, z)
}
