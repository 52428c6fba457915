//! Who checks.

use super::invariant::Invariant;
use super::operation::Operation;
use super::violation::Violation;

/// One way of checking a manager: what it holds true, and what it is told. The manager's own checker is one; a host
/// plugs more in with [`Builder::verification_backend`](crate::Builder::verification_backend).
///
/// It is called on the threads whose operations it checks, with no lock held but where it says so.
pub trait VerificationBackend: Send + Sync {
    /// What it holds true. Each is checked with every operation that is looked at, from its level on.
    fn invariants(&self) -> &'static [Invariant] {
        &[]
    }

    /// The ledger did something: told at every level, with the feature `formal-verification` only. It may be told under a lock
    /// of the manager's, which this must not call.
    fn operation(&self, operation: &Operation) {
        let _ = operation;
    }

    /// A check failed, this backend's or another's. Told once for each, after the crate was closed.
    fn violated(&self, violation: &Violation) {
        let _ = violation;
    }
}
