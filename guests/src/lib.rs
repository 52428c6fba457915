//! WebAssembly guests to test and measure memory budgets with. Test support: no runtime
//! is used here, and nothing but tests, benchmarks and examples uses this crate.
//!
//! - [`wat()`] assembles a small guest by name, each written to do one thing to its
//!   memory: `hog` takes all it can get, `failed_start` fails with a memory already made.
//!   The sources are in `guests/wat`, and say at their top what they are for.
//! - [`bench`](mod@bench) makes guests of a given shape: so much data, so many pages, so
//!   many of them written.
//! - [`REAL`] has programs built from Rust for WASI, with a sample input for each.
//!   Their sources are in `guests/rust`; `cargo xtask guests` builds them.

pub mod bench;
mod real;

pub use real::{Guest, Kind, REAL, real};

/// The sources by name: a file of that name in `guests/wat`.
macro_rules! sources {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../wat/", $name, ".wat")))),*]
    };
}

static WAT: &[(&str, &str)] = sources! {
    "big_max"
    "big_min"
    "component_hog"
    "component_two_instances"
    "compute"
    "data_segment"
    "externref_table"
    "failed_start"
    "gc_hog"
    "hog"
    "host_call"
    "import_memory"
    "import_shared_memory"
    "leaker"
    "memory64"
    "no_memory"
    "pressure"
    "recursion"
    "refused_forever"
    "shared_memory"
    "spin"
    "start_out_of_bounds_data"
    "table_grow"
    "tiny_pages"
    "two_memories"
    "zero_memory"
};

/// The binary of a WAT guest, assembled anew at each call: a core module, or a component
/// if the name begins with `component_`.
///
/// # Panics
///
/// If there is no guest of that name; the message lists the names there are.
#[must_use]
pub fn wat(name: &str) -> Vec<u8> {
    let text = wat_text(name).unwrap_or_else(|| {
        let names: Vec<_> = wat_names().collect();
        panic!("no WAT guest `{name}`; there are: {}", names.join(", "))
    });
    wat::parse_str(text).unwrap_or_else(|error| panic!("WAT guest `{name}`: {error}"))
}

/// The binary of a module's text.
///
/// # Panics
///
/// If it is none; the message says where.
#[must_use]
pub fn assemble(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// The names that [`wat()`] knows, those of [`bench::BENCHES`] included.
pub fn wat_names() -> impl Iterator<Item = &'static str> {
    WAT.iter().map(|(name, _)| *name).chain(bench::BENCHES.iter().map(|bench| bench.name))
}

/// The source of a WAT guest, if there is one of that name.
#[must_use]
pub fn wat_text(name: &str) -> Option<String> {
    let kept = WAT.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
    kept.or_else(|| bench::BENCHES.iter().find(|bench| bench.name == name).map(bench::Bench::wat))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use wasmparser::{Parser, Payload, Validator, WasmFeatures};

    #[test]
    fn every_wat_guest_is_valid() {
        for name in wat_names() {
            let wasm = wat(name);
            Validator::new_with_features(WasmFeatures::all())
                .validate_all(&wasm)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Parser::is_component(&wasm), name.starts_with("component_"), "{name}");
        }
    }

    #[test]
    fn every_file_has_its_name_in_the_table() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/wat");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        let names: BTreeSet<String> = WAT.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(files, names);
        assert_eq!(wat_names().count(), wat_names().collect::<BTreeSet<_>>().len());
    }

    #[test]
    fn every_source_says_what_it_is_for() {
        for name in wat_names() {
            let text = wat_text(name).unwrap();
            assert!(text.starts_with(";; "), "{name}");
        }
    }

    #[test]
    fn a_core_guest_exports_the_memory_it_has() {
        for name in wat_names().filter(|name| !name.starts_with("component_")) {
            let wasm = wat(name);
            let (mut has, mut exports) = (false, false);
            for payload in Parser::new(0).parse_all(&wasm) {
                match payload.unwrap() {
                    Payload::MemorySection(_) => has = true,
                    Payload::ImportSection(imports) => {
                        has |= imports
                            .into_imports()
                            .any(|import| matches!(import.unwrap().ty, wasmparser::TypeRef::Memory(_)));
                    }
                    Payload::ExportSection(section) => {
                        exports = section.into_iter().any(|export| {
                            let export = export.unwrap();
                            export.name == "memory" && export.kind == wasmparser::ExternalKind::Memory
                        });
                    }
                    _ => {}
                }
            }
            assert_eq!(has, exports, "{name}");
        }
    }

    #[test]
    #[should_panic(expected = "no WAT guest `pig`; there are: big_max, ")]
    fn an_unknown_name_lists_the_known_ones() {
        let _ = wat("pig");
    }
}
