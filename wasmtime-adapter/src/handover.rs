//! From the limiter to the creator: whose the memory is that is being made.
//!
//! wasmtime tells a creator nothing of the store. But it asks the store's limiter, and then the
//! creator, back to back on one thread and with no await in between (`vm/memory.rs`, `new_dynamic`).
//! So the limiter leaves its account here and the creator takes it.
//!
//! An offer can go stale: `Memory::new` asks the limiter and then makes the memory itself, and a
//! memory that grows from size 0 looks as if it were made. Each offer replaces the one before, is
//! good for one memory of just that size, for as long as its grant is there to be taken, and for no
//! longer than its store.
//!
//! What remains: after a `Memory::new` in a store with an account, a memory of the same type made
//! next on the thread in a store without one passes for the first, and takes its Charge.
//! [`Budgets::memory`](crate::Budgets::memory) leaves no offer behind.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};

use crate::account::Account;

struct Offer {
    account: Weak<Account>,
    minimum: usize,
    maximum: Option<usize>,
}

thread_local! {
    static OFFER: RefCell<Option<Offer>> = const { RefCell::new(None) };
    /// How often the creator was asked on this thread.
    static CREATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The limiter said yes to a memory of `minimum` bytes.
pub(crate) fn offer(account: &Arc<Account>, minimum: usize, maximum: Option<usize>) {
    OFFER.set(Some(Offer { account: Arc::downgrade(account), minimum, maximum }));
}

/// The account a memory is for, where the last offer on this thread is for such a memory. It is
/// used up either way.
pub(crate) fn accept(minimum: usize, maximum: Option<usize>) -> Option<Arc<Account>> {
    CREATIONS.set(CREATIONS.get() + 1);
    let offer = OFFER.take()?;
    let account = offer.account.upgrade()?;
    if (offer.minimum, offer.maximum) == (minimum, maximum) {
        return Some(account);
    }
    account.settle();
    None
}

/// How often the creator is asked on this thread during `work`.
pub(crate) fn count_creations(work: impl FnOnce()) -> usize {
    let before = CREATIONS.get();
    work();
    CREATIONS.get() - before
}
