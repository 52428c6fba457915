//! Which runtime a task is about.

/// A runtime with an adapter.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Runtime {
    /// The wasmtime adapter, for servers.
    Wasmtime,
    /// The wasmi adapter, for microcontrollers.
    Wasmi,
}
