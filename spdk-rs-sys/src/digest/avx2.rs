//! Eight messages at once: lane *n* of every vector belongs to message *n*.
//!
//! There is no rotation here, so each one is two shifts whose results are disjoint; the sums of
//! three rotations are built from six shifts. The message words stay in memory, since the sixteen
//! registers hold the state and what a round computes.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_permute2x128_si256,
    _mm256_set_epi64x, _mm256_set1_epi32, _mm256_shuffle_epi8, _mm256_slli_epi32,
    _mm256_srli_epi32, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64, _mm256_xor_si256,
};

use super::constants::{INITIAL, ROUND_CONSTANTS};
use super::{Chunk, rows_to_digests};

/// Messages that are digested at once.
pub(super) const LANES: usize = 8;

/// The digests of eight messages of equally many chunks, each followed by `padding`.
#[target_feature(enable = "avx2")]
pub(super) fn sha256(messages: [&[Chunk]; LANES], padding: &Chunk) -> [[u8; 32]; LANES] {
    let mut state = [_mm256_set1_epi32(0); 8];
    for (vector, word) in state.iter_mut().zip(INITIAL) {
        *vector = _mm256_set1_epi32(word.cast_signed());
    }
    for at in 0..messages[0].len() {
        compress(&mut state, words_of(messages.map(|message| &message[at])));
    }
    compress(&mut state, words_of([padding; LANES]));
    let mut rows = [[0; LANES]; 8];
    for (row, vector) in rows.iter_mut().zip(state) {
        store(row, vector);
    }
    rows_to_digests(&rows)
}

/// The sixteen message words of eight chunks.
#[inline]
#[target_feature(enable = "avx2")]
fn words_of(chunks: [&Chunk; LANES]) -> [__m256i; 16] {
    let mut words = [_mm256_set1_epi32(0); 16];
    for (half, words) in words.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        for (word, chunk) in words.iter_mut().zip(chunks) {
            *word = load(&chunk.as_chunks::<32>().0[half]);
        }
        *words = transposed(*words);
    }
    words
}

/// Half a chunk as eight big-endian words.
#[inline]
#[target_feature(enable = "avx2")]
fn load(half: &[u8; 32]) -> __m256i {
    let swap = _mm256_set_epi64x(
        0x0c0d_0e0f_0809_0a0b,
        0x0405_0607_0001_0203,
        0x0c0d_0e0f_0809_0a0b,
        0x0405_0607_0001_0203,
    );
    // SAFETY: the half is 32 readable bytes, and the instruction asks for no alignment.
    let bytes = unsafe { _mm256_loadu_si256(half.as_ptr().cast()) };
    _mm256_shuffle_epi8(bytes, swap)
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(row: &mut [u32; LANES], vector: __m256i) {
    // SAFETY: the row is 32 writable bytes, and the instruction asks for no alignment.
    unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), vector) }
}

/// Word *i* of row *j* becomes word *j* of row *i*.
#[inline]
#[target_feature(enable = "avx2")]
fn transposed(rows: [__m256i; LANES]) -> [__m256i; LANES] {
    let mut pairs = rows;
    for at in (0..LANES).step_by(2) {
        pairs[at] = _mm256_unpacklo_epi32(rows[at], rows[at + 1]);
        pairs[at + 1] = _mm256_unpackhi_epi32(rows[at], rows[at + 1]);
    }
    // Half k of `quads[4 * g + c]` is column 4 * k + c of the rows 4 * g to 4 * g + 3.
    let mut quads = pairs;
    for at in (0..LANES).step_by(4) {
        quads[at] = _mm256_unpacklo_epi64(pairs[at], pairs[at + 2]);
        quads[at + 1] = _mm256_unpackhi_epi64(pairs[at], pairs[at + 2]);
        quads[at + 2] = _mm256_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
        quads[at + 3] = _mm256_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
    }
    let mut columns = quads;
    for at in 0..4 {
        columns[at] = _mm256_permute2x128_si256::<0x20>(quads[at], quads[at + 4]);
        columns[at + 4] = _mm256_permute2x128_si256::<0x31>(quads[at], quads[at + 4]);
    }
    columns
}

/// Works one chunk of every message, given as words, into the state (FIPS 180-4, section 6.2.2).
#[inline]
#[target_feature(enable = "avx2")]
fn compress(state: &mut [__m256i; 8], mut words: [__m256i; 16]) {
    let before = *state;
    let [first, middle @ .., last] = ROUND_CONSTANTS.as_chunks::<16>().0 else { unreachable!() };
    for constants in [first].into_iter().chain(middle) {
        sixteen_rounds::<true>(state, &mut words, constants);
    }
    sixteen_rounds::<false>(state, &mut words, last);
    for (word, old) in state.iter_mut().zip(before) {
        *word = _mm256_add_epi32(*word, old);
    }
}

/// Sixteen rounds. With `MORE` to follow, each word of the message schedule makes place for the one
/// that is needed sixteen rounds later.
#[inline]
#[target_feature(enable = "avx2")]
fn sixteen_rounds<const MORE: bool>(
    state: &mut [__m256i; 8],
    words: &mut [__m256i; 16],
    constants: &[u32; 16],
) {
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    // Instead of eight moves after each round, the names rotate: eight rounds bring them home. All
    // is written out, since the words stay in registers only if their indices are constants.
    macro_rules! round {
        ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $at:literal) => {
            let constant = _mm256_set1_epi32(constants[$at].cast_signed());
            let input = _mm256_add_epi32(_mm256_add_epi32($h, constant), words[$at]);
            let chosen = choose($e, $f, $g);
            let first = _mm256_add_epi32(_mm256_add_epi32(input, chosen), big_sigma1($e));
            let second = _mm256_add_epi32(big_sigma0($a), majority($a, $b, $c));
            $d = _mm256_add_epi32($d, first);
            $h = _mm256_add_epi32(first, second);
            if MORE {
                let near = _mm256_add_epi32(words[$at], words[($at + 9) % 16]);
                let sigma0 = small_sigma0(words[($at + 1) % 16]);
                let sigma1 = small_sigma1(words[($at + 14) % 16]);
                words[$at] = _mm256_add_epi32(near, _mm256_add_epi32(sigma0, sigma1));
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
#[target_feature(enable = "avx2")]
fn choose(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    xor(z, _mm256_and_si256(x, xor(y, z)))
}

/// The function Maj of FIPS 180-4. `x ^ y` is `y ^ z` of the next round, which the compiler sees.
#[inline]
#[target_feature(enable = "avx2")]
fn majority(x: __m256i, y: __m256i, z: __m256i) -> __m256i {
    xor(y, _mm256_and_si256(xor(x, y), xor(y, z)))
}

#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma0(x: __m256i) -> __m256i {
    xor(xor(rotated::<2, 30>(x), rotated::<13, 19>(x)), rotated::<22, 10>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn big_sigma1(x: __m256i) -> __m256i {
    xor(xor(rotated::<6, 26>(x), rotated::<11, 21>(x)), rotated::<25, 7>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn small_sigma0(x: __m256i) -> __m256i {
    xor(xor(rotated::<7, 25>(x), rotated::<18, 14>(x)), _mm256_srli_epi32::<3>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn small_sigma1(x: __m256i) -> __m256i {
    xor(xor(rotated::<17, 15>(x), rotated::<19, 13>(x)), _mm256_srli_epi32::<10>(x))
}

/// Every word rotated to the right by `RIGHT` bits; `LEFT` is what is missing to 32.
#[inline]
#[target_feature(enable = "avx2")]
fn rotated<const RIGHT: i32, const LEFT: i32>(x: __m256i) -> __m256i {
    const { assert!(RIGHT + LEFT == 32) };
    xor(_mm256_srli_epi32::<RIGHT>(x), _mm256_slli_epi32::<LEFT>(x))
}

#[inline]
#[target_feature(enable = "avx2")]
fn xor(x: __m256i, y: __m256i) -> __m256i {
    _mm256_xor_si256(x, y)
}
