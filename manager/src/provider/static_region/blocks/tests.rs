use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;

use super::{Blocks, GRANULE, Hole, USED, Word};

/// A region of so many granules; given back by `Drop`, so that Miri sees no leak.
struct Region(*mut [u128]);

const UNIT: usize = GRANULE / size_of::<u128>();

impl Region {
    fn new(granules: usize) -> Self {
        Self(Box::into_raw(std::vec![0xAAAA; (granules + 1) * UNIT].into_boxed_slice()))
    }

    /// To be called once, and its result to be dropped before `self`.
    fn blocks(&self, granules: usize) -> Blocks {
        // SAFETY: the bytes are initialised and leaked until `Drop`, and this is their only reference.
        let bytes = unsafe {
            let start = self.0.cast::<u8>();
            let skip = start.align_offset(GRANULE);
            core::slice::from_raw_parts_mut(start.add(skip), granules * GRANULE)
        };
        Blocks::new(bytes)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: it came from `Box::into_raw`, and nothing refers to it any more.
        drop(unsafe { Box::from_raw(self.0) });
    }
}

/// The same, the simplest way: all blocks in order, in granules, and whether each is used.
struct Model(Vec<(usize, bool)>);

impl Model {
    /// Where a block comes to be, by looking at every hole.
    fn take(&mut self, size: usize) -> Option<usize> {
        let len: usize = self.0.iter().map(|block| block.0).sum();
        let mut start = 0;
        let mut best: Option<(usize, usize, usize)> = None;
        for (index, &(hole, used)) in self.0.iter().enumerate() {
            if !used && hole >= size && best.is_none_or(|(smallest, ..)| hole < smallest) {
                best = Some((hole, start, index));
            }
            start += hole;
        }
        let (hole, start, index) = best?;
        let rest = hole - size;
        // As bytes: halves of an odd number of granules are none of granules.
        let high = start * GRANULE + hole * GRANULE / 2 > len * GRANULE / 2;
        let (cut, at) = if high {
            ([(rest, false), (size, true)], start + rest)
        } else {
            ([(size, true), (rest, false)], start)
        };
        self.0.splice(index..=index, cut.into_iter().filter(|block| block.0 > 0));
        Some(at)
    }

    fn give(&mut self, at: usize) {
        let mut start = 0;
        for block in &mut self.0 {
            block.1 &= start != at;
            start += block.0;
        }
        let mut merged: Vec<(usize, bool)> = Vec::new();
        for block in self.0.drain(..) {
            match merged.last_mut() {
                Some(last) if !last.1 && !block.1 => last.0 += block.0,
                _ => merged.push(block),
            }
        }
        self.0 = merged;
    }
}

/// All blocks in order; each says of the one before it how large that is, and the index has the holes and nothing else.
fn walk(blocks: &Blocks) -> Vec<(usize, bool)> {
    let (mut at, mut before, mut all, mut holes) = (0, 0, Vec::new(), Vec::new());
    while at < blocks.len() {
        let word = blocks.words.get(at, Word::Size);
        let size = word & !USED;
        assert!(size > 0 && size.is_multiple_of(GRANULE));
        assert_eq!(blocks.words.get(at, Word::Before), before);
        if word & USED == 0 {
            holes.push(Hole { size, at });
        }
        all.push((size / GRANULE, word & USED != 0));
        (at, before) = (at + size, size);
    }
    assert_eq!(at, blocks.len());
    let indexed = blocks.holes.all(&blocks.words);
    let digits = (blocks.len() / GRANULE).checked_ilog2().unwrap_or(0) as usize + 1;
    for (hole, depth) in &indexed {
        assert!(*depth <= 2 * digits, "{hole:?} is {depth} below its root");
    }
    let mut indexed: Vec<Hole> = indexed.into_iter().map(|(hole, _)| hole).collect();
    indexed.sort_unstable_by_key(|hole| hole.at);
    assert_eq!(indexed, holes);
    assert_eq!(blocks.free(), holes.iter().map(|hole| hole.size).sum::<usize>());
    assert_eq!(blocks.largest(), holes.iter().map(|hole| hole.size).max().unwrap_or(0));
    all
}

#[derive(Clone, Debug)]
enum Op {
    Take(usize),
    Give(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let sizes = prop_oneof![3 => 1..8usize, 2 => 1..80usize, 1 => 1..700usize];
    let op = prop_oneof![3 => sizes.prop_map(Op::Take), 2 => any::<usize>().prop_map(Op::Give)];
    prop::collection::vec(op, 1..if cfg!(miri) { 12 } else { 200 })
}

fn cases(natively: u32) -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { natively };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn blocks_lie_where_a_look_at_every_hole_would_put_them(granules in 0..600usize, ops in ops()) {
        let region = Region::new(granules);
        let mut blocks = region.blocks(granules);
        let mut model = Model([(granules, false)].into_iter().filter(|block| block.0 > 0).collect());
        let mut live = Vec::new();
        for op in ops {
            match op {
                Op::Take(size) => {
                    let taken = blocks.take(size * GRANULE);
                    prop_assert_eq!(taken.map(|it| blocks.words.block_of(it) / GRANULE), model.take(size));
                    live.extend(taken);
                }
                Op::Give(which) if !live.is_empty() => {
                    let it = live.swap_remove(which % live.len());
                    model.give(blocks.words.block_of(it) / GRANULE);
                    blocks.give(it);
                }
                Op::Give(_) => {}
            }
            prop_assert_eq!(walk(&blocks), &model.0[..]);
        }
        for it in live.drain(..) {
            blocks.give(it);
        }
        prop_assert_eq!(walk(&blocks).len(), usize::from(granules > 0));
    }
}

/// The most words that an operation looked at, of those since this was asked last.
fn reads(blocks: &Blocks) -> usize {
    blocks.words.reads.replace(0)
}

/// As many holes as there can be, of sizes that share as many digits as they can, freed in orders that make trees
/// deep: no operation looks at more words than a few times the digits of a position.
#[test]
fn an_operation_takes_no_more_steps_however_many_holes_there_are() {
    let mut worst = Vec::new();
    // In Miri few show what it can show.
    let sizes: &[usize] = if cfg!(miri) { &[1 << 5] } else { &[1 << 8, 1 << 12, 1 << 16] };
    for &granules in sizes {
        let region = Region::new(granules);
        let mut blocks = region.blocks(granules);
        let mut most = 0;
        for (size, stride) in [(1, 1), (1, 7), (3, 5), (8, 1)] {
            let mut live = Vec::new();
            while let Some(it) = blocks.take(size * GRANULE) {
                live.push(it);
            }
            live.sort_unstable();
            let (kept, mut freed): (Vec<_>, Vec<_>) =
                live.iter().enumerate().partition(|(at, _)| at % 2 == 0);
            freed.sort_by_key(|(at, _)| at * stride % live.len());
            let _ = reads(&blocks);
            for (_, it) in freed {
                blocks.give(*it);
                most = most.max(reads(&blocks));
            }
            let holes = blocks.holes.all(&blocks.words).len();
            assert!(holes * 2 * size + 2 * size >= granules, "{holes} holes");
            let _ = reads(&blocks);
            for wanted in [size, size + 1, 2 * size] {
                let it = blocks.take(wanted * GRANULE);
                most = most.max(reads(&blocks));
                it.into_iter().for_each(|it| blocks.give(it));
                most = most.max(reads(&blocks));
            }
            for (_, it) in kept {
                blocks.give(*it);
                most = most.max(reads(&blocks));
            }
            assert_eq!((blocks.free(), walk(&blocks).len()), (granules * GRANULE, 1));
        }
        let digits = granules.ilog2() as usize + 1;
        assert!(most <= 6 * digits, "{most} words looked at in a region of {granules} granules");
        worst.push(most);
    }
    std::println!("{worst:?}");
}
