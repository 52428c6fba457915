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

/// What this machine is called.
pub fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let said = String::from_utf8(output.stdout)?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.with_context(|| format!("rustc names no host: {said:?}"))?.to_string())
}

/// Installs components of the nightly toolchain, unless they are there. The toolchain itself has to be: another day's is another
/// compiler, which is not this program's to choose.
pub fn need_nightly(components: &[&str]) -> Result<()> {
    let listed = ["component", "list", "--toolchain", "nightly", "--installed"];
    let output = Command::new("rustup").args(listed).output().context("running rustup")?;
    ensure!(
        output.status.success(),
        "there is no nightly toolchain, which this needs: `rustup toolchain install nightly --profile minimal` ({})",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let there = String::from_utf8(output.stdout)?;
    for component in components {
        if !there.lines().any(|line| line.starts_with(component)) {
            let add = ["component", "add", "--toolchain", "nightly", component];
            execute(Command::new("rustup").args(add))?;
        }
    }
    Ok(())
}

/// How many tests passed, where a line says that: `test result: ok. 12 passed; 0 failed; ...`.
pub fn passed_in(line: &str) -> Result<Option<usize>> {
    let Some((_, rest)) = line.split_once("test result: ok. ") else { return Ok(None) };
    let (number, _) = rest.split_once(" passed;").with_context(|| format!("reading {line:?}"))?;
    Ok(Some(number.parse().with_context(|| format!("reading {line:?}"))?))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_tests_is_read() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out";
        assert_eq!(passed_in(line).unwrap(), Some(12));
        assert_eq!(passed_in("running 12 tests").unwrap(), None);
        assert!(passed_in("test result: ok. some passed; 0 failed").is_err());
    }
}
