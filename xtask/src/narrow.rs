//! `cargo xtask narrow`: unit tests where a word has 32 bits, as on a microcontroller, and a processor of this machine.
//!
//! The firmware runs on such words too, but asserts its figures only; here the properties are tried.

use std::process::Command;

use anyhow::Result;

use crate::packages::install;
use crate::tools::{add_target, cargo, execute};

const TARGET: &str = "i686-unknown-linux-gnu";

/// Packages, and which of their unit tests: without a name all.
const TESTS: &[(&str, &str)] = &[("wrt-memory", "static_region"), ("wrt-memory-wasmi", "")];

/// Run unit tests where a word has 32 bits
#[derive(clap::Args)]
pub struct Args {}

/// Runs the task.
pub fn run(_args: &Args) -> Result<()> {
    add_target(TARGET)?;
    if !links()? {
        install("a C library of 32 bits", "gcc-multilib")?;
    }
    for (package, tests) in TESTS {
        println!("{package} on {TARGET}");
        execute(cargo(crate::root()).args([
            "test",
            "--package",
            package,
            "--lib",
            "--target",
            TARGET,
            tests,
        ]))?;
    }
    println!("narrow: the unit tests of {} packages passed on {TARGET}", TESTS.len());
    Ok(())
}

/// Whether the machine's compiler finds a C library of that width.
fn links() -> Result<bool> {
    let found = Command::new("cc").args(["-m32", "-print-file-name=crt1.o"]).output()?;
    // Else it says the name as it was asked.
    Ok(String::from_utf8_lossy(&found.stdout).contains('/'))
}
