//! `cargo xtask platforms`: what needs no wasmtime compiles for other servers and desktops, without a warning.
//!
//! wasmtime itself would want a C compiler for each of them.

use anyhow::Result;

use crate::tools::{add_target, cargo, execute};

const TARGETS: [&str; 3] = ["aarch64-unknown-linux-gnu", "aarch64-apple-darwin", "x86_64-apple-darwin"];

/// Check the manager and the wasmi adapter for other servers and desktops
#[derive(clap::Args)]
pub struct Args {}

/// Runs the task.
pub fn run(_args: &Args) -> Result<()> {
    for target in TARGETS {
        println!("platforms: {target}");
        add_target(target)?;
        execute(
            cargo(crate::root())
                .args(["clippy", "--quiet", "--locked", "--target", target, "--no-deps"])
                .args(["--package", "wrt-memory", "--package", "wrt-memory-wasmi"])
                .args(["--", "--deny", "warnings"]),
        )?;
    }
    println!("platforms: no warning on {} targets; compiled there, not run", TARGETS.len());
    Ok(())
}
