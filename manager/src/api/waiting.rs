//! A charge that waits for its bytes.

use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

use crate::api::CrateHandle;
use crate::budget::{Charge, Shortage, Taken, Units};
use crate::error::{MemoryError, Result};
use crate::handle::ManagerHandle;
use crate::waiting::{Key, Request, Standing};

impl<'m> CrateHandle<'m> {
    /// Charges for bytes that somebody else provides, as [`charge`](Self::charge) does; where there are not
    /// enough, waits until there are. Nothing is asked before the first poll.
    ///
    /// First come, first served: whoever needs bytes of the same budget and comes later is refused with
    /// [`Queued`](MemoryError::Queued), or waits behind, guarantees excepted. A crate that gave a wait up may be passed by
    /// others until as much as that was granted to it after a wait.
    ///
    /// ```
    /// # use wrt_memory::{CrateHandle, CrateSettings, UnifiedMemoryManager};
    /// # fn main() -> wrt_memory::Result<()> {
    /// let manager = UnifiedMemoryManager::builder().total(65536).build()?;
    /// let guest = CrateHandle::new(&manager, manager.register("guest", CrateSettings::new())?)?;
    /// let all = guest.charge(65536, 65536)?;
    /// let mut waiting = guest.charge_or_wait(4096, 4096);
    /// assert!(waiting.poll_once().is_none());
    /// drop(all);
    /// assert_eq!(waiting.poll_once().unwrap()?.bytes(), 4096);
    /// # Ok(())
    /// # }
    /// ```
    pub fn charge_or_wait(&self, requested: usize, cost: usize) -> Waiting<'m> {
        Waiting { handle: self.clone(), requested, cost, besides: 0, ticket: None }
    }
}

/// A charge that waits for its bytes, made by [`CrateHandle::charge_or_wait`]: a future, and for those who
/// have no executor [`block`](Self::block) and [`poll_once`](Self::poll_once).
///
/// It holds no bytes while it waits. What it is granted is charged at once, and stays so until it is taken or
/// this is dropped. Dropping it leaves the line.
///
/// # Errors
/// At once, [`OverLimit`](MemoryError::OverLimit) or [`PoolExhausted`](MemoryError::PoolExhausted) where
/// limits and the guarantees of others never allow as much, whoever gives back what he has;
/// [`TooManyWaiting`](MemoryError::TooManyWaiting); an id that is unknown, stale or foreign. Later, the same where a limit or a guarantee
/// changed, and [`StaleCrate`](MemoryError::StaleCrate) where the crate is retired: a wait does not keep it from being.
#[must_use = "it asks for nothing until it is polled"]
#[derive(Debug)]
pub struct Waiting<'m> {
    handle: CrateHandle<'m>,
    requested: usize,
    cost: usize,
    besides: usize,
    ticket: Option<Ticket>,
}

/// In line, for so many units.
#[derive(Clone, Copy, Debug)]
struct Ticket {
    key: Key,
    n: Units,
}

impl<'m> Waiting<'m> {
    /// Says that `bytes` of the crate's are in the hands of whoever waits, and will stay there meanwhile: what
    /// then never fits is refused at once.
    pub fn besides(mut self, bytes: usize) -> Self {
        self.besides = bytes;
        self
    }

    /// Asks, and says how it stands: `None` while it waits. For a loop without an executor; a future that was
    /// polled is no longer woken. Asked again after it ended, it begins anew.
    pub fn poll_once(&mut self) -> Option<Result<Charge<'m>>> {
        match self.advance(None) {
            Poll::Ready(result) => Some(result),
            Poll::Pending => None,
        }
    }

    /// Waits until `over` is ready: a timer's future, of whatever executor.
    ///
    /// # Errors
    /// What it was refused with last, where `over` came first; or as said at [`Waiting`].
    pub async fn until(mut self, over: impl Future) -> Result<Charge<'m>> {
        let mut over = pin!(over);
        poll_fn(|context| match self.advance(Some(context.waker())) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => over.as_mut().poll(context).map(|_| self.give_up()),
        })
        .await
    }

    /// Waits on this thread, for at most so long.
    ///
    /// # Errors
    /// What it was refused with last, where the time is over; or as said at [`Waiting`].
    #[cfg(feature = "std")]
    pub fn block(mut self, timeout: std::time::Duration) -> Result<Charge<'m>> {
        let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
        // Where the clock cannot count as far, there is no end.
        let over = std::time::Instant::now().checked_add(timeout);
        loop {
            if let Poll::Ready(result) = self.advance(Some(&waker)) {
                return result;
            }
            match over.map(|over| over.saturating_duration_since(std::time::Instant::now())) {
                Some(left) if left.is_zero() => return self.give_up(),
                Some(left) => std::thread::park_timeout(left),
                None => std::thread::park(),
            }
        }
    }

    fn advance(&mut self, waker: Option<&Waker>) -> Poll<Result<Charge<'m>>> {
        let manager = self.handle.manager().clone();
        let (tracker, id) = (manager.tracker(), self.handle.id());
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => match self.begin(&manager) {
                Ok(Begun::Charged(units)) => return Poll::Ready(Ok(self.charged(units))),
                Ok(Begun::Waits(ticket)) => *self.ticket.insert(ticket),
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        match tracker.stands(ticket.key, waker) {
            Standing::Waits => Poll::Pending,
            Standing::Granted => {
                self.ticket = None;
                Poll::Ready(Ok(self.charged(ticket.n)))
            }
            Standing::Ended(shortage) => {
                self.ticket = None;
                Poll::Ready(Err(tracker.denied(id, self.cost, shortage)))
            }
        }
    }

    /// The plain charge, or a place in line.
    fn begin(&self, manager: &ManagerHandle<'m>) -> Result<Begun> {
        let (tracker, id) = (manager.tracker(), self.handle.id());
        tracker.admit(id)?;
        let scale = tracker.scale();
        let Some(n) = scale.up(self.cost) else {
            return Err(tracker.over_limit(id, self.cost));
        };
        let shortage: Shortage = match tracker.charge(id.index, id.generation, n) {
            Ok(credit) => {
                credit.absorb();
                return Ok(Begun::Charged(n));
            }
            Err(shortage) => shortage,
        };
        let needs = scale.up(self.cost.saturating_add(self.besides)).unwrap_or(Units::MAX);
        let key = tracker.stand_in_line(&Request { id, n, needs, asked: self.cost }, shortage)?;
        Ok(Begun::Waits(Ticket { key, n }))
    }

    fn charged(&self, units: Units) -> Charge<'m> {
        let (owner, id) = (self.handle.manager().clone(), self.handle.id());
        let taken = Taken::of(owner.tracker.slot(id.index), id, units);
        Charge::taken(owner, taken, self.requested)
    }

    /// Leaves the line, unless it was granted this moment.
    fn give_up(&mut self) -> Result<Charge<'m>> {
        let (manager, id) = (self.handle.manager().clone(), self.handle.id());
        if let Poll::Ready(result) = self.advance(None) {
            return result;
        }
        let Some(ticket) = self.ticket.take() else {
            return Err(MemoryError::StaleCrate { id });
        };
        let last = manager.tracker().leave_line(id, ticket.key);
        Err(manager.tracker().denied(id, self.cost, last))
    }
}

enum Begun {
    Charged(Units),
    Waits(Ticket),
}

impl<'m> Future for Waiting<'m> {
    type Output = Result<Charge<'m>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.advance(Some(context.waker()))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.handle.manager().tracker().leave_line(self.handle.id(), ticket.key);
        }
    }
}

/// Wakes a thread that waits.
#[cfg(feature = "std")]
struct Unpark(std::thread::Thread);

#[cfg(feature = "std")]
impl std::task::Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}
