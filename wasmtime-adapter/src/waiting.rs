//! Growth that waits for bytes, in stores with an async limiter.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use wrt_memory::{Charge, MemoryError};

use crate::account::StoreAccount;
use crate::limiter::Asked;

/// Makes the future that ends a wait.
#[derive(Clone)]
pub(crate) struct Timer(Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>);

impl std::fmt::Debug for Timer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Timer")
    }
}

impl StoreAccount {
    /// Lets what would be denied wait for bytes first: growth, and the making of memories and tables. `timer`
    /// makes a future for each wait, of whatever runtime, that is ready when the wait is to be over; then it
    /// is denied as [`on_denial`](Self::on_denial) says. What can never be granted is denied at once.
    ///
    /// First come, first served, and nothing is held meanwhile:
    /// [`charge_or_wait`](wrt_memory::CrateHandle::charge_or_wait) says how. The guest is suspended; its
    /// thread is free. Needs `Store::limiter_async`: a store with a sync limiter does not wait, and neither does
    /// growth of which no limiter is asked, that of shared memories.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// # use wasmtime::{Config, Engine, Store};
    /// # use wrt_memory::{CrateSettings, UnifiedMemoryManager};
    /// # use wrt_memory_wasmtime::Budgets;
    /// # fn main() -> wasmtime::Result<()> {
    /// # let manager = Arc::new(UnifiedMemoryManager::builder().total(1 << 20).build()?);
    /// # let budgets = Budgets::new(manager.clone())?;
    /// # let mut config = Config::new();
    /// # budgets.configure(&mut config);
    /// # let engine = Engine::new(&config)?;
    /// # let guest = manager.register("guest", CrateSettings::new())?;
    /// let account = budgets.account(guest)?.wait(|| tokio::time::sleep(Duration::from_secs(1)));
    /// let mut store = Store::new(&engine, account);
    /// store.limiter_async(|account| account);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait<F>(mut self, timer: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.timer = Some(Timer(Arc::new(move || Box::pin(timer()))));
        self
    }

    /// Charges for a growth; where there are not enough bytes, when there are.
    pub(crate) async fn charge_or_wait(&self, asked: &Asked) -> Result<Charge<'static>, MemoryError> {
        let Some(Timer(timer)) = &self.timer else {
            return self.handle().charge(asked.requested, asked.cost);
        };
        // What this store has surely and keeps: what is to grow may be among what it keeps, so not the sum.
        let besides = asked.besides.max(self.kept());
        let mut waiting = self.handle().charge_or_wait(asked.requested, asked.cost).besides(besides);
        match waiting.poll_once() {
            Some(charged) => charged,
            None => waiting.until(timer()).await,
        }
    }
}
