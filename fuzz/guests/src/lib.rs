//! Fuzz targets with guests. The input of `wasmtime` and of `wasmi` is a header of [`HEADER`] bytes, which says under
//! which budgets, and a module; the engine in `fuzz/engine` has wasm-smith make modules of other bytes.

use wrt_memory_fuzz::Target;

mod header;
mod isolation;
mod on_wasmi;
mod on_wasmtime;

pub use header::HEADER;

/// The targets with guests.
pub const TARGETS: &[Target] = &[
    Target { name: "wasmtime", body: on_wasmtime::run, reaches: on_wasmtime::REACHES },
    Target { name: "wasmi", body: on_wasmi::run, reaches: on_wasmi::REACHES },
    Target { name: "isolation", body: isolation::run, reaches: isolation::REACHES },
];

/// Of which proposals the modules of a target may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proposals {
    /// What wasmtime has on in the adapter's tests.
    All,
    /// What wasmi has on.
    OfWasmi,
}

impl Proposals {
    /// Those of a target's modules; `None` where it takes none.
    pub fn of(target: &str) -> Option<Self> {
        match target {
            "wasmtime" => Some(Self::All),
            "wasmi" => Some(Self::OfWasmi),
            _ => None,
        }
    }
}
