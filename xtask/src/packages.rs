//! Programs that come from the system's packages.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::tools::execute;

/// Installs a program unless it is there; whoever may not is told how.
pub fn find_or_install(program: &str, package: &str) -> Result<()> {
    if there(program) { Ok(()) } else { install(program, package) }
}

/// Installs what is not there.
pub fn install(what: &str, package: &str) -> Result<()> {
    let install = ["install", "--yes", "--no-install-recommends", package];
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    ensure!(root && there("apt-get"), "{what} is not there; on Debian: sudo apt-get {}", install.join(" "));
    println!("installing {package}");
    // A new machine may have no list of packages yet.
    execute(Command::new("apt-get").args(["update", "--quiet"]))?;
    execute(Command::new("apt-get").args(install))
}

fn there(program: &str) -> bool {
    Command::new(program).arg("--version").stdout(Stdio::null()).status().is_ok()
}
