//! Where an instance waits: for its turn, for its output to be read, for its input. It has no turn while it waits, and
//! waits no longer than it may run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// One instance's.
pub struct Desk {
    runtime: Handle,
    turns: Arc<Semaphore>,
    turn: Mutex<Option<OwnedSemaphorePermit>>,
    deadline: Mutex<Option<Instant>>,
    over: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Without a turn, and without a deadline.
    pub fn new(runtime: Handle, turns: Arc<Semaphore>) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            turns,
            turn: Mutex::default(),
            deadline: Mutex::default(),
            over: AtomicBool::new(false),
        })
    }

    /// Whether its time was up.
    pub fn is_over(&self) -> bool {
        let over = locked(&self.deadline).is_some_and(|deadline| Instant::now() >= deadline);
        self.over.fetch_or(over, Ordering::Relaxed) || over
    }

    /// That its time was up, however it was found.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Does something within the time that is left, and takes off what it took.
    pub fn within<T>(&self, left: &mut Option<Duration>, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        // A deadline beyond what a clock can say is none.
        *locked(&self.deadline) = left.and_then(|left| began.checked_add(left));
        self.next_turn();
        let result = work();
        self.give_up_turn();
        *locked(&self.deadline) = None;
        *left = left.map(|left| left.saturating_sub(began.elapsed()));
        result
    }

    /// Lets others have theirs first.
    pub fn next_turn(&self) {
        self.give_up_turn();
        // Never closed.
        *locked(&self.turn) = self.runtime.block_on(self.turns.clone().acquire_owned()).ok();
    }

    fn give_up_turn(&self) {
        locked(&self.turn).take();
    }

    /// Waits, without a turn. `None` where the time was up before.
    pub fn wait<T>(&self, event: impl Future<Output = T>) -> Option<T> {
        self.give_up_turn();
        let deadline = *locked(&self.deadline);
        let happened = self.runtime.block_on(async {
            match deadline {
                Some(deadline) => tokio::time::timeout_at(deadline.into(), event).await.ok(),
                None => Some(event.await),
            }
        });
        self.next_turn();
        if happened.is_none() {
            self.end();
        }
        happened
    }
}
