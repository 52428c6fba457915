//! A budget's word in memory, and the one loop that changes it.

use super::amount::Units;
use super::state::State;
use super::word::{Word, pack, unpack};
use crate::sync::{AtomicBits, Ordering, const_fn};

/// A budget that any number of threads change: each change is one compare-and-swap of the whole
/// word, so every thread sees the transitions in one order and no state between two of them.
pub(crate) struct AtomicBudget {
    word: AtomicBits,
}

impl AtomicBudget {
    const_fn! {
        /// A closed budget of version 0.
        pub(crate) const fn closed() -> Self {
            // `pack` of a closed state, which no `const fn` can call through a trait.
            const CLOSED: crate::sync::Bits = 1 << (2 * <crate::sync::Bits as super::word::Word>::FIELD_BITS);
            Self { word: AtomicBits::new(CLOSED) }
        }
    }

    /// The state now.
    #[inline]
    pub(crate) fn load(&self) -> State<Units> {
        unpack(self.word.load(Ordering::SeqCst))
    }

    /// Replaces the state of a budget nobody else can reach: one that is being registered.
    pub(crate) fn reset(&self, state: &State<Units>) {
        self.word.store(pack(state), Ordering::SeqCst);
    }

    /// Applies a transition. Returns what it gave and the state it led to; a refusal changes
    /// nothing.
    ///
    /// Sequentially consistent, because the stock protocol (see `stock.rs`) reads another atomic
    /// after the swap and relies on the order of the two.
    #[inline]
    pub(crate) fn apply<T, E>(
        &self,
        mut transition: impl FnMut(State<Units>) -> Result<(State<Units>, T), E>,
    ) -> Result<(State<Units>, T), E> {
        let mut found = self.word.load(Ordering::SeqCst);
        loop {
            let state = unpack(found);
            let (next, given) = transition(state)?;
            let changed = found.change(&state, &next);
            match self.word.compare_exchange_weak(found, changed, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Ok((next, given)),
                Err(now) => found = now,
            }
        }
    }

    /// As [`apply`](Self::apply), once: `None` also where another thread came between, or seemed to, and it is to be tried
    /// again.
    #[inline(always)]
    pub(crate) fn apply_once(
        &self,
        transition: impl FnOnce(State<Units>) -> Option<State<Units>>,
    ) -> Option<State<Units>> {
        let found = self.word.load(Ordering::SeqCst);
        let state = unpack(found);
        let next = transition(state)?;
        let changed = found.change(&state, &next);
        let swapped = self.word.compare_exchange_weak(found, changed, Ordering::SeqCst, Ordering::SeqCst);
        swapped.is_ok().then_some(next)
    }
}
