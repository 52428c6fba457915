//! `cargo xtask conformance`: the specification's tests on a plain runtime and under budgets. The work
//! is `tests/src/conformance.rs` for wasmtime, `wasmi-adapter/tests/spec` for wasmi.

use anyhow::{Result, ensure};

use crate::runtime::Runtime;
use crate::tools::{cargo, execute};

/// Run the spec suite on the plain runtime and under budgets: counts, difference, bytes left
#[derive(clap::Args)]
pub struct Args {
    /// Which runtime
    #[arg(long, default_value = "wasmtime")]
    runtime: Runtime,

    /// Only files whose folder/name contains this (wasmtime)
    filter: Option<String>,

    /// How memories lie: `mapped`, or on warm slots with the preset `throughput` or `density` (wasmtime)
    #[arg(long)]
    layout: Option<String>,

    /// Also list the files that plain wasmtime does not pass, and why (wasmtime)
    #[arg(long)]
    failures: bool,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    match args.runtime {
        Runtime::Wasmtime => on_wasmtime(args),
        Runtime::Wasmi => on_wasmi(args),
    }
}

/// Its tests compare with plain wasmi, sweep the budgets, and fail where a byte is left.
fn on_wasmi(args: &Args) -> Result<()> {
    ensure!(
        args.filter.is_none() && args.layout.is_none() && !args.failures,
        "with wasmi the whole suite is run, in regions, and no failures listed"
    );
    let mut command = cargo(crate::root());
    command.args(["test", "--quiet", "--package", "wrt-memory-wasmi", "--test", "spec"]);
    command.args(["--", "--nocapture", "--test-threads", "1"]);
    execute(&mut command)?;
    println!("conformance: the same files pass as on plain wasmi, every budget swept, 0 bytes left");
    Ok(())
}

fn on_wasmtime(args: &Args) -> Result<()> {
    let mut command = cargo(crate::root());
    command.args(["run", "--quiet", "--package", "wrt-memory-tests", "--bin", "conformance", "--"]);
    if let Some(layout) = &args.layout {
        command.args(["--layout", layout]);
    }
    command.args(args.failures.then_some("--failures")).args(&args.filter);
    execute(&mut command)
}
