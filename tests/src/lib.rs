//! What the tests that cross crates share: a library, because `cargo xtask` runs some of it too.

pub mod conformance;
