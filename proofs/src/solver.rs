//! The solvers, as processes that read SMT-LIB and answer on a pipe.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// What both solvers read first: the words of the formulas.
const PRELUDE: &str = include_str!("prelude.smt2");

/// A question of whether there are values for which all of this holds.
pub(crate) struct Query {
    /// Integers it is about.
    pub(crate) integers: Vec<String>,
    /// Truth values it is about.
    pub(crate) booleans: Vec<String>,
    pub(crate) holds: Vec<String>,
    /// Terms to evaluate where there are.
    pub(crate) values: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// There are, and this is what the terms are for some of them.
    Sat(Vec<String>),
    /// There are none, because these of what should hold contradict each other.
    Unsat(Vec<usize>),
    /// It does not know, or ran out of time.
    Unknown(String),
}

impl Answer {
    pub(crate) fn is_sat(&self) -> bool {
        matches!(self, Self::Sat(_))
    }

    pub(crate) fn is_unsat(&self) -> bool {
        matches!(self, Self::Unsat(_))
    }

    pub(crate) fn word(&self) -> &str {
        match self {
            Self::Sat(_) => "sat",
            Self::Unsat(_) => "unsat",
            Self::Unknown(said) => said,
        }
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Solver {
    pub(crate) name: &'static str,
    /// A question takes milliseconds: one that takes a minute is a failure, not a proof.
    arguments: &'static [&'static str],
}

pub(crate) const SOLVERS: [Solver; 2] = [
    Solver { name: "z3", arguments: &["-in", "-smt2", "-t:60000"] },
    Solver { name: "cvc5", arguments: &["--lang=smt2", "--incremental", "--tlimit-per=60000"] },
];

impl Solver {
    /// Answers all, in their order.
    pub(crate) fn answer(&self, queries: &[Query]) -> Result<Vec<Answer>, String> {
        let mut process = Process::start(self).map_err(|error| format!("{}: {error}", self.name))?;
        let answers = queries.iter().map(|query| process.ask(query)).collect::<std::io::Result<_>>();
        answers.map_err(|error| format!("{}: {error}", self.name))
    }
}

struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has answered all it was asked, or the error is on its way up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(solver: &Solver) -> std::io::Result<Self> {
        let mut child = Command::new(solver.name)
            .args(solver.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            unreachable!("both were asked for");
        };
        let mut process = Self { child, input, output: BufReader::new(output) };
        process.input.write_all(PRELUDE.as_bytes())?;
        Ok(process)
    }

    fn ask(&mut self, query: &Query) -> std::io::Result<Answer> {
        let mut text = String::from("(push 1)\n");
        for name in &query.integers {
            text += &format!("(declare-const {name} Int)\n");
        }
        for name in &query.booleans {
            text += &format!("(declare-const {name} Bool)\n");
        }
        for (at, formula) in query.holds.iter().enumerate() {
            text += &format!("(assert (! {formula} :named h{at}))\n");
        }
        text += "(check-sat)\n";
        self.input.write_all(text.as_bytes())?;
        self.input.flush()?;
        let answer = match self.line()?.as_str() {
            "sat" if query.values.is_empty() => Answer::Sat(Vec::new()),
            "sat" => {
                writeln!(self.input, "(get-value ({}))", query.values.join(" "))?;
                self.input.flush()?;
                let text = self.expression()?;
                let values = values(&text).filter(|values| values.len() == query.values.len());
                Answer::Sat(values.ok_or_else(|| error(&text))?)
            }
            "unsat" => {
                writeln!(self.input, "(get-unsat-core)")?;
                self.input.flush()?;
                let text = self.expression()?;
                let names = text.trim_matches(['(', ')']).split_whitespace();
                let core = names.map(|name| name.strip_prefix('h').and_then(|at| at.parse().ok()));
                Answer::Unsat(core.collect::<Option<_>>().ok_or_else(|| error(&text))?)
            }
            other => Answer::Unknown(other.to_owned()),
        };
        self.input.write_all(b"(pop 1)\n")?;
        Ok(answer)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            return Err(error("ended before it answered"));
        }
        if line.starts_with("(error") {
            return Err(error(&line));
        }
        Ok(line.trim().to_owned())
    }

    /// Reads lines until all parentheses are closed.
    fn expression(&mut self) -> std::io::Result<String> {
        let mut text = String::new();
        loop {
            text += &self.line()?;
            text.push(' ');
            if text.matches('(').count() == text.matches(')').count() {
                return Ok(text.trim().to_owned());
            }
        }
    }
}

fn error(said: &str) -> std::io::Error {
    std::io::Error::other(format!("said {said:?}"))
}

/// Reads `((term value) ...)`: the values, as plain numbers and truth values. A solver may write a term
/// in words of its own, so a value is what stands last in its pair.
fn values(text: &str) -> Option<Vec<String>> {
    let (mut depth, mut start) = (0, 0);
    let mut values = Vec::new();
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => {
                depth += 1;
                if depth == 2 {
                    start = at;
                }
            }
            ')' => {
                depth -= 1;
                if depth == 1 {
                    let pair = text[start..at].trim_end();
                    // A negative number is `(- 5)`.
                    values.push(match pair.strip_suffix(')') {
                        Some(negative) => format!("-{}", negative.rsplit_once("(- ")?.1.trim()),
                        None => pair.rsplit_once([' ', ')'])?.1.to_owned(),
                    });
                }
            }
            _ => {}
        }
    }
    (depth == 0).then_some(values)
}
