//! The targets with guests under libFuzzer: `cargo xtask fuzz`.
#![no_main]

use std::alloc::System;

use arbitrary::Unstructured;
use wrt_memory_fuzz_guests::{HEADER, Proposals, TARGETS};
use wrt_memory_wasmi::GuestHeap;

/// wasmi's guests are charged what is measured.
#[global_allocator]
static HEAP: GuestHeap<System> = GuestHeap::new(System);

/// A header, and the module that wasm-smith makes of the rest. `None` where that is too short for one.
fn with_module(data: &[u8], proposals: Proposals) -> Option<Vec<u8>> {
    let (header, rest) = data.split_at_checked(HEADER)?;
    let all = proposals == Proposals::All;
    let config = wasm_smith::Config {
        max_imports: 0,
        max_memories: 3,
        max_tables: 3,
        max_funcs: 8,
        max_instructions: 60,
        max_data_segments: 6,
        max_element_segments: 6,
        min_funcs: 1,
        export_everything: true,
        canonicalize_nans: true,
        relaxed_simd_enabled: false,
        exceptions_enabled: false,
        simd_enabled: all,
        gc_enabled: all,
        threads_enabled: all,
        memory64_enabled: all,
        custom_page_sizes_enabled: true,
        ..wasm_smith::Config::default()
    };
    let module = wasm_smith::Module::new(config, &mut Unstructured::new(rest)).ok()?;
    Some([header, &module.to_bytes()].concat())
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| -> libfuzzer_sys::Corpus {
    let target = wrt_memory_fuzz::chosen(TARGETS);
    let modules = Proposals::of(target.name);
    // A module that was kept as one, and what becomes of it, is tried as it is.
    let is_module = data.get(HEADER..).is_some_and(|rest| rest.starts_with(b"\0asm"));
    let made = modules.filter(|_| !is_module).map(|proposals| with_module(data, proposals));
    match made {
        None => target.run(data),
        Some(Some(data)) => {
            keep(&data);
            target.run(&data);
        }
        Some(None) => return libfuzzer_sys::Corpus::Reject,
    }
    libfuzzer_sys::Corpus::Keep
});

/// Writes the module of an input where the environment says: so seeds are had that need no wasm-smith.
fn keep(data: &[u8]) {
    if let Some(path) = std::env::var_os("WRT_FUZZ_KEEP") {
        std::fs::write(&path, data).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}
