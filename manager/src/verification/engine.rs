//! When checks are made, how many of them, and what comes of one that fails.

use super::backend::VerificationBackend;
use super::canary::Fence;
use super::checker::Checker;
use super::invariant::{Handed, Mismatch, Subject};
use super::level::VerificationLevel;
#[cfg(feature = "alloc")]
use super::live::Live;
use super::live::Standing;
use super::violation::Violation;
use crate::budget::{CrateId, ROOT};
use crate::error::{MemoryError, Result};
use crate::lock::Lock;
use crate::manager::UnifiedMemoryManager;
use crate::provider::{Block, ProviderKind, Request};
use crate::sync::{AtomicU32, Ordering};

#[cfg(feature = "alloc")]
use crate::sync::Arc;
#[cfg(feature = "alloc")]
use alloc::vec::Vec;

/// What an engine is made with.
pub(crate) struct EngineSettings {
    pub(crate) level: VerificationLevel,
    /// Of so many operations one is looked at; at least 1.
    pub(crate) one_in: u32,
    #[cfg(feature = "alloc")]
    pub(crate) backends: Vec<Arc<dyn VerificationBackend>>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            level: VerificationLevel::Off,
            one_in: 1,
            #[cfg(feature = "alloc")]
            backends: Vec::new(),
        }
    }
}

/// Checks the crate an operation touches. Without the feature `verification` the level is always
/// `Off` and nothing is compiled in.
///
/// A check that fails returns an error from the operation where that can, is counted, kept as the last one, told to every
/// [`VerificationBackend`], and closes the crate: from then on it is charged for nothing
/// ([`CrateClosed`](MemoryError::CrateClosed)), while what it has can be freed, and the crate retired.
pub struct VerificationEngine {
    #[cfg(feature = "verification")]
    on: On,
}

/// What there is with the feature.
#[cfg_attr(not(feature = "verification"), allow(dead_code, reason = "made with the feature only"))]
pub(super) struct On {
    settings: EngineSettings,
    /// Operations so far, while only some are looked at.
    operations: AtomicU32,
    violations: AtomicU32,
    last: Lock<Option<Violation>>,
    #[cfg(feature = "alloc")]
    live: Live,
}

/// What is to become of a block that was looked at before it is freed.
pub(crate) struct Release {
    /// Whether it may be given to its provider: not where that has it back already.
    pub(crate) free: bool,
    /// What was wrong with it.
    pub(crate) checked: core::result::Result<(), Violation>,
}

impl VerificationEngine {
    pub(crate) fn new(settings: EngineSettings) -> Self {
        #[cfg(not(feature = "verification"))]
        let _ = settings;
        Self {
            #[cfg(feature = "verification")]
            on: On {
                settings,
                operations: AtomicU32::new(0),
                violations: AtomicU32::new(0),
                last: Lock::new(None),
                #[cfg(feature = "alloc")]
                live: Live::new(),
            },
        }
    }

    /// The engine where it does anything.
    #[inline]
    pub(super) fn on(&self) -> Option<&On> {
        #[cfg(feature = "verification")]
        return (self.on.settings.level != VerificationLevel::Off).then_some(&self.on);
        #[cfg(not(feature = "verification"))]
        None
    }

    /// The level in force.
    #[inline]
    pub fn level(&self) -> VerificationLevel {
        self.on().map_or(VerificationLevel::Off, |on| on.settings.level)
    }

    /// Of so many operations one is looked at.
    pub fn sampling(&self) -> u32 {
        self.on().map_or(1, |on| on.settings.one_in)
    }

    /// Checks that failed so far, those in a drop, which can return no error, included.
    pub fn violations(&self) -> u32 {
        self.on().map_or(0, |on| on.violations.load(Ordering::Relaxed))
    }

    /// The check that failed last.
    pub fn last_violation(&self) -> Option<Violation> {
        self.on()?.last.with(|last| *last)
    }

    /// What to lay around a block of such a request.
    #[inline(always)]
    pub(crate) fn fence(&self, kind: ProviderKind, request: &Request) -> Fence {
        Fence::of(self.level(), kind, request)
    }

    /// Before a block grows, and after it did.
    #[inline(always)]
    pub(crate) fn growing<'a>(
        &self,
        manager: &UnifiedMemoryManager,
        id: CrateId,
        handed: impl FnOnce() -> Handed<'a>,
    ) -> core::result::Result<(), Violation> {
        match self.on() {
            Some(on) if on.is_due() => on.check(manager, id, Some(&handed()), false),
            _ => Ok(()),
        }
    }

    /// Before a block is given back, while its crate is still charged for it.
    #[inline(always)]
    pub(crate) fn before_free<'a>(
        &self,
        manager: &UnifiedMemoryManager,
        id: CrateId,
        outer: &Block,
        handed: impl FnOnce() -> Handed<'a>,
    ) -> Release {
        match self.on() {
            Some(on) => on.before_free(manager, id, outer, handed()),
            None => Release { free: true, checked: Ok(()) },
        }
    }

    /// After a block and its charge were given back.
    #[inline(always)]
    pub(crate) fn freed(
        &self,
        manager: &UnifiedMemoryManager,
        id: CrateId,
    ) -> core::result::Result<(), Violation> {
        match self.on() {
            Some(on) if on.is_due() => on.check(manager, id, None, false),
            _ => Ok(()),
        }
    }

    /// All budgets and loans, exactly: nothing may be under way.
    pub(crate) fn at_rest(&self, manager: &UnifiedMemoryManager) -> core::result::Result<(), Violation> {
        let Some(on) = self.on() else { return Ok(()) };
        let tracker = &manager.tracker;
        tracker.nodes().try_for_each(|index| on.check(manager, tracker.id_at(index), None, index == ROOT))
    }
}

impl On {
    /// Whether this operation is one of those that are looked at: the first, and then one in so many, at distances that
    /// differ a little. Every so manieth would, of a program that repeats itself, see the same step again and again and
    /// others never. (Multiples of the golden ratio are spread evenly over a circle, and those of every second, third and so
    /// on of them are as well.)
    fn is_due(&self) -> bool {
        let one_in = self.settings.one_in;
        one_in == 1 || {
            let place = self.operations.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9);
            (u64::from(place) * u64::from(one_in)) >> 32 == 0
        }
    }

    /// After a block was handed out by its provider, while its crate is charged for it: `outer` is the block as the
    /// provider knows it. An error says also whether the provider may have it back: not where others use it.
    pub(super) fn handed_out(
        &self,
        manager: &UnifiedMemoryManager,
        id: CrateId,
        outer: &Block,
        handed: Handed<'_>,
        must: bool,
    ) -> core::result::Result<(), (Violation, bool)> {
        #[cfg(feature = "alloc")]
        let standing = self.live.enter(outer, id);
        #[cfg(not(feature = "alloc"))]
        let standing = Standing::Sound;
        let overlaps = matches!(standing, Standing::Overlaps { .. });
        let handed = Handed { standing, ..handed };
        // What overlaps is never handed out, looked at or not, once that is asked for.
        let must = must || overlaps && self.settings.level >= VerificationLevel::Standard;
        if !must && !self.is_due() {
            return Ok(());
        }
        self.check(manager, id, Some(&handed), false).map_err(|violation| {
            #[cfg(feature = "alloc")]
            if !overlaps {
                self.live.leave(outer, id);
            }
            #[cfg(not(feature = "alloc"))]
            let _ = outer;
            (violation, !overlaps)
        })
    }

    #[cold]
    fn before_free(
        &self,
        manager: &UnifiedMemoryManager,
        id: CrateId,
        outer: &Block,
        handed: Handed<'_>,
    ) -> Release {
        #[cfg(feature = "alloc")]
        let standing = self.live.leave(outer, id);
        #[cfg(not(feature = "alloc"))]
        let (standing, _) = (Standing::Sound, outer);
        let free = standing != Standing::NotLive;
        let handed = Handed { standing, ..handed };
        // To free twice is never left unseen.
        let checked =
            if !free || self.is_due() { self.check(manager, id, Some(&handed), false) } else { Ok(()) };
        Release { free, checked }
    }

    /// Checks every invariant of every backend, up to the first that does not hold.
    #[cold]
    fn check(
        &self,
        manager: &UnifiedMemoryManager,
        id: CrateId,
        block: Option<&Handed<'_>>,
        at_rest: bool,
    ) -> core::result::Result<(), Violation> {
        let subject = Subject { manager, id, block, at_rest };
        let own: &[&dyn VerificationBackend] = &[
            &Checker,
            #[cfg(feature = "formal-verification")]
            &manager.tracker.observers.ghost,
        ];
        #[cfg(feature = "alloc")]
        let backends = own.iter().copied().chain(self.settings.backends.iter().map(|backend| &**backend));
        #[cfg(not(feature = "alloc"))]
        let backends = own.iter().copied();
        for invariant in backends.flat_map(VerificationBackend::invariants) {
            if invariant.level() > self.settings.level {
                continue;
            }
            if let Err(Mismatch { id: at, found, expected }) = invariant.check(&subject) {
                let name = manager.tracker.name_of(at.index);
                let violation = Violation { id: at, name, invariant, found, expected };
                self.raise(manager, id, violation);
                return Err(violation);
            }
        }
        Ok(())
    }

    /// Closes the crate whose operation it was, and that where it was found, and has everybody told.
    fn raise(&self, manager: &UnifiedMemoryManager, touched: CrateId, violation: Violation) {
        self.violations.fetch_add(1, Ordering::Relaxed);
        self.last.with(|last| *last = Some(violation));
        for id in [touched, violation.id] {
            // The pool cannot be closed: every crate would be.
            if id.index != ROOT {
                manager.tracker.seal(id);
            }
        }
        #[cfg(feature = "alloc")]
        for backend in &self.settings.backends {
            backend.violated(&violation);
        }
    }
}

impl UnifiedMemoryManager {
    /// Checks every crate and all loans by the level in force, exactly: to be called while no operation is under way on any
    /// thread, as bytes on their way would be missed. Does nothing at level [`Off`](VerificationLevel::Off).
    ///
    /// # Errors
    /// [`Violation`](MemoryError::Violation): the crate where it was found is closed.
    pub fn verify(&self) -> Result<()> {
        self.verification.at_rest(self).map_err(MemoryError::Violation)
    }
}

impl core::fmt::Debug for VerificationEngine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("VerificationEngine")
            .field("level", &self.level())
            .field("sampling", &self.sampling())
            .field("violations", &self.violations())
            .finish_non_exhaustive()
    }
}
