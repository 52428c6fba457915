//! `cargo xtask guests`: the programs of `guests/rust`, built into `guests/bin`.
//!
//! The binaries are kept in the repository, so that nobody needs a wasm target to run
//! the tests. Two compilers need not give the same bytes, so `--check` does not compare
//! bytes: it runs fresh and kept binaries on the same inputs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::tools::{add_target, cargo, cargo_home, execute, target_dir};

/// Each target, and the crates of `guests/rust` that are built for it.
const GUESTS: &[(&str, &[&str])] = &[
    ("wasm32-wasip1", &["compress", "image-resize", "json-transform", "text-index"]),
    ("wasm32-wasip2", &["markdown"]),
];

/// What no binary may be larger than, in bytes: they are kept in the repository.
const LARGEST: usize = 400 << 10;

/// Build the real guests into guests/bin
#[derive(clap::Args)]
pub struct Args {
    /// Build into target/guests-fresh instead, and check that the fresh binaries and the
    /// kept ones do the same
    #[arg(long)]
    check: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let root = crate::root();
    if !args.check {
        return build(&root.join("guests/bin"));
    }
    let fresh = target_dir().join("guests-fresh");
    build(&fresh)?;
    execute(
        cargo(root)
            .args(["test", "--package", "wrt-memory-tests", "--test", "guests_agree"])
            .env("WRT_GUESTS_FRESH", &fresh),
    )
}

/// Builds all guests and copies them into a folder that then holds nothing else.
fn build(into: &Path) -> Result<()> {
    let workspace = crate::root().join("guests/rust");
    let built = target_dir().join("guests");
    // Panic messages name source files: name them from the roots that everybody has.
    let private = [(cargo_home()?, "/cargo"), (crate::root().canonicalize()?, "/wrt-memory")];
    let flags: Vec<String> = private
        .iter()
        .map(|(path, public)| format!("--remap-path-prefix={}={public}", path.display()))
        .collect();

    let mut binaries = Vec::new();
    for &(target, names) in GUESTS {
        add_target(target)?;
        let mut cargo = cargo(&workspace);
        cargo
            .args(["build", "--release", "--locked", "--bins", "--target", target])
            .arg("--target-dir")
            .arg(&built)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        for name in names {
            cargo.args(["--package", name]);
        }
        execute(&mut cargo)?;
        for name in names {
            let path = built.join(target).join("release").join(format!("{name}.wasm"));
            let wasm = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
            ensure!(wasm.len() <= LARGEST, "{name} has {} bytes, over {LARGEST}", wasm.len());
            for (path, _) in &private {
                let path = path.as_os_str().as_encoded_bytes();
                ensure!(
                    !wasm.windows(path.len()).any(|window| window == path),
                    "{name} has a path of this machine in it"
                );
            }
            binaries.push((format!("{name}.wasm"), wasm));
        }
    }

    if into.exists() {
        fs::remove_dir_all(into).with_context(|| format!("emptying {}", into.display()))?;
    }
    fs::create_dir_all(into)?;
    println!("{}:", into.strip_prefix(crate::root()).unwrap_or(into).display());
    for (name, wasm) in &binaries {
        fs::write(into.join(name), wasm)?;
        println!("{:>9} bytes  {name}", wasm.len());
    }
    Ok(())
}
