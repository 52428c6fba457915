//! Who checks.

use super::invariant::Invariant;
use super::violation::Violation;

/// One way of checking a manager: what it holds true, and what it is told. The manager's own checker is one; a host
/// plugs more in with [`Builder::verification_backend`](crate::Builder::verification_backend).
///
/// It is called on the threads whose operations it checks, with no lock held.
pub trait VerificationBackend: Send + Sync {
    /// What it holds true. Each is checked with every operation that is looked at, from its level on.
    fn invariants(&self) -> &'static [Invariant] {
        &[]
    }

    /// A check failed, this backend's or another's. Told once for each, after the crate was closed.
    fn violated(&self, violation: &Violation) {
        let _ = violation;
    }
}
