//! Budgets of [`wrt_memory`] under wasmtime: all linear memories, tables and stacks of a guest, over
//! all its instances and stores, on the budget of its crate.
//!
//! ```
//! use std::sync::Arc;
//! use wasmtime::{Config, Engine, Instance, Module, Store};
//! use wrt_memory::{CrateSettings, UnifiedMemoryManager};
//! use wrt_memory_wasmtime::{Budgets, StoreAccount};
//!
//! struct Host {
//!     limits: StoreAccount,
//! }
//!
//! # fn main() -> wasmtime::Result<()> {
//! let manager = Arc::new(UnifiedMemoryManager::builder().total(256 << 20).build()?);
//! let budgets = Budgets::new(manager.clone())?;
//! let mut config = Config::new();
//! budgets.configure(&mut config);
//! let engine = Engine::new(&config)?;
//!
//! let guest = manager.register("guest", CrateSettings::new().limit(64 << 20))?;
//! let mut store = Store::new(&engine, Host { limits: budgets.account(guest)? });
//! store.limiter(|host| &mut host.limits);
//! let module = Module::new(&engine, r#"(module (memory (export "memory") 1))"#)?;
//! let instance = Instance::new(&mut store, &module, &[])?;
//! assert_eq!(manager.node(guest)?.used, 65536);
//!
//! drop(store);
//! assert_eq!(manager.node(guest)?.used, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # The way of a `memory.grow`
//! wasmtime asks the store's limiter, the [`StoreAccount`]. A yes is a reservation: the account
//! charges the crate, and keeps the Charge. wasmtime then tells the memory to grow; the memory takes
//! the Charge over, commits the pages and owns both until it is dropped. A no touches nothing.
//!
//! What wasmtime's hooks do not say — which store a new memory is for — goes from the one to the
//! other by a hand-over on the thread (`handover.rs`).

#[cfg(not(unix))]
compile_error!("linear memory needs pages that can be reserved and protected: Unix only, so far");

mod account;
mod budgets;
mod handover;
mod host_memory;
#[cfg_attr(not(target_os = "linux"), path = "no_image.rs")]
mod image;
mod limiter;
mod memory;
mod prepared;
mod preset;
mod scope;
mod stack;

pub use account::{OnDenial, StoreAccount};
pub use budgets::Budgets;
pub use prepared::{Prepared, PreparedPre};

/// The README's before and after: both compile, and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
