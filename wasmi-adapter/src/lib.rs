//! Budgets of [`wrt_memory`] under wasmi: the linear memories of a guest in regions that grow in place,
//! its tables, and what the runtime itself allocates for it, on the budget of its crate. `no_std`, for
//! microcontrollers, and for servers that want the same.
//!
//! ```
//! use std::alloc::System;
//! use std::sync::Arc;
//! use wrt_memory::{CrateSettings, UnifiedMemoryManager};
//! use wrt_memory_wasmi::{Budgets, Guest, GuestHeap, GuestSettings};
//!
//! // Measures what wasmi allocates; without it guests are charged an estimate.
//! #[global_allocator]
//! static HEAP: GuestHeap<System> = GuestHeap::new(System);
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let manager = Arc::new(UnifiedMemoryManager::builder().total(8 << 20).build()?);
//! let budgets = Budgets::new(&manager)?;
//! let hog = manager.register("hog", CrateSettings::new().limit(1 << 20))?;
//!
//! let mut guest = Guest::new(&budgets, hog, GuestSettings::new(), ())?;
//! # let wasm = wat::parse_str(r#"(module (memory 1) (func (export "grow") (param i32) (result i32)
//! #   (memory.grow (local.get 0))))"#)?;
//! guest.load(&wasm)?;
//! assert_eq!(guest.call::<i32, i32>("grow", 1)?, 1);
//! assert_eq!(guest.call::<i32, i32>("grow", 100)?, -1);
//!
//! drop(guest);
//! assert_eq!(manager.node(hog)?.used, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Linear memory
//! wasmi's own memories are vectors: growing one allocates the new bytes beside the old ones, and copies. Here
//! every memory a module defines is turned into one it imports (`rewrite.rs`), and made by the host on a
//! *region*: bytes of the manager's provider, set aside in one piece when the module is loaded. Growth
//! happens in place, copies nothing, and cannot fail for fragmentation.
//!
//! **A region is charged whole, when it is set aside.** wasmi holds it as one exclusive slice for as long as the
//! memory lives, so nobody else could use what the guest has not grown into yet; uncharged, it would be missing
//! from everybody's budget and on nobody's account. So growth within a region asks no budget, and what decides is
//! how large the region is: as large as the memory may ever be by its declared maximum, by
//! [`GuestSettings::region`], by what its crate can still be charged (less
//! [`GuestSettings::spare`]) and by the largest piece the provider has; several memories of one module share
//! what there is. **A guest that declares no maximum takes all its crate can have: give such crates a
//! limit, or their guests a region.**
//!
//! **Where a region ends, growth is a denial**, counted by the manager and told with its figures by
//! [`Guest::last_denial`]: as one by the budget where that would not have had the bytes, else as one for want of room.
//!
//! A guarantee of the ledger is for bytes. Where it has to be for room in one piece as well, [`Reserve`] sets that
//! aside, for memories and for what the runtime allocates.
//!
//! When a guest goes, its store goes first and its regions after. Regions come zeroed from all providers but a static
//! region, and from that as they were left: wasmi zeroes what a memory begins with and what it grows by.
//!
//! # The runtime's own bytes
//! Engine, module, code, instances and stacks are allocated by wasmi, from the program's global allocator. With a
//! [`GuestHeap`] as that allocator they are counted for each guest.
//!
//! - *Before* wasmi starts, the guest is charged an estimate from above of what it needs at one time, and the
//!   allocator is asked whether it has that much in one piece: wasmi ends the program where memory runs out. A
//!   crate whose budget is too small is refused here.
//! - *After*, the charge becomes what was counted: when a module is compiled, with an estimate of what instantiating it
//!   needs, before its regions are charged; and when it is instantiated. A guest that holds more than its crate can be charged for is
//!   [`Overdrawn`](Error::Overdrawn): it is not run any more.
//! - *While it runs* wasmi allocates nothing for it but tables, which the limiter grants, and what host functions
//!   ask for: code is compiled when it is loaded, and the stacks are allocated, whole, with the guest. A host
//!   function that calls back into its guest makes wasmi allocate another value stack and another call stack.
//!
//! - *When nothing is left*, a trap still is one: wasmi allocates a box for it and would end the program, so every
//!   guest keeps, and pays for, a few hundred bytes for that. Tables do not get them.
//!
//! What is **exact**: linear memory and its header in a static region; the number of the runtime's blocks and the
//! bytes asked for. What is **estimated**: the allocator's overhead for each of those blocks (taken as two words, and a
//! total rounded up to four words: what a static region takes), and the need beforehand, of which tests on some
//! thousand modules know no case where it was too low. It is up to twice what real modules take, so a budget has to
//! have room for that while a guest is loaded. On a firmware whose heap is the region itself ([`RegionHeap`]), both
//! kinds of bytes are exact to the byte.
//!
//! Each guest has an engine of its own, since wasmi frees code only with its engine.
//!
//! # What a guest cannot do to the host
//! Builds of wasmi whose dispatch leaves native frames behind are [refused](Error::Dispatch), at start-up, by trying.
//! 64-bit and shared memories are refused. Growth past a region, endless recursion and endless refusals are answers
//! or traps.
#![no_std]

extern crate alloc;

mod account;
mod budgets;
mod dispatch;
mod error;
mod guest;
mod heap;
mod overhead;
mod pressure;
mod region;
mod reserve;
mod rewrite;
mod settings;

pub use account::OnDenial;
pub use budgets::Budgets;
pub use error::Error;
pub use guest::{Guest, GuestBytes, Hosted};
pub use heap::{GuestHeap, RegionHeap, for_the_host};
pub use reserve::Reserve;
pub use settings::GuestSettings;

#[cfg(test)]
extern crate std;

/// Tests measure. Not under Miri: Stacked Borrows has a `Box` forget what is before it, where this has its word.
#[cfg(test)]
#[cfg_attr(not(miri), global_allocator)]
static HEAP: GuestHeap<std::alloc::System> = GuestHeap::new(std::alloc::System);
