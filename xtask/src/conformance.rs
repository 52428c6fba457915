//! `cargo xtask conformance`: the specification's tests on plain wasmtime and under budgets. The
//! work is `tests/src/conformance.rs`.

use anyhow::Result;

use crate::tools::{cargo, execute};

/// Run the spec suite on plain wasmtime and under budgets: counts, difference, bytes left
#[derive(clap::Args)]
pub struct Args {
    /// Only files whose folder/name contains this
    filter: Option<String>,

    /// Also list the files that plain wasmtime does not pass, and why
    #[arg(long)]
    failures: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let mut command = cargo(crate::root());
    command.args(["run", "--quiet", "--package", "wrt-memory-tests", "--bin", "conformance", "--"]);
    command.args(args.failures.then_some("--failures")).args(&args.filter);
    execute(&mut command)
}
