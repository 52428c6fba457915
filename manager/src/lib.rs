//! Byte-exact memory budgets for WebAssembly guests.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod api;
mod budget;
mod error;
mod handle;
mod manager;
pub mod provider;
mod raw;
mod settings;
mod snapshot;
mod sync;
mod verification;

pub use api::*;
pub use budget::{Charge, CrateId, CrateName, CrateStorage};
pub use error::{MemoryError, Result};
pub use handle::ManagerHandle;
pub use manager::UnifiedMemoryManager;
pub use raw::RawMemory;
pub use settings::{Builder, CrateSettings};
#[cfg(feature = "alloc")]
pub use snapshot::Snapshot;
pub use snapshot::{Denials, NodeSnapshot, ProviderUse};
pub use verification::{VerificationEngine, VerificationLevel, Violation};
