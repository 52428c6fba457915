//! Whatever packages are selected, cargo builds the same wasmtime: see the crate `wrt-memory-features`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Each package with the sets of features it is built with: one set for the target, another, at
/// times, for build scripts and macros.
type Tree = BTreeMap<String, BTreeSet<String>>;

/// What is built for a selection; with development dependencies, where its tests are built.
fn tree(selection: &[&str], edges: &str) -> Tree {
    let output = Command::new(env!("CARGO"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["tree", "--offline", "--prefix", "none", "--format", "{p}|{f}", "--edges", edges])
        .args(selection)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut tree = Tree::new();
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let line = line.strip_suffix(" (*)").unwrap_or(line);
        // Packages of this workspace have a path in parentheses: they may differ.
        if let Some((package, features)) = line.split_once('|')
            && !package.contains("(/")
        {
            tree.entry(package.to_owned()).or_default().insert(features.to_owned());
        }
    }
    tree
}

#[test]
fn every_selection_of_packages_builds_the_same_wasmtime() {
    let everything = tree(&["--workspace"], "normal,build,dev");
    let below_wasmtime = tree(&["--package", "wrt-memory-features"], "normal,build");
    assert!(below_wasmtime.keys().any(|package| package.starts_with("wasmtime v")));

    let selections: [(&[&str], &str); 7] = [
        (&["--package", "wrt-host"], "normal,build"),
        (&["--package", "wrt-host"], "normal,build,dev"),
        (&["--package", "wrt-memory-benches"], "normal,build,dev"),
        (&["--package", "wrt-memory-tests"], "normal,build"),
        (&["--package", "wrt-memory-tests"], "normal,build,dev"),
        (&["--package", "wrt-memory-wasmtime"], "normal,build,dev"),
        (&["--workspace"], "normal,build"),
    ];
    let mut differences = String::new();
    for (selection, edges) in selections {
        for (package, features) in tree(selection, edges) {
            let (all, built) = (&everything[&package], below_wasmtime.contains_key(&package));
            if built && *all != features {
                differences +=
                    &format!("{selection:?} ({edges}): {package}\n  {features:?}\n  not {all:?}\n");
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{differences}wasmtime is built once more for each of these selections. Give the package the features it \
         lacks in features/Cargo.toml, or make the member that is selected depend on `wrt-memory-features`."
    );
}
