//! `cargo xtask metal`: the manager for microcontrollers.

use anyhow::Result;

use crate::tools::{add_target, cargo, execute};

/// With atomics, and without: there the firmware provides a critical section.
const TARGETS: &[&str] = &["thumbv7em-none-eabi", "thumbv6m-none-eabi"];

/// All that needs no operating system.
const FEATURES: &[&str] = &["", "alloc", "serde", "verification", "alloc,serde,verification"];

/// Build the manager for bare metal, with each set of features
#[derive(clap::Args)]
pub struct Args {}

/// Runs the task.
pub fn run(_args: &Args) -> Result<()> {
    for target in TARGETS {
        add_target(target)?;
        for features in FEATURES {
            println!("{target}, features [{features}]");
            execute(
                cargo(crate::root())
                    .args(["rustc", "--quiet", "--package", "wrt-memory", "--lib", "--no-default-features"])
                    .args(["--features", features, "--target", target, "--", "--deny", "warnings"]),
            )?;
        }
    }
    let builds = TARGETS.len() * FEATURES.len();
    println!(
        "metal: {builds} builds without a warning: {} targets, {} sets of features",
        TARGETS.len(),
        FEATURES.len()
    );
    Ok(())
}
