//! Budgets: who may have how many bytes, and who has them.
//!
//! From the bottom up: amounts and their packing ([`amount`], [`word`]), the pure transitions of
//! one budget ([`state`], [`transition`]), the word that applies them ([`atomic`]), a node with what
//! is remembered of it ([`slot`], [`storage`], [`registry`], [`pin`], [`slab`]), the tree they form
//! ([`tracker`], [`stock`], [`lifecycle`]), and what an owner of bytes holds ([`credit`] inside,
//! [`charge`] outside).

mod amount;
mod atomic;
mod charge;
mod credit;
mod hot;
mod id;
mod lending;
mod lifecycle;
mod name;
mod pin;
mod rebalance;
mod reclaim;
mod registry;
#[cfg(all(feature = "alloc", target_pointer_width = "64"))]
mod slab;
#[cfg(not(all(feature = "alloc", target_pointer_width = "64")))]
#[path = "no_slab.rs"]
mod slab;
mod slot;
mod state;
mod stock;
mod storage;
mod sweep;
mod terms;
mod tracker;
mod transfer;
mod transition;
mod word;

#[cfg(all(test, loom))]
pub(crate) mod tests_loom;

pub use charge::Charge;
pub use id::CrateId;
pub use name::CrateName;
pub use storage::CrateStorage;

pub(crate) use amount::{Amount, Scale, Units};
pub(crate) use charge::Taken;
#[cfg(all(test, loom))]
pub(crate) use credit::Credit;
pub(crate) use lending::Clock;
pub(crate) use lifecycle::MAX_DEPTH;
pub(crate) use reclaim::Reclaim;
#[cfg(all(feature = "alloc", target_pointer_width = "64"))]
pub(crate) use slab::Class;
pub(crate) use slot::{DenialReason, Index, ROOT, Slot};
pub(crate) use state::State;
pub(crate) use storage::{Claimed, Slots};
#[cfg(all(test, feature = "std", not(loom)))]
pub(crate) use tracker::tests::visits;
pub(crate) use tracker::{BudgetTracker, Shortage, visited};
pub(crate) use transition::Refusal;
