//! What a ledger did, to be done once more.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use std::thread::{self, ThreadId};

use super::backend::VerificationBackend;
use super::operation::Operation;
use crate::UnifiedMemoryManager;
use crate::budget::CrateId;
use crate::error::MemoryError;
use crate::lock::Lock;
use crate::provider::ProviderSelector;
use crate::settings::CrateSettings;

/// A backend that keeps what a ledger does, up to a number of operations, and [replays](Self::replay) it.
///
/// ```
/// use std::sync::Arc;
/// use wrt_memory::{CrateSettings, Recording, UnifiedMemoryManager};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let recording = Arc::new(Recording::new(100));
/// let builder = UnifiedMemoryManager::builder().total(1 << 20).verification_backend(recording.clone());
/// let manager = builder.build()?;
/// let guest = manager.register("guest", CrateSettings::new().limit(1000))?;
/// let charge = manager.charge(guest, 600, 600)?;
/// assert!(manager.charge(guest, 600, 600).is_err());
///
/// let again = recording.replay()?;
/// assert_eq!(again.pool().used, manager.pool().used);
/// # Ok(())
/// # }
/// ```
pub struct Recording {
    most: usize,
    trace: Lock<Trace>,
}

struct Trace {
    operations: Vec<Operation>,
    lost: u64,
    thread: Option<ThreadId>,
    several_threads: bool,
}

/// Why a recording was not replayed to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The recording is not whole.
    #[error(
        "{lost} operations were not kept: give the recording room for more, and plug it into one manager from its start"
    )]
    NotWhole {
        /// Operations that were not kept.
        lost: u64,
    },
    /// An operation went otherwise.
    #[error("operation {at} went otherwise than when it was recorded: {operation:?}{}", because(error.as_deref()))]
    Diverged {
        /// Number of the operation, from 0.
        at: usize,
        /// The operation.
        operation: Operation,
        /// What it was refused with; `None` where it should have been refused.
        error: Option<Box<MemoryError>>,
    },
}

fn because(error: Option<&MemoryError>) -> alloc::string::String {
    error.map_or_else(|| ", and was granted".into(), |error| alloc::format!(", {error}"))
}

impl Recording {
    /// A recording of up to `most` operations: what comes after those is counted, not kept.
    pub fn new(most: usize) -> Self {
        let trace = Trace { operations: Vec::new(), lost: 0, thread: None, several_threads: false };
        Self { most, trace: Lock::new(trace) }
    }

    /// What was kept, in order.
    pub fn operations(&self) -> Vec<Operation> {
        self.trace.with(|trace| trace.operations.clone())
    }

    /// Does it all once more with a fresh manager, without providers, and returns that: every crate has in use what it had, and the
    /// guarantees, limits and loans are the same. What a crate keeps in stock may differ. What one thread did goes the same way, refusals included; of several threads
    /// the refusals are left out, as they depend on what was on its way; so they are where crates keep stock, which what was
    /// refused to the host, and is not told, may have swept. For the same reason a charge from stock, of a crate below a limit
    /// that was lowered, may be refused in a replay: record with [`Builder::stock`](crate::Builder::stock) of 0.
    ///
    /// # Errors
    /// [`ReplayError`].
    pub fn replay(&self) -> Result<UnifiedMemoryManager, ReplayError> {
        let (operations, lost, alone) =
            self.trace.with(|trace| (trace.operations.clone(), trace.lost, !trace.several_threads));
        let mut rest = operations.into_iter().enumerate();
        let Some((_, first @ Operation::Started { total, largest, stock })) =
            rest.next().filter(|_| lost == 0)
        else {
            return Err(ReplayError::NotWhole { lost });
        };
        let diverged = |at, operation, error: Option<MemoryError>| ReplayError::Diverged {
            at,
            operation,
            error: error.map(Box::new),
        };
        let builder = UnifiedMemoryManager::builder().total(total).largest_total(largest).stock(stock);
        let manager = builder.providers(ProviderSelector::new()).build();
        let manager = manager.map_err(|error| diverged(0, first, Some(error)))?;
        let mut ids = BTreeMap::new();
        for (at, operation) in rest {
            match repeat(&manager, &mut ids, &operation, alone && stock == 0) {
                Ok(()) => {}
                Err(error) => return Err(diverged(at, operation, error)),
            }
        }
        Ok(manager)
    }
}

/// Does one operation again. The ids of the replay by those of the recording.
fn repeat(
    manager: &UnifiedMemoryManager,
    ids: &mut BTreeMap<(u32, u32), CrateId>,
    operation: &Operation,
    alone: bool,
) -> Result<(), Option<MemoryError>> {
    let tracker = &manager.tracker;
    let id_of = |ids: &BTreeMap<(u32, u32), CrateId>, id: CrateId| {
        ids.get(&(id.index, id.generation)).copied().ok_or(Some(MemoryError::UnknownCrate { id }))
    };
    let scale = tracker.scale();
    match *operation {
        Operation::Registered { id, parent, limit, guarantee } => {
            let mut settings = CrateSettings::new().limit(limit).guarantee(guarantee);
            if let Some(parent) = parent {
                settings = settings.parent(id_of(ids, parent)?);
            }
            let again = manager.register(&alloc::format!("crate {id}"), settings)?;
            ids.insert((id.index, id.generation), again);
        }
        Operation::Retired { id } => manager.retire(id_of(ids, id)?)?,
        Operation::Charged { id, bytes } => {
            let units = scale.down(bytes);
            tracker.charge_crate(id_of(ids, id)?, units, bytes)?.absorb();
        }
        Operation::Uncharged { id, bytes } => {
            let index = id_of(ids, id)?.index;
            tracker.uncharge(index, tracker.slot(index), scale.down(bytes));
        }
        Operation::Refused { id, bytes } if alone => {
            let id = id_of(ids, id)?;
            match scale.up(bytes) {
                Some(units) => {
                    if let Ok(credit) = tracker.charge_crate(id, units, bytes) {
                        drop(credit);
                        return Err(None);
                    }
                }
                None => drop(tracker.over_limit(id, bytes)),
            }
        }
        Operation::Limited { id, bytes } => manager.set_limit(id_of(ids, id)?, bytes)?,
        Operation::Guaranteed { id, bytes } => manager.set_guarantee(id_of(ids, id)?, bytes)?,
        Operation::TotalSet { bytes } => manager.set_total(bytes)?,
        Operation::Allowed { lender, borrower, rule } => {
            tracker.allow(id_of(ids, lender)?, id_of(ids, borrower)?, &rule)?;
        }
        Operation::Forbidden { lender, borrower } => {
            tracker.forbid(id_of(ids, lender)?, id_of(ids, borrower)?)?;
        }
        Operation::Lent { lender, borrower, bytes, automatic: false, .. } => {
            let pair = (id_of(ids, lender)?, id_of(ids, borrower)?);
            tracker.lend(pair.0, pair.1, scale.down(bytes), None)?;
        }
        // The same loans are made in the same order, so they have the same numbers.
        Operation::Recalling { loan } => {
            if let Some(key) = tracker.book().with(|book| book.key(loan)) {
                tracker.recall(key);
            }
        }
        Operation::LetGo { loan } => tracker.book().with(|book| {
            if let Some(key) = book.key(loan) {
                book.let_go(key);
            }
        }),
        // What follows from the others.
        Operation::Started { .. }
        | Operation::Refused { .. }
        | Operation::Lent { .. }
        | Operation::Owed { .. }
        | Operation::CameBack { .. } => {}
    }
    Ok(())
}

impl VerificationBackend for Recording {
    fn operation(&self, operation: &Operation) {
        let thread = thread::current().id();
        self.trace.with(|trace| {
            trace.several_threads |= *trace.thread.get_or_insert(thread) != thread;
            if trace.operations.len() < self.most && trace.operations.try_reserve(1).is_ok() {
                trace.operations.push(*operation);
            } else {
                trace.lost += 1;
            }
        });
    }
}

impl core::fmt::Debug for Recording {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (kept, lost) = self.trace.with(|trace| (trace.operations.len(), trace.lost));
        f.debug_struct("Recording").field("kept", &kept).field("lost", &lost).finish_non_exhaustive()
    }
}
