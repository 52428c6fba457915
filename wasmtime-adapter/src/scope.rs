//! Enters a crate's scope around calls into its guest.

use std::cell::RefCell;

use wasmtime::{CallHook, Store};
use wrt_memory::Scope;

use crate::account::StoreAccount;
use crate::budgets::Budgets;

thread_local! {
    /// The scopes of the calls that are under way on this thread.
    static CALLS: RefCell<Vec<Scope>> = const { RefCell::new(Vec::new()) };
}

impl Budgets {
    /// Names the account in a store's data as its limiter, and enters its crate's scope around every call
    /// into wasm: host functions the guest calls run in it too, so what they [`allocate`](wrt_memory::allocate)
    /// is charged to the guest.
    ///
    /// For stores that are called synchronously. A future is polled by many threads: for async stores use
    /// `Store::limiter_async` and [`StoreAccount::run`]. Takes the place of the store's call hook.
    pub fn attach<T: 'static>(
        &self,
        store: &mut Store<T>,
        account: impl Fn(&mut T) -> &mut StoreAccount + Clone + Send + Sync + 'static,
    ) {
        let limiter = account.clone();
        store.limiter(move |data| limiter(data));
        store.call_hook(move |mut context, hook| {
            match hook {
                CallHook::CallingWasm => {
                    let scope = account(context.data_mut()).enter();
                    CALLS.with_borrow_mut(|calls| calls.push(scope));
                }
                CallHook::ReturningFromWasm => {
                    // Dropped after the borrow ends: it may be the last handle of its manager.
                    let left = CALLS.with_borrow_mut(Vec::pop);
                    drop(left);
                }
                CallHook::CallingHost | CallHook::ReturningFromHost => {}
            }
            Ok(())
        });
    }
}
