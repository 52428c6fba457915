//! The holes of a region, of which the smallest that fits is found in a time that the region's size bounds.
//!
//! A class for each power of two of granules, and in each class a digital search tree (Coffman and Eve, 1970; Lea's malloc
//! keeps its large chunks in such): the digits of a hole, those of its size below the highest and then those of its
//! position, say which way to go from a node to the next, and a hole is where its way first finds
//! nothing. There is nothing to balance. As no two holes have the same digits, no way is longer than there are digits:
//! twice the logarithm of the region in granules, whatever was allocated and freed, by whom and in which order.
//!
//! The nodes are the holes themselves.

use super::words::{GRANULE, Word, Words};

const CLASSES: usize = (usize::BITS - GRANULE.trailing_zeros()) as usize;
/// No position: it is no multiple of a granule.
const NONE: usize = usize::MAX;

/// A hole. They are ordered by size, those of a size by where they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hole {
    /// Bytes: a multiple of a granule.
    pub(super) size: usize,
    /// Bytes from the start of the region.
    pub(super) at: usize,
}

impl Hole {
    fn class(self) -> usize {
        (self.size / GRANULE).ilog2() as usize
    }
}

/// Which of a node's two.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Digit {
    Zero,
    One,
}

impl Digit {
    fn other(self) -> Self {
        if self == Self::Zero { Self::One } else { Self::Zero }
    }

    fn word(self) -> Word {
        if self == Self::Zero { Word::Zero } else { Word::One }
    }
}

/// Where a position is kept.
#[derive(Clone, Copy)]
enum Link {
    Root(usize),
    Below(usize, Digit),
}

/// The holes, by size.
pub(super) struct Holes {
    /// A bit for each class that has any.
    classes: usize,
    roots: [usize; CLASSES],
    /// Digits of a position in granules.
    digits: usize,
}

impl Holes {
    /// None, in a region of so many bytes.
    pub(super) fn new(len: usize) -> Self {
        let digits = (usize::BITS - (len / GRANULE).leading_zeros()) as usize;
        Self { classes: 0, roots: [NONE; CLASSES], digits }
    }

    /// The way from a node that is so many below its root.
    fn digit(&self, hole: Hole, depth: usize) -> Digit {
        let class = hole.class();
        let (number, of) = if depth < class {
            (hole.size / GRANULE, class - depth)
        } else {
            (hole.at / GRANULE, self.digits + class - depth)
        };
        if number >> (of - 1) & 1 == 0 { Digit::Zero } else { Digit::One }
    }

    fn follow(&self, words: &Words, link: Link) -> Option<usize> {
        let at = match link {
            Link::Root(class) => self.roots[class],
            Link::Below(at, digit) => words.get(at, digit.word()),
        };
        (at != NONE).then_some(at)
    }

    fn attach(&mut self, words: &mut Words, link: Link, at: usize) {
        match link {
            Link::Root(class) => {
                self.roots[class] = at;
                self.classes = self.classes & !(1 << class) | usize::from(at != NONE) << class;
            }
            Link::Below(above, digit) => words.set(above, digit.word(), at),
        }
    }

    /// Adds a hole, whose header says so.
    pub(super) fn insert(&mut self, words: &mut Words, hole: Hole) {
        let (mut link, mut depth) = (Link::Root(hole.class()), 0);
        while let Some(above) = self.follow(words, link) {
            link = Link::Below(above, self.digit(hole, depth));
            depth += 1;
        }
        words.set(hole.at, Word::Zero, NONE);
        words.set(hole.at, Word::One, NONE);
        self.attach(words, link, hole.at);
    }

    /// Takes a hole out, that is among them.
    pub(super) fn remove(&mut self, words: &mut Words, hole: Hole) {
        let (mut link, mut depth) = (Link::Root(hole.class()), 0);
        while let Some(at) = self.follow(words, link)
            && at != hole.at
        {
            link = Link::Below(at, self.digit(hole, depth));
            depth += 1;
        }
        // Whichever is the last on any way on from here has the digits that lead here, too.
        let (mut last, mut end) = (link, hole.at);
        loop {
            let below = [Digit::Zero, Digit::One].map(|digit| Link::Below(end, digit));
            let next = below.into_iter().find_map(|link| Some((link, self.follow(words, link)?)));
            let Some(next) = next else { break };
            (last, end) = next;
        }
        self.attach(words, last, NONE);
        if end != hole.at {
            for word in [Word::Zero, Word::One] {
                let below = words.get(hole.at, word);
                words.set(end, word, below);
            }
            self.attach(words, link, end);
        }
    }

    /// The smallest hole of at least `size` bytes, a positive multiple of the granule; of those of its size the first.
    pub(super) fn smallest(&self, words: &Words, size: usize) -> Option<Hole> {
        let wanted = Hole { size, at: 0 };
        let class = wanted.class();
        self.smallest_in(words, class, wanted).or_else(|| {
            let above = self.classes & usize::MAX << class << 1;
            let next = (above != 0).then(|| Link::Root(above.trailing_zeros() as usize))?;
            self.outermost(words, next, Digit::Zero)
        })
    }

    /// The same within a class.
    fn smallest_in(&self, words: &Words, class: usize, wanted: Hole) -> Option<Hole> {
        let (mut link, mut depth) = (Link::Root(class), 0);
        let (mut least, mut aside) = (None::<Hole>, None);
        while let Some(at) = self.follow(words, link) {
            let hole = hole_at(words, at);
            if hole == wanted {
                return Some(hole);
            }
            if hole > wanted && least.is_none_or(|least| hole < least) {
                least = Some(hole);
            }
            let digit = self.digit(wanted, depth);
            // All to the other side are larger; the nearest of those that were passed are the smallest.
            if digit == Digit::Zero && words.get(at, Word::One) != NONE {
                aside = Some(Link::Below(at, Digit::One));
            }
            link = Link::Below(at, digit);
            depth += 1;
        }
        let aside = aside.and_then(|aside| self.outermost(words, aside, Digit::Zero));
        [least, aside].into_iter().flatten().min()
    }

    /// The largest hole.
    pub(super) fn largest(&self, words: &Words) -> Option<Hole> {
        let class = self.classes.checked_ilog2()?;
        self.outermost(words, Link::Root(class as usize), Digit::One)
    }

    /// The smallest or the largest of those below a link: on the way that keeps to one side there is no other that could
    /// be.
    fn outermost(&self, words: &Words, mut link: Link, side: Digit) -> Option<Hole> {
        let mut outermost = None::<Hole>;
        while let Some(at) = self.follow(words, link) {
            let hole = hole_at(words, at);
            let further = |than: Hole| if side == Digit::Zero { hole < than } else { hole > than };
            if outermost.is_none_or(further) {
                outermost = Some(hole);
            }
            let kept = Link::Below(at, side);
            link = if self.follow(words, kept).is_some() { kept } else { Link::Below(at, side.other()) };
        }
        outermost
    }
}

fn hole_at(words: &Words, at: usize) -> Hole {
    // A hole's size has no mark.
    Hole { size: words.get(at, Word::Size), at }
}

#[cfg(test)]
impl Holes {
    /// All holes, each with its depth; panics where one is not on its way.
    pub(super) fn all(&self, words: &Words) -> std::vec::Vec<(Hole, usize)> {
        let mut all = std::vec::Vec::new();
        for class in 0..CLASSES {
            assert_eq!(self.classes >> class & 1 == 1, self.roots[class] != NONE);
            let mut open = std::vec![(Link::Root(class), std::vec::Vec::new())];
            while let Some((link, way)) = open.pop() {
                let Some(at) = self.follow(words, link) else { continue };
                let hole = hole_at(words, at);
                assert_eq!(hole.class(), class);
                assert!(way.iter().enumerate().all(|(depth, digit)| self.digit(hole, depth) == *digit));
                for digit in [Digit::Zero, Digit::One] {
                    open.push((Link::Below(at, digit), [&way[..], &[digit]].concat()));
                }
                all.push((hole, way.len()));
            }
        }
        all
    }
}
