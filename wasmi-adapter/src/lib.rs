//! Budgets of [`wrt_memory`] under wasmi.
#![no_std]

extern crate alloc;

mod account;
mod budgets;
mod dispatch;
mod error;
mod guest;
mod heap;
mod overhead;
mod region;
mod rewrite;
mod settings;

pub use account::OnDenial;
pub use budgets::Budgets;
pub use error::Error;
pub use guest::{Guest, GuestBytes, Hosted};
pub use heap::{GuestHeap, RegionHeap};
pub use region::Reserve;
pub use settings::GuestSettings;

#[cfg(test)]
extern crate std;

/// Tests measure.
#[cfg(test)]
#[global_allocator]
static HEAP: GuestHeap<std::alloc::System> = GuestHeap::new(std::alloc::System);
