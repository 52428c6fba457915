//! Memory is made as it should be: what differs is written over, the rest only read.
//!
//! A guest that writes to a page mostly writes a few words of it. Who then writes the whole page has all of it carried back to
//! a farther cache; with wide registers it takes half as long to read it on one CPU, and no longer on the other
//! (`benches/README.md`). Without them everything is written.

/// Bytes that are compared, and written, together.
#[cfg(any(test, target_arch = "x86_64"))]
const CHUNK: usize = 512;

/// Of so many bytes, once two chunks differ, the rest is written without a look: whoever fills a page pays for few comparisons.
#[cfg(any(test, target_arch = "x86_64"))]
const STRETCH: usize = 4096;

/// Has `memory` hold zeros.
pub(super) fn zeros(memory: &mut [u8]) {
    // To write nothing at the edge of a page that may not be written yet takes a microsecond on CPUs with masked stores.
    if memory.is_empty() {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    match wide::registers() {
        // SAFETY: this CPU has what it is compiled for.
        Some(wide::Registers::Of512) => return unsafe { wide::zeros_by_512(memory) },
        // SAFETY: the same.
        Some(wide::Registers::Of256) => return unsafe { wide::zeros_by_256(memory) },
        None => {}
    }
    memory.fill(0);
}

/// Has `memory` hold `bytes`, which are as many.
pub(super) fn copy(memory: &mut [u8], bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    match wide::registers() {
        // SAFETY: this CPU has what it is compiled for.
        Some(wide::Registers::Of512) => return unsafe { wide::copy_by_512(memory, bytes) },
        // SAFETY: the same.
        Some(wide::Registers::Of256) => return unsafe { wide::copy_by_256(memory, bytes) },
        None => {}
    }
    memory.copy_from_slice(bytes);
}

/// By wide registers: the words of a chunk are looked at together. What is compiled for which is the same.
#[cfg(target_arch = "x86_64")]
mod wide {
    use super::STRETCH;

    /// Bits of the registers that a CPU has.
    pub(super) enum Registers {
        Of256,
        Of512,
    }

    pub(super) fn registers() -> Option<Registers> {
        // CPUs without VBMI2 that have 512 bits slow down when they are used (Skylake, Cascade Lake).
        if std::arch::is_x86_feature_detected!("avx512f")
            && std::arch::is_x86_feature_detected!("avx512vbmi2")
        {
            return Some(Registers::Of512);
        }
        std::arch::is_x86_feature_detected!("avx2").then_some(Registers::Of256)
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn zeros_by_512(memory: &mut [u8]) {
        zeros(memory);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn zeros_by_256(memory: &mut [u8]) {
        zeros(memory);
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn copy_by_512(memory: &mut [u8], bytes: &[u8]) {
        copy(memory, bytes);
    }

    #[target_feature(enable = "avx2")]
    pub(super) fn copy_by_256(memory: &mut [u8], bytes: &[u8]) {
        copy(memory, bytes);
    }

    #[inline(always)]
    fn zeros(memory: &mut [u8]) {
        for stretch in memory.chunks_mut(STRETCH) {
            super::stretch(
                stretch,
                #[inline(always)]
                |_, chunk| words(chunk).fold(0, |all, word| all | word) != 0,
                |_, rest| rest.fill(0),
            );
        }
    }

    #[inline(always)]
    fn copy(memory: &mut [u8], bytes: &[u8]) {
        for (stretch, bytes) in memory.chunks_mut(STRETCH).zip(bytes.chunks(STRETCH)) {
            super::stretch(
                stretch,
                #[inline(always)]
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

    type Way = (fn(&mut [u8]), fn(&mut [u8], &[u8]));

    /// All that this CPU can do, whichever it takes.
    const WAYS: [fn() -> Option<Way>; 2] = [
        || Some((zeros, copy)),
        || {
            #[cfg(target_arch = "x86_64")]
            if std::arch::is_x86_feature_detected!("avx2") {
                return Some((
                    // SAFETY: this CPU has what it is compiled for.
                    |memory| unsafe { wide::zeros_by_256(memory) },
                    // SAFETY: the same.
                    |memory, bytes| unsafe { wide::copy_by_256(memory, bytes) },
                ));
            }
            None
        },
    ];

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
            for (zeros, copy) in WAYS.iter().filter_map(|way| way()) {
                let mut memory = spoilt(vec![0; len]);
                zeros(&mut memory[start..start + len]);
                prop_assert!(memory == around(&vec![0; len]));
                let mut memory = spoilt(wanted.clone());
                copy(&mut memory[start..start + len], &wanted);
                prop_assert!(memory == around(&wanted));
            }
        }
    }

    /// Pages that were read are the page of zeros that all share; who writes to one has it for himself.
    #[test]
    #[cfg(target_arch = "x86_64")]
    #[cfg_attr(miri, ignore = "no scan there")]
    fn what_is_as_it_should_be_is_only_read() {
        use core::ops::ControlFlow;

        use crate::provider::os;

        let page = os::page_size();
        let Some(scanner) = os::linux::Scanner::new(page).filter(|_| wide::registers().is_some()) else {
            return;
        };
        let len = 4 * page;
        let start = os::linux::reserve_open(len).unwrap();
        // SAFETY: mapped above to be written, and nobody else's.
        let memory = unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), len) };
        memory[2 * page + 5] = 7;
        zeros(memory);
        copy(memory, &vec![0; len]);
        assert!(memory.iter().all(|byte| *byte == 0));
        let base = start.addr().get();
        let mut written = Vec::new();
        scanner
            .written(base..base + len, false, &mut |run| {
                written.extend((run.start - base) / page..(run.end - base) / page);
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(written, [2]);
        // SAFETY: mapped above, and not referred to any more.
        unsafe { os::release(start, len) }.unwrap();
    }

    /// All bytes of a chunk count, and all chunks of a page.
    #[test]
    fn one_byte_anywhere_is_found() {
        let wanted: Vec<u8> = (0..=STRETCH).map(|at| at as u8).collect();
        for ((zeros, copy), at) in
            WAYS.iter().filter_map(|way| way()).flat_map(|way| (0..=STRETCH).map(move |at| (way, at)))
        {
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
