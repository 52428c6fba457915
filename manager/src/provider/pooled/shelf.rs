//! Slots that nobody has, where a thread finds those it freed last.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;

use super::super::os::linux::Scanner;
use super::class::Class;
use super::image::Image;
use super::slot::Slot;
use crate::lock::Lock;

/// How many slots with images are looked at for the right one, the latest first.
const LOOKED_AT: usize = 32;

/// Slots of one class; the ends of the queues are the warmest.
#[derive(Debug)]
struct Rack {
    class: Class,
    /// They hold an image, and have bytes in memory.
    filled: VecDeque<Box<Slot>>,
    /// They hold zeros, and have bytes in memory.
    blank: VecDeque<Box<Slot>>,
    /// They hold zeros, and have nothing in memory.
    #[expect(clippy::vec_box, reason = "a slot's address is its block's mark")]
    cold: Vec<Box<Slot>>,
}

/// What one thread, or a few, work with, on lines of its own: what one writes the others would have to fetch.
#[repr(align(128))]
pub(super) struct Stand {
    shelf: Lock<Shelf>,
    /// How many more bytes could be warm when somebody last had the shelf.
    room: AtomicUsize,
    /// What knows the pages that were written; without it those of a prefix are taken to be. Each has its own: the kernel counts
    /// who uses a file.
    pub(super) scanner: Option<Scanner>,
}

impl Stand {
    pub(super) fn new(scanner: Option<Scanner>) -> Self {
        Self { shelf: Lock::new(Shelf::default()), room: AtomicUsize::new(0), scanner }
    }

    /// Runs `section` on the shelf, alone: see [`Lock::with`].
    pub(super) fn with<R>(&self, section: impl FnOnce(&mut Shelf) -> R) -> R {
        self.shelf.with(|shelf| {
            let result = section(shelf);
            self.room.store(shelf.room(), Ordering::Relaxed);
            result
        })
    }

    /// Whether there seems to be room for so many more warm bytes. Only who has the shelf knows.
    pub(super) fn may_have_room(&self, bytes: usize) -> bool {
        self.room.load(Ordering::Relaxed) >= bytes
    }
}

/// What one thread, or a few, freed.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    racks: Vec<Rack>,
    /// Bytes its slots have in memory.
    pub(super) warm: usize,
    /// Bytes they may have: what is charged for them.
    pub(super) lease: usize,
}

impl Shelf {
    fn rack(&mut self, class: Class) -> &mut Rack {
        let at = self.racks.iter().position(|rack| rack.class == class).unwrap_or_else(|| {
            self.racks.push(Rack {
                class,
                filled: VecDeque::new(),
                blank: VecDeque::new(),
                cold: Vec::new(),
            });
            self.racks.len() - 1
        });
        &mut self.racks[at]
    }

    /// A slot that holds the image, where that is wanted and there is one; else one that holds zeros.
    pub(super) fn take(&mut self, class: Class, image: Option<&Image>) -> Option<Box<Slot>> {
        let rack = self.rack(class);
        let slot = image
            .and_then(|image| {
                let latest = rack.filled.iter().rev().take(LOOKED_AT);
                let back = latest.enumerate().find(|(_, slot)| slot.holds(Some(image)))?.0;
                rack.filled.remove(rack.filled.len() - 1 - back)
            })
            .or_else(|| rack.blank.pop_back())
            .or_else(|| rack.cold.pop())?;
        self.warm -= slot.warm;
        Some(slot)
    }

    /// The slot that was not used for longest, whatever it holds.
    pub(super) fn take_any(&mut self, class: Class) -> Option<Box<Slot>> {
        let slot = self.rack(class).filled.pop_front()?;
        self.warm -= slot.warm;
        Some(slot)
    }

    /// A slot that is as new, where what it has in memory is within what is leased; else it comes back.
    pub(super) fn put_leased(&mut self, slot: Box<Slot>) -> Option<Box<Slot>> {
        if self.room() >= slot.warm {
            self.put(slot);
            return None;
        }
        Some(slot)
    }

    /// A slot that is as new.
    pub(super) fn put(&mut self, slot: Box<Slot>) {
        self.warm += slot.warm;
        let rack = self.rack(slot.class);
        match (slot.warm, slot.image()) {
            (0, _) => rack.cold.push(slot),
            (_, None) => rack.blank.push_back(slot),
            (_, Some(_)) => rack.filled.push_back(slot),
        }
    }

    /// How many more bytes may be warm.
    pub(super) fn room(&self) -> usize {
        self.lease.saturating_sub(self.warm)
    }

    /// The warm slot that was not used for longest, of some class.
    pub(super) fn take_warm(&mut self) -> Option<Box<Slot>> {
        let slot = self
            .racks
            .iter_mut()
            .find_map(|rack| rack.filled.pop_front().or_else(|| rack.blank.pop_front()))?;
        self.warm -= slot.warm;
        Some(slot)
    }

    /// Some slot that holds the image.
    pub(super) fn take_filled(&mut self, image: &Image) -> Option<Box<Slot>> {
        let slot = self.racks.iter_mut().find_map(|rack| {
            let at = rack.filled.iter().position(|slot| slot.holds(Some(image)))?;
            rack.filled.remove(at)
        })?;
        self.warm -= slot.warm;
        Some(slot)
    }
}
