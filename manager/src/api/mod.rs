//! What a user of memory calls: typed memory, scopes, collections.

mod crate_handle;
mod memory;
mod waiting;

#[cfg(feature = "alloc")]
mod collection;
#[cfg(feature = "std")]
mod scope;

#[cfg(feature = "alloc")]
pub use collection::{Collection, CrateBox, CrateMap, CrateString, CrateVec, Rejected};
pub use crate_handle::CrateHandle;
pub use memory::Memory;
#[cfg(feature = "std")]
pub use scope::{InScope, Scope, allocate, allocate_collection, install_default, with_memory};
pub use waiting::Waiting;
