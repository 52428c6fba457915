//! Running cargo and its kin: what the tasks share.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Installs the standard library of a target, unless it is there.
pub fn add_target(target: &str) -> Result<()> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .context("running rustc")?;
    ensure!(output.status.success(), "rustc knows no target {target}");
    let libraries = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    if libraries.exists() {
        return Ok(());
    }
    execute(Command::new("rustup").args(["target", "add", target]))
}

/// Cargo, to be run in a folder.
pub fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder);
    command
}

/// A program of the benches, in release; its arguments come next.
pub fn bench_program(name: &str) -> Command {
    let mut command = cargo(crate::root());
    command.args(["run", "--quiet", "--release", "--package", "wrt-memory-benches", "--bin", name, "--"]);
    command
}

/// The target folder of the root workspace.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => crate::root().join(folder),
        None => crate::root().join("target"),
    }
}

/// The folder of cargo's registry.
pub fn cargo_home() -> Result<PathBuf> {
    let home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir().context("no home folder")?.join(".cargo"),
    };
    Ok(home.canonicalize()?)
}

/// Runs a command; its failure is an error.
pub fn execute(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("running {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Runs a command, passing on each line it prints; its failure is an error.
pub fn execute_and_read(command: &mut Command) -> Result<Vec<String>> {
    let mut child = command.stdout(Stdio::piped()).spawn().with_context(|| format!("running {command:?}"))?;
    let mut lines = Vec::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            lines.push(line);
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(lines)
}
