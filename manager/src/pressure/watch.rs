//! What a host holds while it watches a budget.

use super::event::PressureEvent;
use super::settings::PressureSettings;
use super::table::Place;
use crate::budget::CrateId;
use crate::error::Result;
use crate::handle::ManagerHandle;

/// A host's watch over the pressure on the pool, or on a crate: it is told, or asks, when use reaches a level.
///
/// Growth of guests compares with one number a budget, with or without watches; what there is to do when it is
/// reached is bounded, and walks no crates. A level is signalled once, and again when use has been below it by the
/// [hysteresis](PressureSettings::hysteresis). A guest that makes it come and go all the same causes few signals: of
/// its crossings, the 1st, 3rd, 7th, 15th… are signalled, and after that every 1024th, until the host
/// [takes](Self::take_events) the events. Take them whenever a signal is dealt with.
///
/// A manager can have 64 watches; on 32-bit targets 8, and without `alloc` 2.
///
/// ```
/// use wrt_memory::{CrateSettings, PressureSettings, PressureWatch, UnifiedMemoryManager};
/// # fn main() -> wrt_memory::Result<()> {
/// let manager = UnifiedMemoryManager::builder().total(1 << 20).stock(0).build()?;
/// let guest = manager.register("guest", CrateSettings::new())?;
/// let watch = PressureWatch::new(&manager, PressureSettings::new().levels(&[50, 90]))?;
/// let charge = manager.charge(guest, 600_000, 600_000)?;
/// assert_eq!(watch.level(), Some(50));
/// for event in watch.take_events() {
///     assert_eq!((event.level, event.used), (50, 600_000));
///     # #[cfg(feature = "alloc")]
///     assert_eq!(watch.rank()?[0].returns, 600_000);
/// }
/// # drop(charge);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a watch ends it"]
pub struct PressureWatch<'m> {
    owner: ManagerHandle<'m>,
    over: Option<CrateId>,
    place: Place,
}

impl<'m> PressureWatch<'m> {
    /// A watch that is asked. A level that is reached already is an event.
    ///
    /// # Errors
    /// [`InvalidConfig`](crate::MemoryError::InvalidConfig): settings that cannot be, or a manager with as many watches as it
    /// can have; an id that is unknown, stale or foreign.
    pub fn new(manager: impl Into<ManagerHandle<'m>>, settings: PressureSettings) -> Result<Self> {
        let owner = manager.into();
        let place = owner.tracker().place_watch(
            settings,
            #[cfg(feature = "alloc")]
            None,
        )?;
        Ok(Self { owner, over: settings.over, place })
    }

    /// A watch that also tells, at once, on the thread whose request reached the level: in the middle of a guest's
    /// growth. So `told` must be short, must not panic and must not call into guests. No lock is held: it may ask the
    /// manager, but the ranking walks all crates and belongs elsewhere. Wake up a thread, and let that one
    /// [take](Self::take_events) the events. `told` may still be running when the watch has been dropped.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    #[cfg(feature = "alloc")]
    pub fn with_callback(
        manager: impl Into<ManagerHandle<'m>>,
        settings: PressureSettings,
        told: impl Fn(&PressureEvent) + Send + Sync + 'static,
    ) -> Result<Self> {
        let owner = manager.into();
        let told: alloc::boxed::Box<dyn Fn(&PressureEvent) + Send + Sync> = alloc::boxed::Box::new(told);
        let place = owner.tracker().place_watch(settings, Some(told.into()))?;
        Ok(Self { owner, over: settings.over, place })
    }

    /// The highest level that is reached and not over, in per cent.
    pub fn level(&self) -> Option<u8> {
        self.owner.tracker().watched_level(self.place)
    }

    /// What happened since this was called last: at most one event a level, the lowest first, with how often it was
    /// reached and the figures of the last time that was signalled. The next crossing of each is then signalled
    /// again.
    pub fn take_events(&self) -> impl Iterator<Item = PressureEvent> + use<> {
        self.owner.tracker().take_events(self.place).into_iter().flatten()
    }

    /// The crates below what is watched, by what evicting each would give back to it: see
    /// [`rank`](crate::UnifiedMemoryManager::rank).
    ///
    /// # Errors
    /// Of a crate that was retired: its id is stale.
    #[cfg(feature = "alloc")]
    pub fn rank(&self) -> Result<alloc::vec::Vec<super::Candidate>> {
        self.owner.rank(self.over)
    }
}

impl Drop for PressureWatch<'_> {
    fn drop(&mut self) {
        self.owner.tracker().remove_watch(self.place);
    }
}

impl core::fmt::Debug for PressureWatch<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("PressureWatch").field("over", &self.over).finish_non_exhaustive()
    }
}
