//! Checks of what must be true, at the moment it could stop being so.

mod engine;

pub use engine::{VerificationEngine, VerificationLevel, Violation};
