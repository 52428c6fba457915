//! What every transition must do, one row each: said apart from the code, in SMT-LIB over the state
//! before (`used held floor limit closed`) and what it takes and gives.

use crate::shipped::amount::Units;
use crate::shipped::state::State;
use crate::shipped::transition::{self, Refusal};
use crate::symbolic::Sym;

/// The next state and the amounts given out, or why not.
pub(crate) type Outcome<A> = Result<(State<A>, Vec<A>), Refusal<A>>;

/// A transition, and what it must do.
pub(crate) struct Row {
    /// Its name in `transition.rs`.
    pub(crate) name: &'static str,
    /// The shipped function on terms, and on what ships.
    pub(crate) symbolic: fn(State<Sym>, &[Sym]) -> Outcome<Sym>,
    pub(crate) units: fn(State<Units>, &[Units]) -> Outcome<Units>,
    /// The amounts it takes. Each may be anything that fits a field.
    pub(crate) takes: &'static [&'static str],
    /// The amounts it gives, and what each must be.
    pub(crate) gives: &'static [(&'static str, &'static str)],
    /// What is assumed of state and amounts besides I3, I4 and the range.
    pub(crate) assumes: &'static [&'static str],
    /// It is granted exactly where this holds.
    pub(crate) needs: &'static str,
    /// `used`, `held`, `floor`, `limit` and `closed` afterwards.
    pub(crate) after: [&'static str; 5],
    /// I1: by how much each of the four grows, in what was taken and given alone. So what is given
    /// and what stays is what was.
    pub(crate) moves: [&'static str; 4],
    /// Whether it may leave more held above the limit than there was.
    pub(crate) may_exceed: bool,
    /// The refusals: which, where it may be, and which figure it must name.
    pub(crate) refuses: Vec<Refuses>,
    /// Refusals that are in the code and never come, with the reason.
    pub(crate) never: &'static [(&'static str, &'static str)],
    /// Where it takes place.
    pub(crate) at: Place,
}

pub(crate) struct Refuses {
    pub(crate) why: &'static str,
    pub(crate) when: &'static str,
    pub(crate) figure: Option<&'static str>,
}

/// At which nodes a transition takes place. What is beside the node's own state is in transit:
/// `way.held`, `way.floor`, `way.limit`.
pub(crate) struct Place {
    /// At a child: what else is known there.
    pub(crate) child: Option<&'static [&'static str]>,
    /// At a parent: what else is known there, and which part of what its floor moves by is on
    /// the way to or from a child (the rest is its own).
    pub(crate) parent: Option<(&'static [&'static str], &'static str)>,
}

macro_rules! runs {
    (|$state:ident, $takes:ident| $call:expr) => {
        (|$state, $takes| $call, |$state, $takes| $call)
    };
}

fn refuses(why: &'static str, when: &'static str, figure: &'static str) -> Refuses {
    Refuses { why, when, figure: Some(figure) }
}

fn plainly(why: &'static str, when: &'static str) -> Refuses {
    Refuses { why, when, figure: None }
}

const CLOSED: Refuses = Refuses { why: "Closed", when: "closed", figure: None };
const NO_REASON: &[&str] = &[];

/// All of them.
pub(crate) fn rows() -> Vec<Row> {
    use transition as t;
    let mut rows = Vec::new();
    let mut row = |name, runs: (_, _), row: Row| {
        rows.push(Row { name, symbolic: runs.0, units: runs.1, ..row });
    };
    row(
        "charge",
        runs!(|s, x| t::charge(s, &x[0]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n"],
            needs: "(and (not closed) (<= (+ used n) (least limit held)))",
            after: ["(+ used n)", "held", "floor", "limit", "closed"],
            moves: ["n", "0", "0", "0"],
            refuses: vec![
                CLOSED,
                refuses("OverLimit", "(> (+ used n) limit)", "(least top (- (+ used n) limit))"),
                refuses("Short", "(> (+ used n) held)", "(- (+ used n) held)"),
            ],
            at: Place { child: Some(NO_REASON), parent: Some((NO_REASON, "0")) },
            ..Row::default()
        },
    );
    row(
        "uncharge",
        runs!(|s, x| t::uncharge(s, &x[0], &x[1]).map(|(s, given)| (s, vec![given]))),
        Row {
            takes: &["n", "stock"],
            gives: &[("given", "(- held (kept (- used n) held floor limit stock))")],
            needs: "(<= n used)",
            after: ["(- used n)", "(kept (- used n) held floor limit stock)", "floor", "limit", "closed"],
            moves: ["(- n)", "(- given)", "0", "0"],
            refuses: vec![plainly("OutOfRange", "(> n used)")],
            at: Place { child: Some(NO_REASON), parent: Some((&["(<= n way.held)"], "0")) },
            ..Row::default()
        },
    );
    row(
        "delegate",
        runs!(|s, x| t::delegate(s, &x[0], &x[1]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n", "f"],
            needs: "(and (not closed) (<= (most (+ used n) (+ floor f)) (least limit held)))",
            after: ["(+ used n)", "held", "(+ floor f)", "limit", "closed"],
            moves: ["n", "0", "f", "0"],
            refuses: vec![
                CLOSED,
                refuses(
                    "OverLimit",
                    "(> (most (+ used n) (+ floor f)) limit)",
                    "(ite (> (+ used n) limit) (least top (- (+ used n) limit)) (- (+ floor f) limit))",
                ),
                refuses(
                    "Short",
                    "(> (most (+ used n) (+ floor f)) held)",
                    "(- (most (+ used n) (+ floor f)) held)",
                ),
                plainly("OutOfRange", "(> (+ floor f) top)"),
            ],
            at: Place { child: None, parent: Some((NO_REASON, "f")) },
            ..Row::default()
        },
    );
    row(
        "undelegate",
        runs!(|s, x| t::undelegate(s, &x[0], &x[1], &x[2]).map(|(s, given)| (s, vec![given]))),
        Row {
            takes: &["n", "f", "stock"],
            gives: &[("given", "(- held (kept (- used n) held (- floor f) limit stock))")],
            needs: "(and (<= n used) (<= f floor))",
            after: [
                "(- used n)",
                "(kept (- used n) held (- floor f) limit stock)",
                "(- floor f)",
                "limit",
                "closed",
            ],
            moves: ["(- n)", "(- given)", "(- f)", "0"],
            refuses: vec![plainly("OutOfRange", "(or (> n used) (> f floor))")],
            at: Place { child: None, parent: Some((&["(<= n way.held)", "(<= f way.floor)"], "(- f)")) },
            ..Row::default()
        },
    );
    row(
        "refill",
        runs!(|s, x| t::refill(s, &x[0], &x[1]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n", "f"],
            needs: "(and (not closed) (<= (+ held n) top) (or (= n 0) (<= (+ held n) limit))
                (<= (+ floor f) (least limit (+ held n))))",
            after: ["used", "(+ held n)", "(+ floor f)", "limit", "closed"],
            moves: ["0", "n", "f", "0"],
            refuses: vec![
                CLOSED,
                refuses(
                    "OverLimit",
                    "(or (and (> n 0) (> (+ held n) limit)) (> (+ floor f) limit))",
                    "(ite (and (> n 0) (> (+ held n) limit)) (- (+ held n) limit) (- (+ floor f) limit))",
                ),
                refuses("Short", "(> (+ floor f) (+ held n))", "(- (+ floor f) (+ held n))"),
                plainly("OutOfRange", "(or (> (+ held n) top) (> (+ floor f) top))"),
            ],
            at: Place {
                child: Some(&["(<= n way.held)", "(<= f way.floor)"]),
                parent: Some((NO_REASON, "0")),
            },
            ..Row::default()
        },
    );
    row(
        "release",
        runs!(|s, x| t::release(s, &x[0]).map(|(s, given)| (s, vec![given]))),
        Row {
            takes: &["n"],
            gives: &[("given", "(least n (- held (most used floor)))")],
            needs: "true",
            after: ["used", "(- held given)", "floor", "limit", "closed"],
            moves: ["0", "(- given)", "0", "0"],
            never: &[("OutOfRange", "what is given is a part of what is held")],
            at: Place { child: Some(NO_REASON), parent: Some((NO_REASON, "0")) },
            ..Row::default()
        },
    );
    row(
        "lend",
        runs!(|s, x| t::lend(s, &x[0]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n"],
            needs: "(and (not closed) (<= n (least floor (- held used))))",
            after: ["used", "(- held n)", "(- floor n)", "(- limit n)", "closed"],
            moves: ["0", "(- n)", "(- n)", "(- n)"],
            refuses: vec![
                CLOSED,
                refuses("NotIdle", "(> n (least floor (- held used)))", "(least floor (- held used))"),
            ],
            never: &[(
                "OutOfRange",
                "what is lent is a part of the floor, which is held and within the limit",
            )],
            at: Place { child: Some(NO_REASON), parent: None },
            ..Row::default()
        },
    );
    row(
        "borrow",
        runs!(|s, x| t::borrow(s, &x[0]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n"],
            needs: "(and (not closed) (<= (+ (most held limit) n) top))",
            after: ["used", "(+ held n)", "(+ floor n)", "(+ limit n)", "closed"],
            moves: ["0", "n", "n", "n"],
            refuses: vec![CLOSED, plainly("OutOfRange", "(> (+ (most held limit) n) top)")],
            never: &[
                ("OverLimit", "the limit rises by as much as the floor, which was within it"),
                ("Short", "what is held rises by as much as the floor, which was held"),
            ],
            at: Place {
                child: Some(&["(<= n way.held)", "(<= n way.floor)", "(<= n way.limit)"]),
                parent: None,
            },
            ..Row::default()
        },
    );
    row(
        "set_limit",
        runs!(|s, x| t::set_limit(s, &x[0]).map(|(s, given)| (s, vec![given]))),
        Row {
            takes: &["n"],
            gives: &[("given", "(- held (least held (most used n)))")],
            needs: "(and (not closed) (<= floor n))",
            after: ["used", "(least held (most used n))", "floor", "n", "closed"],
            moves: ["0", "(- given)", "0", "(- n limit)"],
            may_exceed: true,
            refuses: vec![CLOSED, refuses("BelowFloor", "(< n floor)", "floor")],
            at: Place { child: Some(NO_REASON), parent: Some((NO_REASON, "0")) },
            ..Row::default()
        },
    );
    row(
        "set_total",
        runs!(|s, x| t::set_total(s, &x[0]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n"],
            needs: "(and (not closed) (<= floor n))",
            after: ["used", "(most n (least held (most used n)))", "floor", "n", "closed"],
            // The root's parent is the machine: what it holds is the total, or what is out of it still.
            moves: ["0", "(- (most n used) held)", "0", "(- n limit)"],
            may_exceed: true,
            refuses: vec![CLOSED, refuses("BelowFloor", "(< n floor)", "floor")],
            at: Place { child: None, parent: Some((NO_REASON, "0")) },
            ..Row::default()
        },
    );
    row(
        "lower_floor",
        runs!(|s, x| t::lower_floor(s, &x[0], &x[1]).map(|(s, given)| (s, vec![given]))),
        Row {
            takes: &["n", "stock"],
            gives: &[("given", "(- held (kept used held (- floor n) limit stock))")],
            needs: "(<= n floor)",
            after: ["used", "(kept used held (- floor n) limit stock)", "(- floor n)", "limit", "closed"],
            moves: ["0", "(- given)", "(- n)", "0"],
            refuses: vec![plainly("OutOfRange", "(> n floor)")],
            // A parent's own guarantee is lowered by no more than it is.
            at: Place { child: Some(NO_REASON), parent: Some((&["(<= n p.own)"], "0")) },
            ..Row::default()
        },
    );
    row(
        "retire",
        runs!(|s, _x| t::retire(s).map(|(s, (held, floor))| (s, vec![held, floor]))),
        Row {
            gives: &[("given", "held"), ("freed", "floor")],
            needs: "(and (not closed) (= used 0))",
            after: ["0", "0", "0", "0", "true"],
            moves: ["0", "(- given)", "(- freed)", "(- limit)"],
            refuses: vec![CLOSED, refuses("InUse", "(> used 0)", "used")],
            // While a floor is on its way, the parent counts one child more.
            at: Place { child: Some(NO_REASON), parent: Some((&["(= way.floor 0)"], "0")) },
            ..Row::default()
        },
    );
    rows
}

/// A row with nothing in it yet.
impl Default for Row {
    fn default() -> Self {
        Self {
            name: "",
            symbolic: |state, _| Ok((state, Vec::new())),
            units: |state, _| Ok((state, Vec::new())),
            takes: &[],
            gives: &[],
            assumes: &[],
            needs: "true",
            after: ["used", "held", "floor", "limit", "closed"],
            moves: ["0", "0", "0", "0"],
            may_exceed: false,
            refuses: Vec::new(),
            never: &[],
            at: Place { child: None, parent: None },
        }
    }
}
