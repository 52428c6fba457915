//! Warm slots: whatever was in one, the next memory has its image, else zeros, and nothing else.

use std::sync::Arc;

use arbitrary::Unstructured;
use wrt_memory::{CrateId, CrateSettings, MemoryError, RawMemory, UnifiedMemoryManager};

use crate::Seen;
use crate::provider::{Image, PooledProvider, ProviderKind, ProviderSelector, Request};

pub(crate) const REACHES: &[&str] = &[
    "a slot again",
    "a slot again, with an image",
    "an image's slot without it",
    "grown",
    "written past 64 KiB",
    "denied",
    "trimmed",
    "forgotten",
];

const MOST_OPS: usize = 48;

const PAGE: usize = 4096;

/// Bytes of the largest memory: all of it is looked at.
const LARGEST: usize = 96 * PAGE;

/// Where images are, and how long: none is at a page's edges, the second is larger than what is copied.
const IMAGES: [(usize, usize); 3] = [(100, 50), (5000, 40_000), (70_000, 3000)];

fn byte_of(image: usize, at: usize) -> u8 {
    (at as u8).wrapping_mul(7).wrapping_add(image as u8) | 1
}

struct Made<'m> {
    memory: RawMemory<'m>,
    /// What its bytes must be.
    bytes: Vec<u8>,
}

struct World<'m> {
    manager: &'m UnifiedMemoryManager,
    crates: [CrateId; 2],
    images: Vec<Option<Arc<Image>>>,
    live: Vec<Made<'m>>,
    freed: usize,
}

impl World<'_> {
    fn check(&self, at: usize) {
        let made = &self.live[at];
        let seen = made.memory.as_slice();
        if seen != made.bytes {
            let differs = seen.iter().zip(&made.bytes).position(|(one, other)| one != other);
            panic!("{} bytes for {}, other from {differs:?} on", seen.len(), made.bytes.len());
        }
    }

    fn sizes(u: &mut Unstructured<'_>) -> arbitrary::Result<usize> {
        let pages = if u.ratio(1, 4)? { LARGEST / PAGE } else { 20 };
        // Pages may be of one byte.
        let less = if u.ratio(1, 4)? { u.int_in_range(1..=PAGE - 1)? } else { 0 };
        Ok((u.int_in_range(0..=pages)? * PAGE).saturating_sub(less))
    }

    fn make(&mut self, u: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
        let size = Self::sizes(u)?;
        let reserve = if u.ratio(1, 2)? { Self::sizes(u)? } else { 0 };
        let guard = if u.ratio(1, 2)? { PAGE } else { 0 };
        let request = Request { size, align: PAGE, reserve, guard };
        let id = self.crates[usize::from(u.ratio(1, 2)?)];
        let which = u.int_in_range(0..=IMAGES.len())?;
        let image = self.images.get(which).and_then(Option::as_ref);
        let image = image.filter(|image| image.range().end <= size);
        let (used, limit) = self.manager.node(id).map_or((0, 0), |node| (node.used, node.limit));
        let cost = self.manager.cost(&request).unwrap_or_else(|error| panic!("{request:?}: {error}"));
        let charged = self.manager.charge(id, size, cost);
        assert_eq!(charged.is_ok(), used + cost <= limit, "{charged:?}: {used} of {limit}");
        let Ok(charge) = charged else {
            seen.note("denied");
            return Ok(());
        };
        let mut bytes = vec![0; size];
        let made = match image {
            Some(image) => {
                let (at, len) = IMAGES[which];
                for (offset, byte) in bytes[at..at + len].iter_mut().enumerate() {
                    *byte = byte_of(which, offset);
                }
                RawMemory::allocate_charged_with(&request, charge, image)
            }
            None => RawMemory::allocate_charged(&request, charge),
        };
        let memory = match made {
            Ok(memory) => memory,
            Err(MemoryError::OverLimit { .. }) => return Ok(()),
            Err(error) => panic!("{request:?}: {error}"),
        };
        assert_eq!(memory.provider(), ProviderKind::Pooled);
        if self.freed > 0 {
            seen.note(if image.is_some() { "a slot again, with an image" } else { "a slot again" });
            if image.is_none() && self.images.iter().any(Option::is_some) {
                seen.note("an image's slot without it");
            }
        }
        self.live.push(Made { memory, bytes });
        self.check(self.live.len() - 1);
        Ok(())
    }

    fn write(&mut self, u: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
        let at = u.choose_index(self.live.len())?;
        let made = &mut self.live[at];
        let size = made.bytes.len();
        let (from, len, byte) = (u.int_in_range(0..=size)?, u.int_in_range(0..=3 * PAGE)?, u.arbitrary()?);
        let to = (from + len).min(size);
        made.memory.as_mut_slice()[from..to].fill(byte);
        made.bytes[from..to].fill(byte);
        if to > 65536 {
            seen.note("written past 64 KiB");
        }
        Ok(())
    }

    fn grow(&mut self, u: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
        let at = u.choose_index(self.live.len())?;
        let made = &mut self.live[at];
        let size = made.bytes.len() + u.int_in_range(0..=10)? * PAGE;
        let reserved = made.memory.reserved();
        match made.memory.grow(size) {
            Ok(()) => {
                made.bytes.resize(size.max(made.bytes.len()), 0);
                seen.note("grown");
            }
            Err(MemoryError::OverLimit { .. }) => seen.note("denied"),
            Err(error) => assert!(size > reserved, "{error}"),
        }
        self.check(at);
        Ok(())
    }

    fn free(&mut self, at: usize) {
        self.check(at);
        let made = self.live.swap_remove(at);
        let id = made.memory.crate_id();
        let (before, cost) =
            (self.manager.node(id).map_or(0, |node| node.used), made.memory.charge().bytes());
        drop(made.memory);
        assert_eq!(self.manager.node(id).map_or(0, |node| node.used), before - cost);
        self.freed += 1;
    }

    fn step(&mut self, u: &mut Unstructured<'_>, seen: &mut Seen) -> arbitrary::Result<()> {
        match u.int_in_range(0..=19)? {
            0..=5 => self.make(u, seen)?,
            6..=9 if !self.live.is_empty() => self.write(u, seen)?,
            10..=12 if !self.live.is_empty() => self.grow(u, seen)?,
            13..=16 if !self.live.is_empty() => {
                let at = u.choose_index(self.live.len())?;
                self.free(at);
            }
            17 => {
                if self.manager.trim(u.int_in_range(0..=LARGEST * 8)?) > 0 {
                    seen.note("trimmed");
                }
            }
            18 => {
                let which = u.choose_index(IMAGES.len())?;
                // As the adapter does when a module goes: memories that began with it may still be there.
                if let Some(image) = self.images[which].take() {
                    self.manager.forget(&image);
                    seen.note("forgotten");
                }
            }
            _ => {
                let which = u.choose_index(IMAGES.len())?;
                let (at, len) = IMAGES[which];
                let bytes: Vec<u8> = (0..len).map(|offset| byte_of(which, offset)).collect();
                let image = Image::new(at, &bytes).unwrap_or_else(|error| panic!("{error}"));
                self.images[which].get_or_insert(image);
            }
        }
        Ok(())
    }
}

pub(crate) fn run(data: &[u8], seen: &mut Seen) {
    let mut u = Unstructured::new(data);
    let mut choose = |most: usize| u.int_in_range(0..=most).unwrap_or_default();
    let keep = [0, PAGE, 80_000, PooledProvider::KEEP_RESIDENT][choose(3)];
    let warm = [0, 65536, 4 << 20, PooledProvider::WARM_LIMIT][choose(3)];
    let limit = [0, 5 * PAGE, 1 << 20, 64 << 20][choose(3)];
    let total = [1 << 20, 4 << 20, 64 << 20][choose(2)];
    let mut pool = PooledProvider::new().keep_resident(keep).warm_limit(warm);
    if choose(1) == 0 {
        pool = pool.without_pagemap_scan();
    }
    let providers = ProviderSelector::of_platform().with_pooled(pool);
    let manager = UnifiedMemoryManager::builder().total(total).stock(0).providers(providers).build();
    let manager = manager.unwrap_or_else(|error| panic!("{error}"));
    let crates = ["one", "other"].map(|name| {
        let settings = CrateSettings::new().limit(limit.min(total / 2));
        manager.register(name, settings).unwrap_or_else(|error| panic!("{error}"))
    });
    let mut world =
        World { manager: &manager, crates, images: vec![None; IMAGES.len()], live: Vec::new(), freed: 0 };
    for _ in 0..MOST_OPS {
        if u.is_empty() || world.step(&mut u, seen).is_err() {
            break;
        }
        let warm_slots = world.manager.providers().pooled().map_or(0, PooledProvider::warm);
        assert!(warm_slots <= warm, "{warm_slots} warm bytes, of {warm}");
    }
    while !world.live.is_empty() {
        world.free(0);
    }
    drop(world);
    for id in crates {
        manager.retire(id).unwrap_or_else(|error| panic!("{error}"));
    }
    manager.trim(usize::MAX);
    assert_eq!(manager.snapshot().used, 0, "bytes of warm slots are left");
    assert_eq!(manager.providers().pooled().map_or(0, PooledProvider::warm), 0);
}
