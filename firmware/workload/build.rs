//! Assembles the guests on the host: a microcontroller gets them as bytes.

use std::path::PathBuf;
use std::{env, fs};

/// Those that run in at most two WebAssembly pages, and one that must not run at all.
const GUESTS: &[&str] = &[
    "big_max",
    "data_segment",
    "hog",
    "memory64",
    "recursion",
    "refused_forever",
    "table_grow",
    "tiny_pages",
];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    for name in GUESTS {
        fs::write(out.join(format!("{name}.wasm")), wrt_memory_guests::wat(name))
            .expect("cargo made the folder");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
