//! Pressure: who uses how much of a budget, told when it passes a level, and whom it would help to evict.
//!
//! [`settings`] says over which budget and at which levels. [`gauge`] is the arithmetic of levels and hysteresis, and
//! knows neither atomics nor budgets. [`table`] has a manager's watches, and is where a charge comes that met a
//! mark; [`watch`] is what the host holds. [`rank`] and [`victim`] walk the crates, on the host's call only.
//!
//! # The protocol
//! Every node has two marks: the use at which some watch has something to say, and the use at or below which some
//! level can be signalled again. Without a watch both are out of reach. Who changes a node's word swaps the word,
//! then reads a mark; who sets a mark stores it, then swaps the word for itself. The two swaps have an order: whose
//! is later sees what the other did before its own, so no crossing is lost (`tests_loom.rs`).

mod event;
mod gauge;
mod marks;
#[cfg(feature = "alloc")]
mod rank;
mod settings;
mod table;
#[cfg(feature = "alloc")]
mod victim;
mod watch;

#[cfg(all(test, loom))]
mod tests_loom;

pub use event::PressureEvent;
#[cfg(feature = "alloc")]
pub use rank::Candidate;
pub use settings::PressureSettings;
#[cfg(feature = "alloc")]
pub use victim::{SmallestThatHelps, VictimPolicy};
pub use watch::PressureWatch;

pub(crate) use marks::Marks;
pub(crate) use table::Watches;
