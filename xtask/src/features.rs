//! `cargo xtask features`: the manager with every combination of its features.

use anyhow::Result;

use crate::tools::{cargo, execute};

/// Each but the last implies the one before.
const ENVIRONMENTS: &[&[&str]] = &[&[], &["alloc"], &["std"], &["formal-verification"], &["faults"]];

/// Each combination of these, in each environment.
const OPTIONS: &[&str] = &["verification", "serde"];

/// Check the manager with every combination of its features
#[derive(clap::Args)]
pub struct Args {}

/// Runs the task.
pub fn run(_args: &Args) -> Result<()> {
    let mut combinations = 0;
    for environment in ENVIRONMENTS {
        for chosen in 0..1 << OPTIONS.len() {
            let mut features = environment.to_vec();
            features.extend(
                OPTIONS.iter().enumerate().filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, name)| *name),
            );
            let features = features.join(",");
            println!("features [{features}]");
            execute(
                cargo(crate::root())
                    .args([
                        "clippy",
                        "--quiet",
                        "--package",
                        "wrt-memory",
                        "--no-deps",
                        "--no-default-features",
                    ])
                    .args(["--features", &features, "--", "--deny", "warnings"]),
            )?;
            combinations += 1;
        }
    }
    // Where there is no feature, the unit tests that need none.
    execute(cargo(crate::root()).args([
        "test",
        "--quiet",
        "--locked",
        "--package",
        "wrt-memory",
        "--no-default-features",
        "--lib",
    ]))?;
    println!("features: {combinations} combinations without a warning");
    Ok(())
}
