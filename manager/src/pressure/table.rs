//! A manager's watches, and what becomes of a charge, a release or a refusal that is their business.
//!
//! None of it walks crates: a node's watches are found in a table of fixed size. The lock is held for sections that
//! run nobody's code; who is told is told after it is released.

use super::event::PressureEvent;
use super::gauge::Gauge;
use super::marks::Marks;
use super::settings::{MAX_LEVELS, PressureSettings};
use crate::budget::{Amount, BudgetTracker, CrateId, Index, MAX_DEPTH, ROOT, Slot, State, Units};
use crate::error::{MemoryError, Result};
use crate::sync::{AtomicU32, Ordering};

#[cfg(not(loom))]
use crate::lock::Lock;
#[cfg(feature = "alloc")]
use crate::sync::Arc;

/// Watches a manager can have: the work of a charge that meets a mark is bounded by it.
#[cfg(feature = "alloc")]
const MAX_WATCHES: usize = if cfg!(target_pointer_width = "64") { 64 } else { 8 };
/// Watches a manager can have.
#[cfg(not(feature = "alloc"))]
const MAX_WATCHES: usize = 2;

/// Times a node's marks are set anew while other threads make use of it come and go. After that every charge looks.
const MAX_ROUNDS: usize = 8;

/// Who is told of events at once.
#[cfg(feature = "alloc")]
pub(super) type Callback = Arc<dyn Fn(&PressureEvent) + Send + Sync>;

/// An event that nobody has taken yet.
#[derive(Clone, Copy)]
struct Pending {
    used: Units,
    limit: Units,
    level: u8,
    refused: bool,
    crossings: u32,
}

/// One watch.
pub(super) struct Entry {
    /// Which watch it is: places are used again.
    serial: u32,
    node: Index,
    generation: u32,
    gauge: Gauge,
    pending: [Option<Pending>; MAX_LEVELS],
    #[cfg(feature = "alloc")]
    callback: Option<Callback>,
}

/// Made and dropped outside of the lock: a host's allocator may itself be one that charges crates.
#[cfg(feature = "alloc")]
type Owned = alloc::boxed::Box<Entry>;
#[cfg(not(feature = "alloc"))]
type Owned = Entry;

struct Table {
    places: [Option<Owned>; MAX_WATCHES],
    next_serial: u32,
}

/// The watches of one manager.
pub(crate) struct Watches {
    table: Lock<Table>,
    /// How many there are.
    count: AtomicU32,
}

impl Entry {
    fn is_of(&self, node: Index, generation: u32) -> bool {
        (self.node, self.generation) == (node, generation)
    }
}

/// Why a node's watches are asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Its use, or a limit, changed.
    Use,
    /// It refused a request.
    Refusal,
}

impl Watches {
    pub(crate) fn new() -> Self {
        let places = [const { None }; MAX_WATCHES];
        Self { table: Lock::new(Table { places, next_serial: 0 }), count: AtomicU32::new(0) }
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }
}

impl Table {
    fn of(&mut self, place: Place) -> Option<&mut Entry> {
        let entry: &mut Entry = self.places.get_mut(place.at)?.as_mut()?;
        (entry.serial == place.serial).then_some(entry)
    }

    fn of_node(&self, node: Index, generation: u32) -> impl Iterator<Item = &Entry> {
        let entries = self.places.iter().flatten().map(|owned| -> &Entry { owned });
        entries.filter(move |entry| entry.is_of(node, generation))
    }

    /// Sets a node's marks to what its watches wait for.
    fn set_marks(&self, slot: &Slot, node: Index, generation: u32) {
        let up = self.of_node(node, generation).filter_map(|entry| entry.gauge.marks().0).min();
        let down = self.of_node(node, generation).filter_map(|entry| entry.gauge.marks().1).max();
        slot.marks.set(up, down);
    }

    /// The first watch of a node from a place on, and where it is.
    fn next(&mut self, from: usize, node: Index, generation: u32) -> Option<(usize, &mut Entry)> {
        for (at, place) in self.places.iter_mut().enumerate().skip(from) {
            let Some(owned) = place else { continue };
            let entry: &mut Entry = owned;
            if entry.is_of(node, generation) {
                return Some((at, entry));
            }
        }
        None
    }
}

/// Where a watch is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    at: usize,
    serial: u32,
}

impl BudgetTracker {
    /// Places a watch. A level that is reached already is signalled at once.
    pub(super) fn place_watch(
        &self,
        settings: PressureSettings,
        #[cfg(feature = "alloc")] callback: Option<Callback>,
    ) -> Result<Place> {
        settings.check()?;
        let (node, generation) = match settings.over {
            Some(id) => {
                self.resolve(id)?;
                (id.index, id.generation)
            }
            None => (ROOT, self.root_generation()),
        };
        let gauge = Gauge::new(&settings.levels, settings.hysteresis);
        let entry = Entry {
            serial: 0,
            node,
            generation,
            gauge,
            pending: [None; MAX_LEVELS],
            #[cfg(feature = "alloc")]
            callback,
        };
        #[cfg(feature = "alloc")]
        let entry = Owned::new(entry);
        let mut entry = Some(entry);
        let place = self.watches.table.with(|table| {
            let at = table.places.iter().position(Option::is_none)?;
            let serial = table.next_serial;
            table.next_serial = serial.wrapping_add(1);
            let mut entry = entry.take()?;
            entry.serial = serial;
            table.places[at] = Some(entry);
            Some(Place { at, serial })
        });
        let Some(place) = place else {
            return Err(MemoryError::InvalidConfig {
                what: "this manager has as many pressure watches as it can have: drop one",
            });
        };
        self.watches.count.fetch_add(1, Ordering::SeqCst);
        // What a crate keeps is no use of it: it keeps nothing while it is watched.
        self.empty(node, self.slot(node));
        self.press(node, Cause::Use);
        self.empty(node, self.slot(node));
        Ok(place)
    }

    /// Ends a watch.
    pub(super) fn remove_watch(&self, place: Place) {
        let entry = self.watches.table.with(|table| {
            table.of(place)?;
            table.places[place.at].take()
        });
        // What a callback owns is dropped outside of the lock.
        if let Some(entry) = entry {
            self.watches.count.fetch_sub(1, Ordering::SeqCst);
            self.press(entry.node, Cause::Use);
        }
    }

    /// The highest level that is reached.
    pub(super) fn watched_level(&self, place: Place) -> Option<u8> {
        self.watches.table.with(|table| table.of(place)?.gauge.level())
    }

    /// The events of a watch that nobody took, lowest level first.
    pub(super) fn take_events(&self, place: Place) -> [Option<PressureEvent>; MAX_LEVELS] {
        let taken = self.watches.table.with(|table| {
            let entry = table.of(place)?;
            let more = entry.gauge.acknowledge();
            let mut taken = core::mem::take(&mut entry.pending);
            for (pending, more) in taken.iter_mut().zip(more) {
                if let Some(pending) = pending {
                    pending.crossings = pending.crossings.saturating_add(more);
                }
            }
            Some((taken, entry.node, entry.generation))
        });
        let Some((taken, node, generation)) = taken else { return [None; MAX_LEVELS] };
        taken.map(|pending| pending.map(|pending| self.event(node, generation, pending)))
    }

    fn event(&self, node: Index, generation: u32, pending: Pending) -> PressureEvent {
        let scale = self.scale();
        PressureEvent {
            over: (node != ROOT).then_some(CrateId { index: node, generation, tag: self.tag }),
            name: self.name_of(node),
            level: pending.level,
            used: scale.bytes(pending.used),
            limit: scale.bytes(pending.limit),
            refused: pending.refused,
            crossings: pending.crossings,
        }
    }

    /// The use of a node was raised to `used`: one compare, where no watch minds.
    #[inline]
    pub(crate) fn pressure_rose(&self, node: Index, slot: &Slot, used: Units) {
        if slot.marks.is_met(used) {
            self.press(node, Cause::Use);
        }
    }

    /// The use of a node, and of those above it, may have been raised.
    #[inline]
    pub(crate) fn pressure_rose_above(&self, node: Index) {
        // A watch is counted before its marks are set: the count is part of the protocol.
        if !self.watches.is_empty() {
            self.walk_up(node, Marks::is_met);
        }
    }

    /// The use of a node, or of one above it, fell below a mark.
    #[cold]
    pub(crate) fn pressure_fell(&self, node: Index) {
        self.walk_up(node, Marks::is_left);
    }

    #[cold]
    fn walk_up(&self, node: Index, concerns: fn(&Marks, Units) -> bool) {
        let mut at = node;
        for _ in 0..=MAX_DEPTH {
            let slot = self.slot(at);
            if slot.marks.is_watched() && concerns(&slot.marks, slot.budget.load().used) {
                self.press(at, Cause::Use);
            }
            if at == ROOT {
                return;
            }
            at = slot.parent.load(Ordering::Relaxed);
        }
    }

    /// A node refused a request for `asked` bytes, as it has too little left.
    pub(crate) fn pressure_refused(&self, node: Index, asked: usize) {
        // Evicting everybody would not help with more than there can be: no pressure, but a mistake, or malice.
        if !self.watches.is_empty() && asked <= self.scale().bytes(self.least_limit(node)) {
            self.press(node, Cause::Refusal);
        }
    }

    /// A limit, or the total, changed: that of every node below changed with it.
    pub(crate) fn pressure_relimited(&self) {
        if self.watches.is_empty() {
            return;
        }
        for at in 0..MAX_WATCHES {
            let node = self.watches.table.with(|table| table.places[at].as_ref().map(|entry| entry.node));
            if let Some(node) = node {
                self.press(node, Cause::Use);
            }
        }
    }

    /// The least of a node's limit and those above it.
    fn least_limit(&self, node: Index) -> Units {
        let mut at = node;
        let mut least = Units::MAX;
        for _ in 0..=MAX_DEPTH {
            let slot = self.slot(at);
            least = least.least(&slot.budget.load().limit);
            if at == ROOT {
                break;
            }
            at = slot.parent.load(Ordering::Relaxed);
        }
        least.least(&self.slot(ROOT).budget.load().limit)
    }

    fn root_generation(&self) -> u32 {
        self.slot(ROOT).generation()
    }

    /// Asks the watches of a node, tells whom it concerns, and sets the marks anew.
    #[cold]
    fn press(&self, node: Index, cause: Cause) {
        let mut cause = cause;
        for round in 1..=MAX_ROUNDS {
            let mut from = 0;
            while let Some(next) = self.ask(from, node, cause) {
                from = next;
            }
            cause = Cause::Use;
            if !self.set_marks(node, round == MAX_ROUNDS) {
                return;
            }
        }
    }

    /// Asks the first watch of a node from a place on, and tells its host. Returns the place after it, or `None` where
    /// there is no such watch.
    fn ask(&self, from: usize, node: Index, cause: Cause) -> Option<usize> {
        #[cfg_attr(not(feature = "alloc"), expect(unused_variables, reason = "nobody can be told"))]
        let (at, told) = self.watches.table.with(|table| {
            let generation = self.slot(node).generation();
            let (at, entry) = table.next(from, node, generation)?;
            let (used, limit) = (self.slot(node).budget.load().used, self.least_limit(node));
            entry.gauge.set_limit(limit);
            let crossed = match cause {
                Cause::Use => entry.gauge.see(used),
                Cause::Refusal => entry.gauge.refuse(used),
            };
            let mut highest = None;
            for (crossing, pending) in crossed.iter().zip(&mut entry.pending) {
                let Some(crossing) = crossing else { continue };
                let refused = cause == Cause::Refusal;
                let (level, crossings) = (crossing.percent, crossing.crossings);
                highest = Some(Pending { used, limit, level, refused, crossings });
                let before = pending.map_or(0, |pending: Pending| pending.crossings);
                let refused = refused || pending.is_some_and(|pending| pending.refused);
                let crossings = crossings.saturating_add(before);
                *pending = Some(Pending { used, limit, level, refused, crossings });
            }
            #[cfg(feature = "alloc")]
            let highest = highest.and_then(|event| Some((event, entry.generation, entry.callback.clone()?)));
            // Before anybody is told, who may panic.
            table.set_marks(self.slot(node), node, generation);
            Some((at, highest))
        })?;
        #[cfg(feature = "alloc")]
        if let Some((pending, generation, callback)) = &told {
            callback(&self.event(node, *generation, *pending));
        }
        Some(at + 1)
    }

    /// Sets a node's marks once all its watches were asked. `true` where use of it changed meanwhile so that they
    /// must be asked again; on the `last` round, every charge will ask instead.
    fn set_marks(&self, node: Index, last: bool) -> bool {
        self.watches.table.with(|table| {
            let slot = self.slot(node);
            let generation = slot.generation();
            table.set_marks(slot, node, generation);
            // By a swap that changes nothing: whoever swaps after it sees the marks.
            let seen = slot.budget.apply(|state| Ok::<_, core::convert::Infallible>((state, ())));
            let Ok((State { used, .. }, ())) = seen;
            let news = table.of_node(node, generation).any(|entry| entry.gauge.is_news(used));
            if news && last {
                slot.marks.ask_always();
            }
            news && !last
        })
    }
}

/// loom's own, so that a thread that waits for it lets the others go on.
#[cfg(loom)]
struct Lock<T>(loom::sync::Mutex<T>);

#[cfg(loom)]
impl<T> Lock<T> {
    fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    fn with<R>(&self, section: impl FnOnce(&mut T) -> R) -> R {
        section(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}
