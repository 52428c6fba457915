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
//! # Under pressure
//! A guest whose host holds memory for it (buffers, caches, handles) can give some back when bytes run short. Two ways,
//! both optional, and a host offers either:
//!
//! - the guest exports `wrt_memory_pressure (param $level i32) (result i32)`, and the host calls it between calls, with
//!   [`call_pressure_hook`], when a [`PressureWatch`](wrt_memory::PressureWatch) has an event;
//! - the guest imports `wrt_memory.pressure (result i32)`, made by [`link_pressure`], and asks when it suits it.
//!
//! ```
//! # use std::sync::Arc;
//! # use wasmtime::{Config, Engine, Linker, Module, Store};
//! # use wrt_memory::{CrateSettings, UnifiedMemoryManager};
//! # use wrt_memory_wasmtime::{Budgets, StoreAccount};
//! use wrt_memory::{PressureSettings, PressureWatch};
//! use wrt_memory_wasmtime::{call_pressure_hook, link_pressure};
//!
//! struct Host {
//!     limits: StoreAccount,
//!     watch: Arc<PressureWatch<'static>>,
//! }
//! # fn main() -> wasmtime::Result<()> {
//! # let manager = Arc::new(UnifiedMemoryManager::builder().total(256 << 20).build()?);
//! # let budgets = Budgets::new(manager.clone())?;
//! # let mut config = Config::new();
//! # budgets.configure(&mut config);
//! # let engine = Engine::new(&config)?;
//! # let guest = manager.register("guest", CrateSettings::new().limit(1 << 20))?;
//! let watch = Arc::new(PressureWatch::new(&manager, PressureSettings::new().over(guest))?);
//! let mut linker = Linker::new(&engine);
//! link_pressure(&mut linker, |host: &Host| host.watch.level())?;
//! # let limits = budgets.account(guest)?;
//! # let mut store = Store::new(&engine, Host { limits, watch: watch.clone() });
//! # store.limiter(|host| &mut host.limits);
//! # let module = Module::new(&engine, r#"(module
//! #     (import "wrt_memory" "pressure" (func (result i32)))
//! #     (memory (export "memory") 15)
//! #     (func (export "wrt_memory_pressure") (param i32) (result i32) (i32.const 7)))"#)?;
//! let instance = linker.instantiate(&mut store, &module)?;
//! // Between two calls of the guest:
//! for event in watch.take_events() {
//!     if let Some(bytes) = call_pressure_hook(&mut store, instance, event.level)? {
//!         println!("at {} %: {bytes} bytes back, says the guest", event.level);
//! #       assert_eq!(bytes, 7);
//!     }
//! }
//! # assert_eq!(watch.level(), Some(90));
//! # Ok(())
//! # }
//! ```
//!
//! # What the hooks do not say
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
mod pressure;
mod saved;
mod scope;
mod stack;
mod waiting;

pub use account::{OnDenial, StoreAccount};
pub use budgets::Budgets;
pub use prepared::{Prepared, PreparedPre};
pub use pressure::{PressureHookError, call_pressure_hook, call_pressure_hook_async, link_pressure};

/// The README's before and after: both compile, and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
