//! Proves the ledger: runs the shipped transitions on symbolic integers, and puts what must hold of
//! them to two solvers, which must agree. `cargo xtask prove` runs it on what ships and on mutants
//! of it, and compares what it prints with `manifest.toml`.

// The shipped sources have tests of their own, which are the manager's: built as a test, this is empty.
#![cfg(not(test))]

mod relation;
mod shipped;
mod solver;
mod symbolic;
mod sync;
mod table;
mod theorems;
mod witness;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread;

use relation::Relation;
use solver::{Answer, Query, SOLVERS};
use table::Row;
use theorems::Theorem;

fn main() -> ExitCode {
    // Of a mutant just the theorem is asked that it should break.
    let only = std::env::args().nth(1);
    match run(only.as_deref()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            println!("failed {failed}");
            ExitCode::from(1)
        }
        Err(error) => {
            eprintln!("proofs: {error}");
            ExitCode::from(2)
        }
    }
}

/// Prints a line for each row, theorem, case and path, or for one theorem alone. Returns how many
/// failed.
fn run(only: Option<&str>) -> Result<usize, String> {
    let rows = table::rows();
    let relations = rows.iter().map(Relation::of).collect::<Result<Vec<_>, _>>()?;
    for row in &rows {
        println!("row {}", row.name);
    }
    let mut report = Report { failed: 0 };

    let mut theorems: Vec<_> = relations.iter().flat_map(theorems::of_transition).collect();
    theorems.extend(theorems::of_tree(&relations)?);
    if let Some(name) = only {
        theorems.retain(|theorem| theorem.name == name);
        if theorems.is_empty() {
            return Err(format!("no theorem `{name}`"));
        }
    }
    let refute: Vec<_> = theorems.iter().map(Theorem::refute).collect();
    for (theorem, (query, answers)) in theorems.iter().zip(ask_both(&refute)?) {
        report.theorem(theorem, query, &answers);
    }
    if only.is_some() {
        return Ok(report.failed);
    }

    let cases = theorems.iter().map(|theorem| (format!("a case of {}", theorem.name), theorem.case()));
    let (names, cases): (Vec<_>, Vec<_>) = cases.chain(relations.iter().flat_map(theorems::ends)).unzip();
    for (name, (_, answers)) in names.iter().zip(ask_both(&cases)?) {
        report.case(name, &answers);
    }

    for relation in &relations {
        let reach: Vec<_> = relation.paths.iter().map(|path| relation.reach(path)).collect();
        let (mut taken, mut closed) = (BTreeSet::new(), BTreeSet::new());
        for (path, (query, answers)) in relation.paths.iter().zip(ask_both(&reach)?) {
            let end = path.outcome.clone().map_or_else(|why| relation::refusal(why).0, |_| "Granted");
            let ends = if report.path(relation, end, query, &answers) { &mut taken } else { &mut closed };
            ends.insert(end);
        }
        report.never(relation.row, &closed - &taken);
    }
    Ok(report.failed)
}

/// Prints what came of each question, and counts what should have come out otherwise.
struct Report {
    failed: usize,
}

impl Report {
    fn fail(&mut self, what: &str, name: &str, answers: &[Answer]) {
        self.failed += 1;
        let words: Vec<_> = answers.iter().map(Answer::word).collect();
        println!("{what} {name}: {}", words.join(", "));
    }

    fn theorem(&mut self, theorem: &Theorem, query: &Query, answers: &[Answer]) {
        if answers.iter().all(Answer::is_unsat) {
            println!("proof {}", theorem.name);
            return;
        }
        // Refuted only where both say so: else one of them does not know, or is wrong.
        let refuted = answers.iter().all(Answer::is_sat);
        self.fail(if refuted { "refuted" } else { "undecided" }, &theorem.name, answers);
        if let Some(Answer::Sat(values)) = answers.first() {
            let values = query.values.iter().zip(values).map(|(name, value)| format!("{name} {value}"));
            println!("  where {}", values.collect::<Vec<_>>().join(", "));
        }
    }

    fn case(&mut self, name: &str, answers: &[Answer]) {
        if answers.iter().all(Answer::is_sat) {
            println!("reached {name}");
        } else {
            self.fail("unreached", name, answers);
        }
    }

    /// Whether a path can be taken. Where it can, the shipped function must do on numbers what its
    /// terms say; where not, the reason is what contradicts itself on it.
    fn path(&mut self, relation: &Relation<'_>, end: &str, query: &Query, answers: &[Answer]) -> bool {
        let name = format!("{} to {end}", relation.row.name);
        if answers.iter().all(Answer::is_sat) {
            println!("path {name}");
            for answer in answers {
                if let Answer::Sat(values) = answer
                    && let Err(error) = witness::replay(relation, values)
                {
                    self.fail("unfaithful", &error, answers);
                }
            }
            return true;
        }
        match answers {
            [Answer::Unsat(core), rest @ ..] if rest.iter().all(Answer::is_unsat) => {
                let core = core.iter().map(|&at| query.holds[at].as_str());
                println!("closed {name}: {}", core.collect::<Vec<_>>().join(" against "));
            }
            _ => self.fail("undecided", &name, answers),
        }
        false
    }

    /// Ends that are in the code and on no path that can be taken: each must be in the row, with the
    /// reason, and no other may be.
    fn never(&mut self, row: &Row, ends: BTreeSet<&str>) {
        let listed: BTreeSet<_> = row.never.iter().map(|(end, _)| *end).collect();
        for (end, reason) in row.never {
            println!("never {}/{end}: {reason}", row.name);
        }
        for end in &ends ^ &listed {
            let which = if listed.contains(end) {
                "listed, but may come, or is on no path at all"
            } else {
                "not listed, but on closed paths only"
            };
            self.fail("never", &format!("{}/{end} is {which}", row.name), &[]);
        }
    }
}

/// Each question with the answers of both solvers.
fn ask_both(queries: &[Query]) -> Result<Vec<(&Query, Vec<Answer>)>, String> {
    let all = thread::scope(|scope| {
        let threads = SOLVERS.map(|solver| scope.spawn(move || solver.answer(queries)));
        threads.map(|thread| thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
    });
    let all = all.into_iter().collect::<Result<Vec<_>, _>>()?;
    let answers = |at: usize| all.iter().map(|answers| answers[at].clone()).collect();
    Ok(queries.iter().enumerate().map(|(at, query)| (query, answers(at))).collect())
}
