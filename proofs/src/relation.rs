//! A transition as a formula: all its paths, each with what holds on it and what comes out of it.

use crate::shipped::state::State;
use crate::shipped::transition::Refusal;
use crate::solver::Query;
use crate::symbolic::{Path, Sym, TOP, decide, every_path};
use crate::table::{Outcome, Row};

/// The amounts of a state.
pub(crate) const FIELDS: [&str; 4] = ["used", "held", "floor", "limit"];

/// The flags of a state.
pub(crate) const FLAGS: [&str; 2] = ["closed", "owes"];

/// The version every state has: no transition may change it.
pub(crate) const VERSION: u8 = 5;

/// The names of refusals, as the prelude has them, with their figures.
pub(crate) fn refusal<A>(refusal: Refusal<A>) -> (&'static str, Option<A>) {
    match refusal {
        Refusal::Closed => ("Closed", None),
        Refusal::OverLimit(by) => ("OverLimit", Some(by)),
        Refusal::Short(by) => ("Short", Some(by)),
        Refusal::NotIdle(is) => ("NotIdle", Some(is)),
        Refusal::BelowFloor(floor) => ("BelowFloor", Some(floor)),
        Refusal::InUse(used) => ("InUse", Some(used)),
        Refusal::Spills => ("Spills", None),
        Refusal::Queued => ("Queued", None),
        Refusal::OutOfRange => ("OutOfRange", None),
    }
}

pub(crate) struct Relation<'r> {
    pub(crate) row: &'r Row,
    pub(crate) paths: Vec<Path<Outcome<Sym>>>,
}

impl<'r> Relation<'r> {
    pub(crate) fn of(row: &'r Row) -> Result<Self, String> {
        let takes: Vec<_> = row.takes.iter().map(Sym::new).collect();
        let paths = every_path(|| {
            let [used, held, floor, limit] = FIELDS.map(Sym::new);
            let [closed, owes] = FLAGS.map(|flag| decide(flag.to_owned()));
            (row.symbolic)(State { used, held, floor, limit, closed, owes, version: VERSION }, &takes)
        });
        Ok(Self { row, paths: paths.map_err(|error| format!("{}: {error}", row.name))? })
    }

    /// The integers it is about, before and after.
    pub(crate) fn integers(&self) -> Vec<String> {
        let mut names: Vec<String> = self.before();
        names.extend(FIELDS.iter().map(|field| format!("new.{field}")));
        names.extend(self.row.gives.iter().map(|(name, _)| (*name).to_owned()));
        names.extend(["outcome", "figure", "new.version"].map(str::to_owned));
        names
    }

    pub(crate) fn booleans(&self) -> Vec<String> {
        FLAGS.iter().flat_map(|flag| [(*flag).to_owned(), format!("new.{flag}")]).collect()
    }

    fn before(&self) -> Vec<String> {
        FIELDS.iter().chain(self.row.takes).map(|name| (*name).to_owned()).collect()
    }

    /// What is known before: a valid state, amounts that fit, and what the row assumes.
    pub(crate) fn known(&self) -> Vec<String> {
        let mut known = vec!["(valid used held floor limit)".to_owned()];
        known.extend(self.row.takes.iter().map(|name| format!("(fits {name})")));
        known.extend(self.row.assumes.iter().map(|&formula| formula.to_owned()));
        known
    }

    /// What came out on a path, as equations.
    fn outcome(&self, path: &Path<Outcome<Sym>>) -> Vec<(String, String)> {
        let mut equal = Vec::new();
        match &path.outcome {
            Ok((state, given)) => {
                equal.push(("outcome".to_owned(), "Granted".to_owned()));
                let amounts = [&state.used, &state.held, &state.floor, &state.limit];
                for (field, amount) in FIELDS.iter().zip(amounts) {
                    equal.push((format!("new.{field}"), amount.term().to_owned()));
                }
                equal.push(("new.closed".to_owned(), state.closed.to_string()));
                equal.push(("new.owes".to_owned(), state.owes.to_string()));
                equal.push(("new.version".to_owned(), state.version.to_string()));
                for ((name, _), amount) in self.row.gives.iter().zip(given) {
                    equal.push(((*name).to_owned(), amount.term().to_owned()));
                }
            }
            Err(why) => {
                let (why, figure) = refusal(why.clone());
                equal.push(("outcome".to_owned(), why.to_owned()));
                equal.extend(figure.map(|figure| ("figure".to_owned(), figure.term().to_owned())));
            }
        }
        equal
    }

    /// All paths: what holds for before and after.
    pub(crate) fn formula(&self) -> String {
        let paths = self.paths.iter().map(|path| {
            let outcome = self.outcome(path);
            let equal = outcome.iter().map(|(name, term)| format!("(= {name} {term})"));
            and(path.conditions.iter().cloned().chain(equal))
        });
        or(paths)
    }

    /// That none of the paths is gone.
    pub(crate) fn no_path(&self) -> String {
        format!("(not {})", or(self.paths.iter().map(|path| and(path.conditions.iter().cloned()))))
    }

    /// Whether a path can be taken in a field as large as the one that ships, and with which values:
    /// before, then after.
    pub(crate) fn reach(&self, path: &Path<Outcome<Sym>>) -> Query {
        let mut holds = self.known();
        holds.push(format!("(= {TOP} {})", crate::shipped::word::FIELD_MAX));
        holds.extend(path.conditions.iter().cloned());
        let mut values = self.before();
        values.extend(FLAGS.map(str::to_owned));
        values.extend(self.outcome(path).into_iter().map(|(_, term)| term));
        Query { integers: self.before(), booleans: FLAGS.map(str::to_owned).to_vec(), holds, values }
    }

    /// The relation at a node of that name: its variables are `node.used` and so on.
    pub(crate) fn at(&self, node: &str, formula: &str) -> String {
        let names = self.integers().into_iter().chain(self.booleans());
        let bound: Vec<_> = names.map(|name| format!("({name} {node}.{name})")).collect();
        format!("(let ({}) {formula})", bound.join(" "))
    }
}

pub(crate) fn and(all: impl Iterator<Item = String>) -> String {
    let all: Vec<_> = all.collect();
    format!("(and true {})", all.join(" "))
}

pub(crate) fn or(any: impl Iterator<Item = String>) -> String {
    let any: Vec<_> = any.collect();
    format!("(or false {})", any.join(" "))
}
