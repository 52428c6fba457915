//! Guests for benchmarks: how much data a module carries, how many pages it has, and how
//! many of them it writes decide what it costs to make an instance and to end it.
//!
//! Each exports its memory and a function `run` without parameters, which writes one
//! `i32` to each of so many host pages, evenly spread, and returns an `i32` checksum of
//! what was there before and of what it wrote. [`Bench::checksum`] gives the value that a
//! fresh instance must return: any other means that an instance saw the memory of another
//! one, or not all of its data.

use std::fmt::Write;

/// The bytes of a host page that the touches are spread by, and its alignment.
const HOST_PAGE: usize = 4096;
/// Where in its host page a touch goes: not its first word.
const OFFSET: usize = 64;

/// A guest of a given shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bench {
    /// Its name for [`wat`](crate::wat()).
    pub name: &'static str,
    /// Bytes of active data, from address 0.
    pub data_bytes: usize,
    /// Its memory in pages of 64 KiB.
    pub pages: usize,
    /// The host pages of 4 KiB that `run` reads and writes.
    pub touched: usize,
}

/// The shapes that are measured.
pub static BENCHES: &[Bench] = &[
    Bench { name: "bench_none", data_bytes: 0, pages: 1, touched: 1 },
    Bench { name: "bench_4k_1", data_bytes: 4 << 10, pages: 1, touched: 4 },
    Bench { name: "bench_4k_16", data_bytes: 4 << 10, pages: 16, touched: 16 },
    Bench { name: "bench_64k_17", data_bytes: 64 << 10, pages: 17, touched: 16 },
    Bench { name: "bench_1m_32", data_bytes: 1 << 20, pages: 32, touched: 16 },
];

impl Bench {
    /// The bytes between two touches, a multiple of the host page.
    fn stride(&self) -> usize {
        self.pages * 65536 / self.touched / HOST_PAGE * HOST_PAGE
    }

    /// The data: printable, and different from one host page to the next.
    fn data(&self) -> impl Iterator<Item = u8> {
        let mut state = 0x1234_5678u32;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            b'a' + (state >> 24) as u8 % 26
        })
        .take(self.data_bytes)
    }

    /// Its source.
    #[must_use]
    pub fn wat(&self) -> String {
        let Self { data_bytes, pages, touched, .. } = *self;
        let (stride, end) = (self.stride(), touched * self.stride());
        let mut text = String::with_capacity(data_bytes + 2048);
        let written = write!(
            text,
            ";; Of {pages} pages, with {data_bytes} bytes of data: writes to {touched} host pages.
(module
  (memory (export \"memory\") {pages})
  (func (export \"run\") (result i32)
    (local $at i32) (local $sum i32)
    (loop $next
      (local.set $sum
        (i32.add
          (i32.mul (local.get $sum) (i32.const 31))
          (i32.load offset={OFFSET} (local.get $at))))
      (i32.store offset={OFFSET} (local.get $at) (i32.add (local.get $at) (i32.const 1)))
      (local.set $sum
        (i32.add (local.get $sum) (i32.load offset={OFFSET} (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const {stride})))
      (br_if $next (i32.lt_u (local.get $at) (i32.const {end}))))
    (local.get $sum))\n"
        );
        written.expect("a String takes all that is written to it");
        if data_bytes > 0 {
            text.push_str("  (data (i32.const 0) \"");
            text.extend(self.data().map(char::from));
            text.push_str("\")");
        }
        text.push_str(")\n");
        text
    }

    /// What `run` returns when it is the first call in a fresh instance.
    #[must_use]
    pub fn checksum(&self) -> i32 {
        let data: Vec<u8> = self.data().collect();
        let word = |at: usize| {
            data.get(at..at + 4).map_or(0, |word| i32::from_le_bytes([word[0], word[1], word[2], word[3]]))
        };
        (0..self.touched).map(|touch| touch * self.stride()).fold(0i32, |sum, at| {
            sum.wrapping_mul(31).wrapping_add(word(at + OFFSET)).wrapping_add(at as i32 + 1)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn touches_are_distinct_host_pages_spread_over_the_memory() {
        for bench in BENCHES {
            let stride = bench.stride();
            let touched: BTreeSet<_> = (0..bench.touched).map(|touch| touch * stride / HOST_PAGE).collect();
            assert_eq!(touched.len(), bench.touched, "{}", bench.name);
            let bytes = bench.pages * 65536;
            assert!(bench.touched * stride <= bytes, "{}", bench.name);
            assert!((bench.touched + 1) * stride > bytes, "{}", bench.name);
        }
    }

    #[test]
    fn data_is_as_long_as_it_says_and_no_two_host_pages_are_alike() {
        for bench in BENCHES {
            let data: Vec<u8> = bench.data().collect();
            assert_eq!(data.len(), bench.data_bytes, "{}", bench.name);
            let pages: BTreeSet<_> = data.chunks(HOST_PAGE).collect();
            assert_eq!(pages.len(), bench.data_bytes / HOST_PAGE, "{}", bench.name);
        }
    }

    #[test]
    fn the_checksum_depends_on_the_data() {
        for bench in BENCHES.iter().filter(|bench| bench.data_bytes > 0) {
            let without = Bench { data_bytes: 0, ..*bench };
            assert_ne!(bench.checksum(), without.checksum(), "{}", bench.name);
        }
    }
}
