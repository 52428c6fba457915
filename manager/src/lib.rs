//! Byte-exact memory budgets for WebAssembly guests: every module or component gets a [`CrateId`] with
//! a budget of its own, under one global budget, and one look shows where the bytes are.
//!
//! ```
//! use wrt_memory::{CrateHandle, CrateSettings, CrateVec, UnifiedMemoryManager};
//!
//! # fn main() -> wrt_memory::Result<()> {
//! let manager = UnifiedMemoryManager::builder().total(64 << 20).build()?;
//! let customer = manager.register("customer", CrateSettings::new().limit(16 << 20))?;
//! let guest = manager.register(
//!     "guest",
//!     CrateSettings::new().parent(customer).limit(1 << 20).guarantee(64 << 10),
//! )?;
//!
//! let handle = CrateHandle::new(&manager, guest)?;
//! let memory = handle.memory::<4096>()?;
//! let mut list: CrateVec<u32> = handle.collection(100)?;
//! list.try_push(7)?;
//! assert_eq!(manager.node(guest)?.used, 4096 + 400);
//!
//! drop((memory, list));
//! assert_eq!(manager.node(guest)?.used, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Layers
//! A call goes down them once and comes back once:
//!
//! | layer | what it is |
//! |---|---|
//! | API | [`Memory`], [`CrateHandle`], `with_memory`, `allocate`, `allocate_collection` |
//! | manager | [`UnifiedMemoryManager`]: charge, then allocate; free, then give back |
//! | budgets and verification | one atomic word per budget; [`SharingMatrix`], [`CrossCrateCoordinator`]; [`VerificationEngine`] |
//! | providers | [`provider`]: static region, heap, mapped pages, and the choice between them |
//! | low level | atomics of std, portable-atomic or loom; OS calls |
//!
//! # Features
//! `no_std` without features: a fixed number of crates in a [`CrateStorage`], memory from a caller's
//! [static region](provider::StaticRegion). `alloc` adds any number of crates, shared managers, collections and the
//! heap. `std` (default) adds scopes, `with_memory`, `allocate` and mapped pages. `verification`
//! (default) compiles the checks in; `formal-verification`, for tests, has the ledger followed by a shadow and told to
//! backends; `serde` makes snapshots serialisable. None changes what the others mean.
//!
//! Without `std` the program provides an implementation of the `critical-section` crate.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod api;
mod budget;
mod error;
#[cfg(any(all(test, feature = "std"), feature = "faults"))]
#[doc(hidden)]
pub mod fault;
mod handle;
mod lock;
#[cfg(feature = "std")]
mod machine;
mod manager;
mod pressure;
pub mod provider;
mod raw;
mod settings;
mod sharing;
mod snapshot;
mod sync;
mod verification;
mod waiting;

pub use api::*;
pub use budget::{Charge, CrateId, CrateName, CrateStorage};
pub use error::{MemoryError, Result};
pub use handle::ManagerHandle;
#[cfg(feature = "std")]
pub use machine::{MachineChange, MachineError, MachineFollower, MachineLimit, MachineTotal};
pub use manager::UnifiedMemoryManager;
#[cfg(feature = "alloc")]
pub use pressure::{Candidate, SmallestThatHelps, VictimPolicy};
pub use pressure::{PressureEvent, PressureSettings, PressureWatch};
pub use raw::RawMemory;
pub use settings::{Builder, CrateSettings};
pub use sharing::{
    CoordinatorCounts, CrossCrateCoordinator, LendingRule, Loan, LoanInfo, LoanList, LoanState, LoanTerms,
    SharingMatrix,
};
#[cfg(feature = "alloc")]
pub use snapshot::Snapshot;
pub use snapshot::{Denials, NodeSnapshot, ProviderUse, Waits};
pub use verification::{
    Invariant, Mismatch, Operation, Subject, VerificationBackend, VerificationEngine, VerificationLevel,
    Violation,
};
#[cfg(feature = "formal-verification")]
pub use verification::{Recording, ReplayError};
