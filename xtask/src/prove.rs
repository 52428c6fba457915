//! `cargo xtask prove`: the ledger's shipped transitions, proved by two solvers; see `PROOFS.md`.
//!
//! The package `wrt-memory-proofs` states and proves; this compares what it printed with the manifest,
//! so that no proof goes missing unseen, and shows on mutants of the shipped source that the proofs
//! would fail.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::packages::find_or_install;
use crate::tools::{cargo, execute, target_dir};

const BUDGET: &str = "manager/src/budget";
const MANIFEST: &str = "proofs/manifest.txt";
const MUTANTS: &str = "proofs/mutants.toml";

/// Mutants that must be there at least.
const LEAST_MUTANTS: usize = 10;

/// The lines of the manifest begin with one of these.
const LISTED: &[&str] = &["row ", "proof ", "reached ", "never "];

/// Prove the ledger's transitions with two solvers, and find mutants of them
#[derive(clap::Args)]
pub struct Args {
    /// Write the manifest anew from what was proved
    #[arg(long)]
    update: bool,
    /// Also print every path that cannot be taken, with what contradicts itself on it
    #[arg(long)]
    closed: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutants {
    mutant: Vec<Mutant>,
}

/// A fault in a copy of the shipped source.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mutant {
    name: String,
    file: String,
    find: String,
    replace: String,
    /// The theorem that must be refuted.
    refutes: String,
}

/// Runs the task.
pub fn run(args: &Args) -> Result<()> {
    let started = Instant::now();
    for solver in ["z3", "cvc5"] {
        find_or_install(solver, solver)?;
    }
    let root = crate::root();
    let mut command = cargo(root);
    command.args(["run", "--quiet", "--package", "wrt-memory-proofs"]);
    let (success, lines) = output(&mut command)?;
    let starting = |word: &str| lines.iter().filter(|line| line.starts_with(word)).count();
    for line in &lines {
        let unproved = !LISTED.iter().chain(&["path ", "closed "]).any(|word| line.starts_with(word));
        if unproved || (args.closed && line.starts_with("closed ")) {
            println!("{line}");
        }
    }
    ensure!(success, "not everything was proved");

    let source = fs::read_to_string(root.join(BUDGET).join("transition.rs"))?;
    let rows = lines.iter().filter_map(|line| line.strip_prefix("row ")).collect();
    covered(&transitions(&source)?, &rows)?;

    let listed = |line: &&String| LISTED.iter().any(|word| line.starts_with(word));
    let ran: Vec<_> = lines.iter().filter(listed).map(String::as_str).collect();
    if args.update {
        fs::write(root.join(MANIFEST), ran.join("\n") + "\n")?;
    }
    let manifest = fs::read_to_string(root.join(MANIFEST))?;
    same(&manifest.lines().collect::<Vec<_>>(), &ran)?;

    let mutants: Mutants = toml::from_str(&fs::read_to_string(root.join(MUTANTS))?)?;
    let mutants = mutants.mutant;
    ensure!(mutants.len() >= LEAST_MUTANTS, "{} mutants, under {LEAST_MUTANTS}", mutants.len());
    for mutant in &mutants {
        mutant.run().with_context(|| format!("the mutant `{}`", mutant.name))?;
        println!("caught: {}, by {}", mutant.name, mutant.refutes);
    }

    println!(
        "prove: {} transitions, {} proofs by z3 and cvc5, {} reachability queries, {} paths taken and \
         {} closed, {} mutants caught; {} s",
        starting("row "),
        starting("proof "),
        starting("reached ") + starting("path "),
        starting("path "),
        starting("closed "),
        mutants.len(),
        started.elapsed().as_secs()
    );
    Ok(())
}

impl Mutant {
    /// Puts the theorem to the solvers for a copy of the source with the fault in it.
    fn run(&self) -> Result<()> {
        let root = crate::root();
        let copy = target_dir().join("prove");
        if copy.exists() {
            fs::remove_dir_all(&copy)?;
        }
        for folder in ["proofs/src", BUDGET] {
            fs::create_dir_all(copy.join(folder))?;
            for entry in fs::read_dir(root.join(folder))? {
                let path = entry?.path();
                if path.is_file() {
                    fs::copy(&path, copy.join(path.strip_prefix(root)?))?;
                }
            }
        }
        let file = copy.join(BUDGET).join(&self.file);
        let source = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        fs::write(&file, self.apply(&source)?)?;

        let program = copy.join("mutant");
        let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut rustc = Command::new(compiler);
        rustc.args(["--edition", "2024", "--cap-lints", "allow", "-o"]).arg(&program);
        execute(rustc.arg(copy.join("proofs/src/main.rs")))?;
        let (_, lines) = output(Command::new(&program).arg(&self.refutes))?;
        // By both: what one of them cannot decide is no fault found.
        let refuted = format!("refuted {}: sat, sat", self.refutes);
        ensure!(lines.contains(&refuted), "not `{refuted}`, but {lines:#?}");
        Ok(())
    }

    fn apply(&self, source: &str) -> Result<String> {
        let times = source.matches(&self.find).count();
        ensure!(times == 1, "what it replaces is {times} times in {}: {:?}", self.file, self.find);
        Ok(source.replace(&self.find, &self.replace))
    }
}

/// Whether the prover says that all is proved, and its lines. That it could not run is an error.
fn output(command: &mut Command) -> Result<(bool, Vec<String>)> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("running {command:?}"))?;
    let lines: Vec<_> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    match output.status.code() {
        Some(0) => Ok((true, lines)),
        // It counts what failed at its end; anything else that ends with 1 does not.
        Some(1) if lines.last().is_some_and(|line| line.starts_with("failed ")) => Ok((false, lines)),
        _ => bail!("{command:?}: {}", output.status),
    }
}

/// The names of the transitions in the source: what other modules may call.
fn transitions(source: &str) -> Result<BTreeSet<&str>> {
    let mut names = BTreeSet::new();
    for line in source.lines() {
        let Some((visibility, rest)) = line.split_once("fn ") else { continue };
        if visibility.trim_start().starts_with("pub") {
            let (name, _) = rest.split_once(['<', '(']).with_context(|| format!("reading {line:?}"))?;
            names.insert(name);
        }
    }
    ensure!(!names.is_empty(), "no transition in {BUDGET}/transition.rs");
    Ok(names)
}

fn covered(transitions: &BTreeSet<&str>, rows: &BTreeSet<&str>) -> Result<()> {
    let unproved: Vec<_> = transitions.difference(rows).collect();
    ensure!(unproved.is_empty(), "transitions without a row in proofs/src/table.rs: {unproved:?}");
    let unknown: Vec<_> = rows.difference(transitions).collect();
    ensure!(unknown.is_empty(), "rows in proofs/src/table.rs without a transition: {unknown:?}");
    Ok(())
}

/// Compares what should have run with what did.
fn same(manifest: &[&str], ran: &[&str]) -> Result<()> {
    let (listed, done): (BTreeSet<_>, BTreeSet<_>) = (manifest.iter().collect(), ran.iter().collect());
    ensure!(done.len() == ran.len(), "two proofs have the same name");
    let missing: Vec<_> = listed.difference(&done).collect();
    ensure!(missing.is_empty(), "in {MANIFEST}, but did not run: {missing:#?}");
    let new: Vec<_> = done.difference(&listed).collect();
    ensure!(new.is_empty(), "not in {MANIFEST} (`cargo xtask prove --update` adds them): {new:#?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transition_without_a_row_and_a_row_without_a_transition_are_found() {
        let source = "fn spill<A>() {\npub(crate) fn charge<A: Amount>(\n    pub(super) fn lend(state";
        let found = transitions(source).unwrap();
        assert_eq!(found, BTreeSet::from(["charge", "lend"]));
        assert!(covered(&found, &BTreeSet::from(["charge", "lend"])).is_ok());
        assert!(covered(&found, &BTreeSet::from(["charge"])).is_err());
        assert!(covered(&found, &BTreeSet::from(["charge", "lend", "steal"])).is_err());
    }

    #[test]
    fn a_proof_that_did_not_run_and_one_that_is_not_listed_are_found() {
        assert!(same(&["proof a", "proof b"], &["proof b", "proof a"]).is_ok());
        assert!(same(&["proof a", "proof b"], &["proof a"]).is_err());
        assert!(same(&["proof a"], &["proof a", "proof b"]).is_err());
        assert!(same(&["proof a"], &["proof a", "proof a"]).is_err());
    }

    #[test]
    fn a_mutant_that_no_longer_applies_is_an_error() {
        let text = |text: &str| text.to_owned();
        let mutant = Mutant {
            name: text("m"),
            file: text("f"),
            find: text("a < b"),
            replace: text("a <= b"),
            refutes: text("t"),
        };
        assert_eq!(mutant.apply("if a < b {").unwrap(), "if a <= b {");
        assert!(mutant.apply("if b > a {").is_err());
        assert!(mutant.apply("a < b; a < b").is_err());
    }
}
