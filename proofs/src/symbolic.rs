//! An integer that is a term of SMT-LIB, and every path through code that compares such integers.
//!
//! A comparison cannot answer for all values at once, so it answers from a *decision vector*: each run
//! takes one way through every comparison and notes what must hold for it; the next run differs in
//! the last decision that has another way left. All runs together are all paths.

use std::cell::RefCell;
use std::rc::Rc;

use crate::shipped::amount::Amount;

/// The name of the largest amount a field holds. Left open in proofs, so they hold for every field.
pub(crate) const TOP: &str = "top";

/// More paths than this through one transition are a mistake of the harness.
const MOST_PATHS: usize = 1 << 14;

/// A term over the integers.
#[derive(Clone, Debug)]
pub(crate) struct Sym(Rc<str>);

impl Sym {
    pub(crate) fn new(term: impl AsRef<str>) -> Self {
        Self(term.as_ref().into())
    }

    pub(crate) fn term(&self) -> &str {
        &self.0
    }
}

impl Amount for Sym {
    fn zero() -> Self {
        Self::new("0")
    }

    fn at_most(&self, other: &Self) -> bool {
        decide(format!("(<= {} {})", self.0, other.0))
    }

    fn plus(&self, other: &Self) -> Option<Self> {
        let sum = format!("(+ {} {})", self.0, other.0);
        decide(format!("(<= {sum} {TOP})")).then(|| Self::new(sum))
    }

    fn minus(&self, other: &Self) -> Option<Self> {
        decide(format!("(<= {} {})", other.0, self.0))
            .then(|| Self::new(format!("(- {} {})", self.0, other.0)))
    }

    fn plus_saturating(&self, other: &Self) -> Self {
        self.plus(other).unwrap_or_else(|| Self::new(TOP))
    }
}

/// One way through the code.
pub(crate) struct Path<T> {
    /// What holds exactly for the values that go this way.
    pub(crate) conditions: Vec<String>,
    pub(crate) outcome: T,
}

#[derive(Default)]
struct Run {
    decisions: Vec<bool>,
    next: usize,
    conditions: Vec<String>,
}

thread_local! {
    static RUN: RefCell<Run> = RefCell::default();
}

/// Goes the way the decision vector says, and notes what that takes. What an earlier comparison of the
/// very same terms has settled is no decision.
pub(crate) fn decide(condition: String) -> bool {
    RUN.with_borrow_mut(|run| {
        let negated = format!("(not {condition})");
        if run.conditions.contains(&condition) {
            return true;
        }
        if run.conditions.contains(&negated) {
            return false;
        }
        if run.next == run.decisions.len() {
            run.decisions.push(true);
        }
        let taken = run.decisions[run.next];
        run.next += 1;
        run.conditions.push(if taken { condition } else { negated });
        taken
    })
}

/// Runs `code` once for every path through it.
pub(crate) fn every_path<T>(code: impl Fn() -> T) -> Result<Vec<Path<T>>, String> {
    let mut paths = Vec::new();
    RUN.set(Run::default());
    loop {
        let outcome = code();
        let Run { mut decisions, conditions, .. } = RUN.take();
        paths.push(Path { conditions, outcome });
        if paths.len() > MOST_PATHS {
            return Err(format!("more than {MOST_PATHS} paths"));
        }
        while decisions.last() == Some(&false) {
            decisions.pop();
        }
        match decisions.last_mut() {
            Some(last) => *last = false,
            None => return Ok(paths),
        }
        RUN.set(Run { decisions, ..Run::default() });
    }
}
