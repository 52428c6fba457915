//! Enters a crate's scope around calls into its guest.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmtime::{CallHook, Store};
use wrt_memory::Scope;

use crate::account::{Account, StoreAccount};
use crate::budgets::Budgets;

/// A call that is under way on this thread: or was, before a panic unwound it, as wasmtime does not
/// report that.
struct Call {
    /// The attached store, by its number.
    store: u64,
    /// Only compared, never followed.
    account: *const Account,
    _scope: Scope,
}

thread_local! {
    /// Innermost last.
    static CALLS: RefCell<Vec<Call>> = const { RefCell::new(Vec::new()) };
}

static ATTACHED: AtomicU64 = AtomicU64::new(0);

impl Budgets {
    /// Names the account in a store's data as its limiter, and enters its crate's scope around every call
    /// into wasm: host functions the guest calls run in it too, so what they [`allocate`](wrt_memory::allocate)
    /// is charged to the guest.
    ///
    /// For stores that are called synchronously. A future is polled by many threads: for async stores use
    /// `Store::limiter_async` and [`StoreAccount::run`]. Takes the place of the store's call hook.
    ///
    /// When a host function panics, wasmtime does not report that the call is over. The scope is then
    /// left when the store is dropped, or a call that it was made in returns. A host that goes on with
    /// the store after such a panic holds [`StoreAccount::enter`]'s guard around its calls instead.
    pub fn attach<T: 'static>(
        &self,
        store: &mut Store<T>,
        account: impl Fn(&mut T) -> &mut StoreAccount + Clone + Send + Sync + 'static,
    ) {
        let limiter = account.clone();
        store.limiter(move |data| limiter(data));
        let number = ATTACHED.fetch_add(1, Ordering::Relaxed);
        store.call_hook(move |mut context, hook| {
            match hook {
                CallHook::CallingWasm => {
                    let account = account(context.data_mut());
                    let call = Call {
                        store: number,
                        account: Arc::as_ptr(&account.shared),
                        _scope: account.enter(),
                    };
                    CALLS.with_borrow_mut(|calls| calls.push(call));
                }
                CallHook::ReturningFromWasm => leave(number),
                CallHook::CallingHost | CallHook::ReturningFromHost => {}
            }
            Ok(())
        });
    }
}

/// A call into a store has returned: it is over, and so is every call made in it.
fn leave(store: u64) {
    let left = CALLS.with_borrow_mut(|calls| {
        let at = calls.iter().rposition(|call| call.store == store);
        at.map(|at| calls.split_off(at))
    });
    // Dropped after the borrow ends: it may have the last handle of its manager.
    drop(left);
}

/// The store of this account ends: no call into it is under way.
pub(crate) fn forget_calls(account: &Arc<Account>) {
    let account = Arc::as_ptr(account);
    // `try_with`: a store may be dropped while the thread's locals are destroyed.
    let left = CALLS.try_with(|calls| {
        let mut calls = calls.borrow_mut();
        let over = calls.iter().any(|call| call.account == account);
        over.then(|| calls.extract_if(.., |call| call.account == account).collect::<Vec<_>>())
    });
    drop(left);
}
