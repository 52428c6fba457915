//! Memory is made as it should be: what differs is written over, the rest only read.
//!
//! A guest that writes to a page mostly writes a few words of it. Who then writes the whole page has all of it carried back
//! to a farther cache; to read it takes half as long on CPUs whose nearest cache holds 48 KiB, and no longer on those seen
//! otherwise (`benches/README.md`), given wide registers. Without these everything is written.

/// Bytes that are compared, and written, together.
const CHUNK: usize = 512;

/// Of so many bytes, once two chunks differ, the rest is written without a look: whoever fills a page pays for few comparisons.
const STRETCH: usize = 4096;

/// Has `memory` hold zeros.
pub(super) fn zeros(memory: &mut [u8]) {
    // To write nothing at the edge of a page that may not be written yet takes a microsecond on CPUs with masked stores.
    if memory.is_empty() {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: this CPU has them.
        unsafe { wide::zeros(memory) };
        return;
    }
    memory.fill(0);
}

/// Has `memory` hold `bytes`, which are as many.
pub(super) fn copy(memory: &mut [u8], bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: this CPU has them.
        unsafe { wide::copy(memory, bytes) };
        return;
    }
    memory.copy_from_slice(bytes);
}

/// By registers of 256 bits: the words of a chunk are looked at together.
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::STRETCH;

    #[target_feature(enable = "avx2")]
    pub(super) fn zeros(memory: &mut [u8]) {
        for stretch in memory.chunks_mut(STRETCH) {
            super::stretch(
                stretch,
                |_, chunk| words(chunk).fold(0, |all, word| all | word) != 0,
                |_, rest| rest.fill(0),
            );
        }
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn copy(memory: &mut [u8], bytes: &[u8]) {
        for (stretch, bytes) in memory.chunks_mut(STRETCH).zip(bytes.chunks(STRETCH)) {
            super::stretch(
                stretch,
                |at, chunk| {
                    let both = words(chunk).zip(words(&bytes[at..at + chunk.len()]));
                    both.fold(0, |all, (one, other)| all | (one ^ other)) != 0
                },
                |at, rest| rest.copy_from_slice(&bytes[at..at + rest.len()]),
            );
        }
    }

    #[inline(always)]
    fn words(chunk: &[u8]) -> impl Iterator<Item = u64> {
        chunk.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word))
    }
}

/// Writes the chunks of `memory` that differ. Both are told where in `memory` theirs starts.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn stretch(
    memory: &mut [u8],
    differs: impl Fn(usize, &[u8; CHUNK]) -> bool,
    write: impl Fn(usize, &mut [u8]),
) {
    let (mut at, mut differed) = (0, false);
    while let Some(chunk) = memory[at..].first_chunk_mut::<CHUNK>() {
        if differs(at, chunk) {
            if differed {
                break;
            }
            differed = true;
            write(at, chunk);
        }
        at += CHUNK;
    }
    // The second that differs and what follows, or less than a chunk.
    if at < memory.len() {
        write(at, &mut memory[at..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_was_written_is_written_over(
            start in 0..600usize,
            len in 0..3 * STRETCH + CHUNK,
            written in prop::collection::vec((0..3 * STRETCH, 1..u8::MAX), 0..8),
        ) {
            let wanted: Vec<u8> = (0..len).map(|at| at as u8).collect();
            // Whatever is beside it stays.
            let around = |within: &[u8]| {
                let mut whole = vec![0xEE; start + len + 40];
                whole[start..start + len].copy_from_slice(within);
                whole
            };
            let spoilt = |mut within: Vec<u8>| {
                for (at, change) in &written {
                    if let Some(byte) = within.get_mut(*at) {
                        *byte ^= change;
                    }
                }
                around(&within)
            };
            let mut memory = spoilt(vec![0; len]);
            zeros(&mut memory[start..start + len]);
            prop_assert!(memory == around(&vec![0; len]));
            let mut memory = spoilt(wanted.clone());
            copy(&mut memory[start..start + len], &wanted);
            prop_assert!(memory == around(&wanted));
        }
    }

    /// All bytes of a chunk count, and all chunks of a page.
    #[test]
    fn one_byte_anywhere_is_found() {
        let wanted: Vec<u8> = (0..=STRETCH).map(|at| at as u8).collect();
        for at in 0..=STRETCH {
            let mut memory = vec![0; STRETCH + 1];
            memory[at] = 1;
            zeros(&mut memory);
            assert!(memory.iter().all(|byte| *byte == 0), "{at}");
            let mut memory = wanted.clone();
            memory[at] ^= 0x80;
            copy(&mut memory, &wanted);
            assert!(memory == wanted, "{at}");
        }
    }
}
