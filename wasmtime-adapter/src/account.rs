//! What a store owes its crate that no memory object answers for.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use spin::RelaxStrategy;
use spin::mutex::{SpinMutex, SpinMutexGuard};
use wasmtime::MemoryType;
use wrt_memory::provider::ProviderError;
use wrt_memory::{Charge, CrateHandle, CrateId, InScope, MemoryError, Scope};

use crate::image::{HeldImage, PreparedMemory};
use crate::waiting::Timer;

/// What a refused growth does to the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDenial {
    /// `memory.grow` and `table.grow` return -1 and the guest goes on.
    #[default]
    Refuse,
    /// The guest traps; the error is the [`MemoryError`], which names the crate and the figures.
    Trap,
}

/// One store's account with its crate: the store's limiter, and the owner of every Charge that no
/// memory object took over.
///
/// Dropping it, as the store's data is dropped, gives those back. Memory objects give theirs back
/// themselves. So it belongs into the data of one store and stays there for that store's life: taken
/// out before, it gives back what the store's tables still occupy.
///
/// A limiter that asks this one and others has to ask this one last: what it granted and somebody
/// else then refused stays charged until the store ends.
#[derive(Debug)]
pub struct StoreAccount {
    pub(crate) shared: Arc<Account>,
    pub(crate) on_denial: OnDenial,
    /// How long growth may wait for bytes; not at all where there is none.
    pub(crate) timer: Option<Timer>,
    /// Bytes of a table's element.
    pub(crate) table_element: usize,
    /// Bytes of a host page.
    pub(crate) page: usize,
    /// Whether a table of size 0 was ever made: until then, growing from 0 is making one.
    pub(crate) empty_table: bool,
    /// What growth is charged on while it is asked for; of no bytes in between. Adding to a charge takes less than making
    /// one. None before the third growth: a store whose memories do not grow pays nothing for it.
    pub(crate) ready: Option<Charge<'static>>,
}

/// The part of an account that the store's memory objects see.
#[derive(Debug)]
pub(crate) struct Account {
    handle: CrateHandle<'static>,
    state: SpinMutex<State, Sleep>,
}

/// Nobody waits: wasmtime has whoever uses an account have its store alone. Which is why the lock is one that is taken by one
/// swap and let go by a store; a mutex of the standard library swaps twice, and asks whether anybody panics, which each growth
/// would pay for twice. Who takes an account out of its store can have two threads meet here. Then one sleeps, however
/// its priority is: who has the lock calls nobody, and is done before it wakes.
#[derive(Debug)]
enum Sleep {}

impl RelaxStrategy for Sleep {
    fn relax() {
        std::thread::sleep(Duration::from_micros(20));
    }
}

#[derive(Debug, Default)]
struct State {
    /// A growth that was granted, and nobody took over yet.
    pending: Option<Growth>,
    /// What that is charged; of no bytes while nothing is pending.
    granted: Option<Charge<'static>>,
    /// Grants that nobody will take over: host-made memories, tables, creations that failed. One,
    /// but for sums that a single Charge could not hold.
    kept: Vec<Charge<'static>>,
    last_denial: Option<MemoryError>,
    /// Memories of ours whose size is 0 now, those aside whose growth no limiter sees.
    empty: usize,
    /// Whether a memory of size 0 was ever made that is not ours.
    foreign_empty: bool,
    /// The store is gone: nothing is kept for it any more.
    ended: bool,
    /// The instantiation of a prepared module that is under way.
    prepared: Option<Instantiation>,
    /// Those it is part of, innermost last: apart, so that the one there mostly is takes no allocation.
    around: Vec<Instantiation>,
}

/// A prepared module that is being instantiated.
#[derive(Debug)]
struct Instantiation {
    memories: Arc<[PreparedMemory]>,
    /// The next of them that is made.
    next: usize,
}

/// A growth from `current` to `desired` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Growth {
    pub(crate) current: usize,
    pub(crate) desired: usize,
}

impl Account {
    /// A panic while the lock is held cannot leave the state half changed: every section moves whole
    /// values.
    fn state(&self) -> SpinMutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn handle(&self) -> &CrateHandle<'static> {
        &self.handle
    }

    /// Memory may grow, on what `charged` has: keeps that until it is [taken](Self::take) or [refunded](Self::refund).
    #[inline(always)]
    pub(crate) fn grant(&self, growth: Growth, charged: &mut Option<Charge<'static>>) {
        let mut state = self.state();
        state.keep_pending();
        state.pending = Some(growth);
        hand_over(&mut state.granted, charged);
    }

    /// Memory may not grow. Whatever was granted before and not taken over is kept, as with every answer. Says whether there
    /// may be a memory of size 0 that could grow.
    pub(crate) fn denied(&self, error: MemoryError) -> bool {
        let mut state = self.state();
        state.keep_pending();
        state.last_denial = Some(error);
        state.empty > 0 || state.foreign_empty
    }

    /// Keeps what was charged for something that no object of ours will own.
    pub(crate) fn keep(&self, granted: Result<Charge<'static>, MemoryError>) -> Result<(), MemoryError> {
        let mut state = self.state();
        match granted {
            Ok(charge) => {
                state.keep(charge);
                Ok(())
            }
            Err(error) => {
                state.last_denial = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Adds what the growth just granted was charged to `more`, where it was this one. Returns whether it was.
    #[inline(always)]
    pub(crate) fn take(&self, growth: Growth, more: &mut Option<Charge<'static>>) -> bool {
        let mut state = self.state();
        let granted = state.pending.take_if(|pending| *pending == growth).is_some();
        if granted {
            hand_over(more, &mut state.granted);
        }
        granted
    }

    /// The growth just granted will not happen: the memory would have to move.
    pub(crate) fn refund(&self) {
        let (pending, charge) = {
            let mut state = self.state();
            (state.pending.take(), state.granted.take())
        };
        // Given back after the lock is released.
        drop(charge);
        let Some(Growth { current, desired }) = pending else { return };
        let id = self.handle.id();
        if let Ok(node) = self.handle.manager().node(id) {
            let source = ProviderError::Unsupported {
                what: "growth past what is reserved for a memory that may not move, to",
                asked: desired,
                limit: current,
            };
            self.note_denial(MemoryError::Provider {
                id,
                name: node.name,
                asked: desired.saturating_sub(current),
                source,
            });
        }
    }

    /// Whoever was granted something did not come for it: it has to be somewhere.
    pub(crate) fn settle(&self) {
        self.state().keep_pending();
    }

    /// Notes a denial that was met elsewhere.
    pub(crate) fn note_denial(&self, error: MemoryError) {
        self.state().last_denial = Some(error);
    }

    fn last_denial(&self) -> Option<MemoryError> {
        self.state().last_denial.clone()
    }

    /// A memory of ours has size 0: growing from 0 need not be making one.
    pub(crate) fn empty_came(&self) {
        self.state().empty += 1;
    }

    /// It has another size now, or is gone.
    pub(crate) fn empty_went(&self) {
        let mut state = self.state();
        state.empty = state.empty.saturating_sub(1);
    }

    /// The store is about to make these memories. They are matched in their order, and nothing is made in between that
    /// is not empty: wasmtime makes a module's memories one after another, and runs no guest before they are all there.
    pub(crate) fn begin(&self, memories: Arc<[PreparedMemory]>) {
        let mut state = self.state();
        let around = state.prepared.replace(Instantiation { memories, next: 0 });
        state.around.extend(around);
    }

    /// What [`begin`](Self::begin) began is over. Says whether all the memories were made.
    pub(crate) fn finish(&self) -> bool {
        let mut state = self.state();
        let around = state.around.pop();
        let over = std::mem::replace(&mut state.prepared, around);
        over.is_some_and(|it| it.next == it.memories.len())
    }

    /// The Charge of the memory just granted that is made now, where it was this one, and what the memory starts with.
    pub(crate) fn take_for(&self, ty: &MemoryType, minimum: usize) -> Option<(Charge<'static>, NextImage)> {
        let mut state = self.state();
        let wanted = Growth { current: 0, desired: minimum };
        state.pending.take_if(|pending| *pending == wanted)?;
        let charge = state.granted.take()?;
        Some((charge, state.next_image(ty)))
    }

    fn kept(&self) -> usize {
        let state = self.state();
        state.granted.iter().chain(&state.kept).map(Charge::bytes).sum()
    }

    /// Gives back all that only the store could still have used.
    fn end(&self) {
        let given_back = {
            let mut state = self.state();
            state.ended = true;
            state.pending = None;
            (state.granted.take(), std::mem::take(&mut state.kept))
        };
        drop(given_back);
    }
}

/// An image, where the memory has one; an error, where it should not be made.
type NextImage = Result<Option<Arc<HeldImage>>, MemoryError>;

impl State {
    /// What a memory that is made now starts with.
    fn next_image(&mut self, ty: &MemoryType) -> NextImage {
        // The GC heap is made before a module's memories, of no bytes, and no hook tells it apart. A memory of no bytes
        // has no image.
        if ty.minimum() == 0 {
            return Ok(None);
        }
        let Some(under_way) = self.prepared.as_mut() else { return Ok(None) };
        let Some(expected) = under_way.memories.get(under_way.next) else { return Ok(None) };
        if !expected.is_for(ty) {
            return Err(MemoryError::InvalidConfig {
                what: "a memory was made, while a prepared module was instantiated, that is not the module's: one \
                       store instantiates one prepared module at a time, through `PreparedPre` alone",
            });
        }
        let image = expected.image().cloned();
        under_way.next += 1;
        Ok(image)
    }

    fn keep_pending(&mut self) {
        if let Some(pending) = self.pending.take() {
            self.foreign_empty |= pending.desired == 0;
            if let Some(charge) = self.granted.take() {
                self.keep(charge);
            }
        }
    }

    fn keep(&mut self, charge: Charge<'static>) {
        if self.ended {
            return;
        }
        let apart = match self.kept.last_mut() {
            Some(kept) => kept.merge(charge).err(),
            None => Some(charge),
        };
        self.kept.extend(apart);
    }
}

/// Moves what `from` has to `to`, as numbers where there are charges on both sides: copying one takes as long as a
/// charge.
#[inline(always)]
fn hand_over(to: &mut Option<Charge<'static>>, from: &mut Option<Charge<'static>>) {
    if let (Some(to), Some(from)) = (&mut *to, &mut *from)
        && to.absorb(from)
    {
        return;
    }
    // What `to` had, if anything, was of no bytes.
    *to = from.take();
}

impl StoreAccount {
    pub(crate) fn new(handle: CrateHandle<'static>, table_element: usize, page: usize) -> Self {
        Self {
            shared: Arc::new(Account { handle, state: SpinMutex::default() }),
            on_denial: OnDenial::default(),
            timer: None,
            table_element,
            page,
            empty_table: false,
            ready: None,
        }
    }

    /// What a refused growth does to the guest.
    pub fn on_denial(mut self, on_denial: OnDenial) -> Self {
        self.on_denial = on_denial;
        self
    }

    /// The crate.
    pub fn crate_id(&self) -> CrateId {
        self.shared.handle().id()
    }

    /// The crate and its manager.
    pub fn handle(&self) -> &CrateHandle<'static> {
        self.shared.handle()
    }

    /// What was denied last, with the figures; a guest that got -1 does not see them.
    pub fn last_denial(&self) -> Option<MemoryError> {
        self.shared.last_denial()
    }

    /// Bytes charged that the store itself answers for: tables, host-made memories, and memories of
    /// instantiations that failed.
    pub fn kept(&self) -> usize {
        self.shared.kept()
    }

    /// Enters the crate's scope on this thread, until the guard is dropped. For calls of sync stores
    /// there is [`Budgets::attach`](crate::Budgets::attach), which does it by itself.
    pub fn enter(&self) -> Scope {
        Scope::enter(self.handle().clone())
    }

    /// Runs a future in the crate's scope: entered at every poll, left in between.
    pub fn run<F: Future>(&self, future: F) -> InScope<F> {
        Scope::run(self.handle().clone(), future)
    }
}

impl Drop for StoreAccount {
    fn drop(&mut self) {
        crate::scope::forget_calls(&self.shared);
        self.shared.end();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use wrt_memory::{CrateSettings, UnifiedMemoryManager};

    use super::*;
    use crate::image::Emptied;

    const PAGE: usize = 65_536;

    #[test]
    fn only_the_memory_that_comes_next_gets_an_image_and_a_strange_one_is_refused() {
        let manager = Arc::new(UnifiedMemoryManager::builder().total(1 << 30).build().unwrap());
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        let handle = CrateHandle::new(manager, id).unwrap();
        let wasm = wrt_memory_guests::assemble(
            r#"(module (memory 1 2) (memory 1 2) (data (memory 1) (i32.const 0) "other"))"#,
        );
        let account = Account { handle: handle.clone(), state: SpinMutex::default() };
        account.begin(Emptied::of(&wasm).unwrap().hold(&handle).unwrap());
        let next = |ty: &MemoryType, minimum: usize| {
            let growth = Growth { current: 0, desired: minimum };
            account.grant(growth, &mut Some(handle.charge(minimum, minimum).unwrap()));
            account.take_for(ty, minimum).unwrap().1
        };
        // Of no bytes, as the GC heap is.
        assert!(next(&MemoryType::new(0, None), 0).unwrap().is_none());
        let strangers = [
            MemoryType::new(1, None),
            MemoryType::new(1, Some(3)),
            MemoryType::new(2, Some(2)),
            MemoryType::new64(1, Some(2)),
            MemoryType::shared(1, 2),
        ];
        for stranger in &strangers {
            assert!(next(stranger, PAGE).is_err(), "{stranger:?}");
        }
        let own = MemoryType::new(1, Some(2));
        assert!(next(&own, PAGE).unwrap().is_none());
        assert!(next(&own, PAGE).unwrap().is_some());
        // All are made.
        assert!(next(&own, PAGE).unwrap().is_none());
        assert!(next(&strangers[0], PAGE).unwrap().is_none());
        assert!(account.finish());
    }

    #[test]
    fn what_was_granted_is_taken_once_by_whom_it_was_for_and_else_kept() {
        let manager = Arc::new(UnifiedMemoryManager::builder().total(1 << 30).build().unwrap());
        let id = manager.register("guest", CrateSettings::new()).unwrap();
        let handle = CrateHandle::new(&manager, id).unwrap();
        let account = Account { handle: handle.clone(), state: SpinMutex::default() };
        let used = || manager.node(id).unwrap().used;
        let grow = |pages: usize| Growth { current: pages * PAGE, desired: (pages + 1) * PAGE };
        let (mut ready, mut more) = (None, None);
        // The first comes as a charge of its own, the others are added to what is there by then.
        for pages in 1..5 {
            let growth = grow(pages);
            let mut charge = match &mut ready {
                None => Some(handle.charge(PAGE, PAGE).unwrap()),
                Some(ready) => {
                    let ready: &mut Charge<'static> = ready;
                    ready.extend(PAGE, PAGE).unwrap();
                    None
                }
            };
            let from = if charge.is_some() { &mut charge } else { &mut ready };
            account.grant(growth, from);
            if charge.is_some() {
                ready = charge;
            }
            assert!(ready.as_ref().is_none_or(|ready| ready.bytes() == 0));
            assert!(!account.take(grow(pages + 1), &mut more), "of another size");
            assert_eq!(account.kept(), PAGE);
            assert!(account.take(growth, &mut more) && !account.take(growth, &mut more));
            let all = more.as_ref().map(|more| (more.bytes(), more.requested()));
            assert_eq!((account.kept(), all), (0, Some((pages * PAGE, pages * PAGE))));
        }
        assert!(ready.is_some(), "nothing is made anew from the third growth on");
        // Nobody comes for these: the next answer, a denial too, keeps them until the store ends.
        for denied in [false, true] {
            account.grant(grow(7), &mut Some(handle.charge(PAGE, PAGE).unwrap()));
            if denied {
                account.denied(MemoryError::InvalidConfig { what: "denied" });
            } else {
                account.grant(grow(8), &mut Some(handle.charge(PAGE, PAGE).unwrap()));
                assert!(account.take(grow(8), &mut more));
            }
            assert!(!account.take(grow(7), &mut more));
        }
        assert_eq!((account.kept(), used()), (2 * PAGE, 7 * PAGE));
        // This one is given back.
        account.grant(grow(9), &mut Some(handle.charge(PAGE, PAGE).unwrap()));
        account.refund();
        assert_eq!((account.kept(), used()), (2 * PAGE, 7 * PAGE));
        account.end();
        assert_eq!((account.kept(), used()), (0, 5 * PAGE));
        drop(more);
        assert_eq!(used(), 0);
    }
}
