//! Checks of what must be true, at the moment it could stop being so.
//!
//! What is checked is a table of [`Invariant`]s, each with the level from which it is; who checks is a
//! [`VerificationBackend`], of which the [checker](checker) is always there; when, and what comes of a failure, the
//! [`VerificationEngine`] decides. What each level finds, by which test, and what it costs: `docs/verification.md`.

mod backend;
mod canary;
mod checker;
mod conservation;
mod engine;
#[cfg(feature = "formal-verification")]
mod ghost;
mod handover;
mod invariant;
mod level;
mod live;
mod operation;
#[cfg(feature = "formal-verification")]
mod recording;
mod violation;
mod zero;

pub use backend::VerificationBackend;
pub use engine::VerificationEngine;
pub use invariant::{Invariant, Mismatch, Subject};
pub use level::VerificationLevel;
pub use operation::Operation;
#[cfg(feature = "formal-verification")]
pub use recording::{Recording, ReplayError};
pub use violation::Violation;

pub(crate) use canary::Fence;
pub(crate) use engine::EngineSettings;
pub(crate) use engine::Release;
pub(crate) use handover::Offer;
pub(crate) use invariant::{Fresh, Handed};
pub(crate) use live::Standing;
#[cfg(feature = "formal-verification")]
pub(crate) use operation::Observers;

#[cfg(all(test, feature = "std", feature = "verification", not(loom)))]
mod tests;
