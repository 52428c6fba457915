//! `cargo xtask loom`: the manager's concurrent protocols under loom, which runs each test once for
//! every way its threads could interleave. What bounds that, `manager/src/budget/tests_loom.rs` says.

use anyhow::{Context, Result, ensure};

use crate::tools::{cargo, execute_and_read, target_dir};

/// Run the manager's loom tests: every interleaving within the bounds they state
#[derive(clap::Args)]
pub struct Args {
    /// Only tests whose name contains this
    #[arg(default_value = "loom_")]
    filter: String,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let mut command = cargo(crate::root());
    command
        .args(["test", "--release", "--package", "wrt-memory", "--lib"])
        // Flags of its own: in a folder of its own, so that nothing else is built again.
        .arg("--target-dir")
        .arg(target_dir().join("loom"))
        .env("RUSTFLAGS", "--cfg loom")
        .args(["--", "--nocapture", &args.filter]);
    let (mut passed, mut schedules) = (0, 0);
    for line in execute_and_read(&mut command)? {
        let number = |text: &str| {
            text.rsplit(' ')
                .next()
                .unwrap_or_default()
                .parse::<usize>()
                .with_context(|| format!("reading {line:?}"))
        };
        if let Some(text) = line.strip_suffix(" schedules") {
            schedules += number(text)?;
        } else if let Some((text, _)) = line.split_once(" passed; ") {
            passed += number(text)?;
        }
    }
    ensure!(passed > 0, "no loom test was run");
    ensure!(
        schedules > passed,
        "{passed} tests, but only {schedules} schedules: did they run in a loom model?"
    );
    println!("loom: {passed} tests passed, over {schedules} schedules");
    Ok(())
}
