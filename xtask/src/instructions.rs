//! `cargo xtask instructions`: how many instructions the ledger's hot operations take, by callgrind.
//!
//! An operation is run some times, then twice as often: the difference, shared out, is what one takes.
//! Counted beside one another, with the checks compiled out and compiled in at level `Off`. The
//! counts that are kept are of one compiler, which the file names, on CPUs that have AVX (the way to a 128-bit
//! word is chosen at run time); nothing else of the machine matters to callgrind.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::packages::find_or_install;
use crate::tools::{cargo, execute, target_dir};

const KEPT: &str = "benches/instructions.txt";
const PACKAGE: &str = "wrt-memory-instructions";

/// How often an operation is run at least.
const TIMES: u64 = 1000;

/// How far a count may rise, in percent.
const TOLERANCE: u64 = 2;

/// What must take the same instructions with the checks compiled in as without them.
const SAME: &[&str] = &[
    "charge",
    "uncharge",
    "refused-by-limit",
    "refused-by-pool",
    "refill",
    "charge-and-uncharge-at-off",
    "charge-and-uncharge-at-full",
];

/// Count the instructions of the ledger's hot operations, and compare with those kept
#[derive(clap::Args)]
pub struct Args {
    /// Keep what is counted now
    #[arg(long)]
    update: bool,
}

/// Instructions of an operation, of [`TIMES`] of it, with the checks compiled out and in.
struct Counted {
    name: String,
    out: u64,
    checked: u64,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    find_or_install("valgrind", "valgrind")?;
    let (out, checked) = (build("")?, build("verification")?);
    let names = Command::new(&out).output().context("listing the operations")?;
    let mut counted = Vec::new();
    for name in String::from_utf8(names.stdout)?.lines() {
        counted.push(Counted {
            name: name.to_owned(),
            out: count(&out, name)?,
            checked: count(&checked, name)?,
        });
    }
    ensure!(!counted.is_empty(), "{PACKAGE} lists no operation");

    let compiler = compiler()?;
    let table = table(&compiler, &counted);
    print!("{table}");
    let kept = crate::root().join(KEPT);
    if args.update {
        fs::write(&kept, &table)?;
    }
    let kept = fs::read_to_string(&kept).with_context(|| format!("reading {KEPT}: --update writes it"))?;
    compare(&kept, &compiler, &counted)?;
    for operation in counted.iter().filter(|operation| SAME.contains(&operation.name.as_str())) {
        ensure!(
            operation.out == operation.checked,
            "{}: {} instructions a {TIMES} with the checks compiled out, {} with them in and off",
            operation.name,
            operation.out,
            operation.checked
        );
    }
    println!(
        "instructions: {} operations, none more than {TOLERANCE} % above {KEPT}; {} the same with the \
         checks compiled in",
        counted.len(),
        SAME.len()
    );
    Ok(())
}

/// Builds the program in one unit, so that nothing but its source decides what is inlined, and puts it
/// where the next build leaves it alone.
fn build(features: &str) -> Result<PathBuf> {
    let target = target_dir().join("instructions");
    execute(
        cargo(crate::root())
            .args(["build", "--quiet", "--release", "--package", PACKAGE, "--features", features])
            .args(["--config", "profile.release.codegen-units=1"])
            .env("RUSTFLAGS", "")
            .arg("--target-dir")
            .arg(&target),
    )?;
    let program = target.join(format!("{PACKAGE}-{features}"));
    fs::copy(target.join("release").join(PACKAGE), &program)?;
    Ok(program)
}

/// What [`TIMES`] of an operation take.
fn count(program: &Path, operation: &str) -> Result<u64> {
    let run = |times: u64| -> Result<u64> {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(program)
            .args([operation, &times.to_string()])
            // What a program finds in its surroundings is not to be counted.
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .output()
            .context("running valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{operation} under callgrind: {}\n{said}", output.status);
        collected(&said).with_context(|| format!("reading {said:?}"))
    };
    let (few, many) = (run(TIMES)?, run(2 * TIMES)?);
    many.checked_sub(few).context("twice as many took less")
}

/// Reads `==123== Collected : 4567`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

fn compiler() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output().context("running rustc")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What is kept: a line an operation.
fn table(compiler: &str, counted: &[Counted]) -> String {
    let mut table = format!(
        "# Instructions of {TIMES} of each, the checks compiled out, then compiled in and off: \
         `cargo xtask instructions`.\n# {compiler}\n"
    );
    for Counted { name, out, checked } in counted {
        let _ = writeln!(table, "{name} {out} {checked}");
    }
    table
}

/// Fails where a count rose, or there is nothing to compare it with.
fn compare(kept: &str, compiler: &str, counted: &[Counted]) -> Result<()> {
    let same_compiler = kept.lines().any(|line| line.strip_prefix("# ") == Some(compiler));
    let hint = if same_compiler { "" } else { "; they were kept with another compiler" };
    let mut lines: Vec<_> = kept.lines().filter(|line| !line.starts_with('#')).collect();
    for Counted { name, out, checked } in counted {
        let at = lines.iter().position(|line| line.split(' ').next() == Some(name));
        let line =
            lines.swap_remove(at.with_context(|| format!("{name} is not in {KEPT}: --update adds it"))?);
        let figures: Vec<u64> = line.split(' ').skip(1).map(str::parse).collect::<Result<_, _>>()?;
        for (was, is) in figures.iter().zip([*out, *checked]) {
            ensure!(
                is * 100 <= was * (100 + TOLERANCE),
                "{TIMES} {name} took {was} instructions and now take {is}, more than {TOLERANCE} % above{hint}"
            );
        }
        ensure!(figures.len() == 2, "{KEPT}: {line:?} has not two figures");
    }
    ensure!(lines.is_empty(), "{KEPT} has what was not counted: {lines:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charge(out: u64) -> [Counted; 1] {
        [Counted { name: "charge".to_owned(), out, checked: 1000 }]
    }

    #[test]
    fn callgrinds_count_is_read() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 4567\n==7== "), Some(4567));
        assert_eq!(collected("==7== "), None);
    }

    #[test]
    fn a_count_may_rise_by_two_percent_and_no_more() {
        let kept = table("rustc 1", &charge(1000));
        assert!(compare(&kept, "rustc 1", &charge(1020)).is_ok());
        assert!(compare(&kept, "rustc 1", &charge(500)).is_ok());
        let risen = compare(&kept, "rustc 1", &charge(1021)).unwrap_err().to_string();
        assert!(!risen.contains("compiler"), "{risen}");
        let other = compare(&kept, "rustc 2", &charge(1021)).unwrap_err().to_string();
        assert!(other.contains("another compiler"), "{other}");
    }

    #[test]
    fn an_operation_that_is_not_kept_or_not_counted_is_an_error() {
        let kept = table("rustc 1", &charge(1000));
        assert!(compare("", "rustc 1", &charge(1000)).is_err());
        assert!(compare(&format!("{kept}gone 1 1\n"), "rustc 1", &charge(1000)).is_err());
    }
}
