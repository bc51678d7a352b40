//! One or two messages with the processor's SHA instructions.
//!
//! Each `sha256rnds2` waits for the one before it, longer than the unit needs to take the next. A
//! second message, whose rounds depend on nothing of the first, fills that time.

use std::arch::x86_64::{
    __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_blend_epi16, _mm_loadu_si128, _mm_set_epi64x,
    _mm_set1_epi32, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
    _mm_shuffle_epi8, _mm_shuffle_epi32, _mm_storeu_si128,
};

use super::Chunk;
use super::constants::{INITIAL, ROUND_CONSTANTS};

/// The digests of `N` messages of equally many chunks, each followed by `padding`.
#[target_feature(enable = "sha,sse4.1,ssse3")]
pub(super) fn sha256<const N: usize>(messages: [&[Chunk]; N], padding: &Chunk) -> [[u8; 32]; N] {
    let [abcd, efgh] = *INITIAL.as_chunks::<4>().0 else { unreachable!() };
    let mut states = [packed(load_words(&abcd), load_words(&efgh)); N];
    for at in 0..messages[0].len() {
        compress(&mut states, messages.map(|message| &message[at]));
    }
    compress(&mut states, [padding; N]);
    let mut digests = [[0; 32]; N];
    for (digest, state) in digests.iter_mut().zip(states) {
        let halves = unpacked(state);
        for (bytes, half) in digest.as_chunks_mut::<16>().0.iter_mut().zip(halves) {
            store(bytes, swapped(half));
        }
    }
    digests
}

/// The state as the instructions want it: the words A, B, E, F and the words C, D, G, H, each
/// from the most significant lane down.
#[derive(Clone, Copy)]
struct State {
    abef: __m128i,
    cdgh: __m128i,
}

#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn packed(abcd: __m128i, efgh: __m128i) -> State {
    let cdab = _mm_shuffle_epi32::<0b10_11_00_01>(abcd);
    let hgfe = _mm_shuffle_epi32::<0b00_01_10_11>(efgh);
    State { abef: _mm_alignr_epi8::<8>(cdab, hgfe), cdgh: _mm_blend_epi16::<0xf0>(hgfe, cdab) }
}

/// The words A to D and the words E to H, from the least significant lane up.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn unpacked(state: State) -> [__m128i; 2] {
    let feba = _mm_shuffle_epi32::<0b00_01_10_11>(state.abef);
    let dchg = _mm_shuffle_epi32::<0b10_11_00_01>(state.cdgh);
    [_mm_blend_epi16::<0xf0>(feba, dchg), _mm_alignr_epi8::<8>(dchg, feba)]
}

/// Works one chunk of every message into its state (FIPS 180-4, section 6.2.2).
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn compress<const N: usize>(states: &mut [State; N], chunks: [&Chunk; N]) {
    let before = *states;
    let mut words = [[_mm_set1_epi32(0); 4]; N];
    for (words, chunk) in words.iter_mut().zip(chunks) {
        for (word, bytes) in words.iter_mut().zip(chunk.as_chunks::<16>().0) {
            *word = swapped(load(bytes));
        }
    }
    let [first, middle @ .., last] = ROUND_CONSTANTS.as_chunks::<16>().0 else { unreachable!() };
    for constants in [first].into_iter().chain(middle) {
        sixteen_rounds::<N, true>(states, &mut words, constants);
    }
    sixteen_rounds::<N, false>(states, &mut words, last);
    for (state, before) in states.iter_mut().zip(before) {
        state.abef = _mm_add_epi32(state.abef, before.abef);
        state.cdgh = _mm_add_epi32(state.cdgh, before.cdgh);
    }
}

/// Sixteen rounds on every state. With `MORE` to follow, each four words make place for the four
/// that are needed sixteen rounds later.
#[inline]
#[target_feature(enable = "sha,sse4.1,ssse3")]
fn sixteen_rounds<const N: usize, const MORE: bool>(
    states: &mut [State; N],
    words: &mut [[__m128i; 4]; N],
    constants: &[u32; 16],
) {
    let constants = constants.as_chunks::<4>().0;
    // Written out, since the words stay in registers only if their indices are constants.
    macro_rules! four_rounds {
        ($first:literal, $second:literal, $third:literal, $fourth:literal) => {
            let constants = load_words(&constants[$first]);
            for (state, words) in states.iter_mut().zip(words.iter_mut()) {
                let low = _mm_add_epi32(words[$first], constants);
                let high = _mm_shuffle_epi32::<0b11_10>(low);
                state.cdgh = _mm_sha256rnds2_epu32(state.cdgh, state.abef, low);
                state.abef = _mm_sha256rnds2_epu32(state.abef, state.cdgh, high);
                if MORE {
                    let nine_on = _mm_alignr_epi8::<4>(words[$fourth], words[$third]);
                    let partial = _mm_sha256msg1_epu32(words[$first], words[$second]);
                    let partial = _mm_add_epi32(partial, nine_on);
                    words[$first] = _mm_sha256msg2_epu32(partial, words[$fourth]);
                }
            }
        };
    }
    four_rounds!(0, 1, 2, 3);
    four_rounds!(1, 2, 3, 0);
    four_rounds!(2, 3, 0, 1);
    four_rounds!(3, 0, 1, 2);
}

/// The bytes of each word reversed: messages and digests are big-endian.
#[inline]
#[target_feature(enable = "ssse3")]
fn swapped(words: __m128i) -> __m128i {
    _mm_shuffle_epi8(words, _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203))
}

#[inline]
#[target_feature(enable = "sse2")]
fn load(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the array is 16 readable bytes, and the instruction asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn load_words(words: &[u32; 4]) -> __m128i {
    // SAFETY: the array is 16 readable bytes, and the instruction asks for no alignment.
    unsafe { _mm_loadu_si128(words.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn store(bytes: &mut [u8; 16], vector: __m128i) {
    // SAFETY: the array is 16 writable bytes, and the instruction asks for no alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), vector) }
}
