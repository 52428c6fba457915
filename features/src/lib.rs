//! Nothing but dependencies: what makes cargo build wasmtime once a profile.
//!
//! Cargo gives a dependency the features that the *selected* packages ask for, all of them
//! together. `cargo run` (the host), `cargo test --workspace` and `cargo bench -p …` are three
//! selections; where they differ in one feature of one package below wasmtime, all of wasmtime is
//! built again, which takes minutes. Here is the sum of those features, and whatever is selected
//! by itself depends on this crate: the host, the tests and the benches, and, for their tests
//! alone, the adapter. Nothing that is published does otherwise.
//!
//! The test `one_wasmtime` compares the selections.
