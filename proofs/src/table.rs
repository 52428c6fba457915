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
    /// `used`, `held`, `floor` and `limit` afterwards.
    pub(crate) after: [&'static str; 4],
    /// `closed` and `owes` afterwards.
    pub(crate) flags: [&'static str; 2],
    /// I1: by how much each of the four grows, in what was taken and given alone. So what is given
    /// and what stays is what was.
    pub(crate) moves: [&'static str; 4],
    /// I2: what is held above the limit afterwards. No more than before, but for a few.
    pub(crate) excess: &'static str,
    /// What the budget owes afterwards, if it owed `debt`. None where its debts end with it.
    pub(crate) debt: Option<&'static str>,
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
            needs: "(and (not closed) (<= (+ used n) (least limit (usable used held floor owes))))",
            after: ["(+ used n)", "held", "floor", "limit"],
            moves: ["n", "0", "0", "0"],
            refuses: vec![
                CLOSED,
                refuses("OverLimit", "(> (+ used n) limit)", "(least top (- (+ used n) limit))"),
                refuses(
                    "Short",
                    "(> (+ used n) (usable used held floor owes))",
                    "(- (+ used n) (usable used held floor owes))",
                ),
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
            gives: &[("given", "(- held (kept (- used n) held floor limit owes stock))")],
            needs: "(<= n used)",
            after: ["(- used n)", "(kept (- used n) held floor limit owes stock)", "floor", "limit"],
            moves: ["(- n)", "(- given)", "0", "0"],
            refuses: vec![plainly("OutOfRange", "(> n used)")],
            at: Place { child: Some(NO_REASON), parent: Some((&["(<= n way.held)"], "0")) },
            ..Row::default()
        },
    );
    row(
        "uncharge_and_keep",
        runs!(|s, x| t::uncharge_and_keep(s, &x[0], &x[1]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n", "stock"],
            needs: "(and (not owes) (<= n used)
                (or (<= held floor) (and (<= held limit) (<= (- held (- used n)) stock))))",
            // That it stays as it is says `moves`: this, that `uncharge` would leave it so.
            after: ["(- used n)", "(kept (- used n) held floor limit owes stock)", "floor", "limit"],
            moves: ["(- n)", "0", "0", "0"],
            refuses: vec![
                plainly("OutOfRange", "(> n used)"),
                plainly(
                    "Spills",
                    "(or owes (and (> held floor) (or (> held limit) (> (- held (- used n)) stock))))",
                ),
            ],
            at: Place { child: Some(NO_REASON), parent: None },
            ..Row::default()
        },
    );
    row(
        "delegate",
        runs!(|s, x| t::delegate(s, &x[0], &x[1]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n", "f"],
            needs: "(and (not closed) (<= (most (+ used n) (+ floor f)) (least limit (usable used held floor owes)))
                (=> owes (= f 0)))",
            after: ["(+ used n)", "held", "(+ floor f)", "limit"],
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
                    "(or (> (most (+ used n) (+ floor f)) (usable used held floor owes)) (and owes (> f 0)))",
                    "(most (- (most (+ used n) (+ floor f)) (usable used held floor owes)) (ite owes f 0))",
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
            gives: &[("given", "(- held (kept (- used n) held (- floor f) limit owes stock))")],
            needs: "(and (<= n used) (<= f floor))",
            after: [
                "(- used n)",
                "(kept (- used n) held (- floor f) limit owes stock)",
                "(- floor f)",
                "limit",
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
                (<= (+ floor f) (least limit (+ held n))) (=> owes (<= f n)))",
            after: ["used", "(+ held n)", "(+ floor f)", "limit"],
            moves: ["0", "n", "f", "0"],
            refuses: vec![
                CLOSED,
                refuses(
                    "OverLimit",
                    "(or (and (> n 0) (> (+ held n) limit)) (> (+ floor f) limit))",
                    "(ite (and (> n 0) (> (+ held n) limit)) (- (+ held n) limit) (- (+ floor f) limit))",
                ),
                refuses(
                    "Short",
                    "(or (> (+ floor f) (+ held n)) (and owes (> f n)))",
                    "(most (- (+ floor f) (+ held n)) (ite owes (- f n) 0))",
                ),
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
            gives: &[("given", "(ite owes 0 (least n (stocked used held floor)))")],
            needs: "true",
            after: ["used", "(- held given)", "floor", "limit"],
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
            needs: "(and (not closed) (<= n (ite owes 0 (least floor (- held used)))))",
            after: ["used", "(- held n)", "(- floor n)", "(- limit n)"],
            moves: ["0", "(- n)", "(- n)", "(- n)"],
            refuses: vec![
                CLOSED,
                refuses(
                    "NotIdle",
                    "(> n (ite owes 0 (least floor (- held used))))",
                    "(ite owes 0 (least floor (- held used)))",
                ),
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
            after: ["used", "(+ held n)", "(+ floor n)", "(+ limit n)"],
            moves: ["0", "n", "n", "n"],
            refuses: vec![CLOSED, plainly("OutOfRange", "(> (+ (most held limit) n) top)")],
            never: &[
                ("OverLimit", "the limit rises by as much as the floor, which was within it"),
                ("Short", "what is held rises by as much as the floor, which was held"),
            ],
            at: Place {
                child: Some(&["(<= n way.held)", "(<= n way.floor)"]),
                parent: Some((NO_REASON, "0")),
            },
            ..Row::default()
        },
    );
    row(
        "refill_and_delegate",
        runs!(|s, x| t::refill_and_delegate(s, &x[0], &x[1], &x[2]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["c", "n", "f"],
            needs: "(and (not closed) (<= (+ held c) top) (or (= c 0) (<= (+ held c) limit))
                (<= (most (+ used n) (+ floor f)) (least limit (+ c (usable used held floor owes))))
                (=> owes (<= f c)))",
            after: ["(+ used n)", "(+ held c)", "(+ floor f)", "limit"],
            moves: ["n", "c", "f", "0"],
            refuses: vec![
                CLOSED,
                refuses(
                    "OverLimit",
                    "(or (and (> c 0) (> (+ held c) limit)) (> (most (+ used n) (+ floor f)) limit))",
                    "(ite (and (> c 0) (> (+ held c) limit)) (- (+ held c) limit)
                        (ite (> (+ used n) limit) (least top (- (+ used n) limit)) (- (+ floor f) limit)))",
                ),
                refuses(
                    "Short",
                    "(or (> (most (+ used n) (+ floor f)) (+ c (usable used held floor owes)))
                        (and owes (> f c)))",
                    "(most (- (most (+ used n) (+ floor f)) (+ c (usable used held floor owes)))
                        (ite owes (- f c) 0))",
                ),
                plainly("OutOfRange", "(or (> (+ held c) top) (> (+ floor f) top))"),
            ],
            at: Place {
                child: Some(&["(<= c way.held)", "(<= f way.floor)"]),
                parent: Some((NO_REASON, "f")),
            },
            ..Row::default()
        },
    );
    row(
        "pass_up",
        runs!(|s, x| t::pass_up(s, &x[0]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n"],
            needs: "(and (not closed) (<= n (least used floor)))",
            after: ["(- used n)", "(- held n)", "(- floor n)", "(- limit n)"],
            moves: ["(- n)", "(- n)", "(- n)", "(- n)"],
            refuses: vec![CLOSED, plainly("OutOfRange", "(> n (least used floor))")],
            at: Place {
                child: Some(NO_REASON),
                parent: Some((&["(<= n way.held)", "(<= n way.floor)"], "(- n)")),
            },
            ..Row::default()
        },
    );
    row(
        "pass_down",
        runs!(|s, x| t::pass_down(s, &x[0]).map(|(s, ())| (s, vec![]))),
        Row {
            takes: &["n"],
            needs: "(and (not closed) (<= (+ (most held limit) n) top))",
            after: ["(+ used n)", "(+ held n)", "(+ floor n)", "(+ limit n)"],
            moves: ["n", "n", "n", "n"],
            // A parent above its limit stays as far above it.
            refuses: vec![CLOSED, plainly("OutOfRange", "(> (+ (most held limit) n) top)")],
            never: &[
                ("OverLimit", "the limit rises by as much as the floor, which was within it"),
                ("Short", "what is held rises by as much as the floor, which was held"),
            ],
            at: Place {
                child: Some(&["(<= n way.held)", "(<= n way.floor)"]),
                parent: Some((NO_REASON, "n")),
            },
            ..Row::default()
        },
    );
    row(
        "recall",
        runs!(|s, x| t::recall(s, &x[0]).map(|(s, idle)| (s, vec![idle]))),
        Row {
            takes: &["n"],
            gives: &[("idle", "(least n (- (usable used held floor owes) used))")],
            needs: "(and (not closed) (<= n floor))",
            after: ["used", "(- held idle)", "(- floor n)", "(- limit n)"],
            flags: ["closed", "(or owes (> n idle))"],
            debt: Some("(+ debt (- n idle))"),
            moves: ["0", "(- idle)", "(- n)", "(- n)"],
            // What is in use cannot be taken back.
            excess: "(<= (above new.held new.limit) (+ (above held limit) (least n used)))",
            refuses: vec![CLOSED, plainly("OutOfRange", "(> n floor)")],
            at: Place { child: Some(NO_REASON), parent: Some((&["(<= n p.own)"], "0")) },
            ..Row::default()
        },
    );
    row(
        "recall_idle",
        runs!(|s, x| t::recall_idle(s, &x[0]).map(|(s, idle)| (s, vec![idle]))),
        Row {
            takes: &["n"],
            gives: &[("idle", "(least n (- (usable used held floor owes) used))")],
            needs: "(and (not closed) (<= (least n (- (usable used held floor owes) used)) floor))",
            after: ["used", "(- held idle)", "(- floor idle)", "(- limit idle)"],
            flags: ["closed", "owes"],
            moves: ["0", "(- idle)", "(- idle)", "(- idle)"],
            refuses: vec![
                CLOSED,
                plainly("OutOfRange", "(> (least n (- (usable used held floor owes) used)) floor)"),
            ],
            at: Place { child: Some(NO_REASON), parent: Some((&["(<= idle p.own)"], "0")) },
            ..Row::default()
        },
    );
    row(
        "settle_debt",
        runs!(|s, x| t::settle_debt(s, &x[0], &x[1]).map(|(s, (paid, spilled))| (s, vec![paid, spilled]))),
        Row {
            takes: &["debt", "stock"],
            gives: &[
                ("paid", "(least debt (stocked used held floor))"),
                ("spilled", "(- held paid (kept used (- held paid) floor limit (> debt paid) stock))"),
            ],
            needs: "true",
            after: ["used", "(- held paid spilled)", "floor", "limit"],
            flags: ["closed", "(> debt paid)"],
            debt: Some("(- debt paid)"),
            moves: ["0", "(- (+ paid spilled))", "0", "0"],
            never: &[("OutOfRange", "what is paid is a part of what is held")],
            at: Place { child: Some(NO_REASON), parent: Some((NO_REASON, "0")) },
            ..Row::default()
        },
    );
    row(
        "set_limit",
        runs!(|s, x| t::set_limit(s, &x[0]).map(|(s, given)| (s, vec![given]))),
        Row {
            takes: &["n"],
            gives: &[("given", "(ite owes 0 (- held (least held (most used n))))")],
            needs: "(and (not closed) (<= floor n))",
            after: ["used", "(ite owes held (least held (most used n)))", "floor", "n"],
            moves: ["0", "(- given)", "0", "(- n limit)"],
            // What is in use, or owed, cannot be taken back.
            excess: "(or (<= new.held new.limit) (<= new.held new.used) (and owes (= new.held held)))",
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
            after: ["used", "(most n (ite owes held (least held (most used n))))", "floor", "n"],
            // The root's parent is the machine: what it holds is the total, or what is out of it still.
            moves: ["0", "(- (most n (ite owes held used)) held)", "0", "(- n limit)"],
            excess: "(or (<= new.held new.limit) (<= new.held new.used) (and owes (= new.held held)))",
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
            gives: &[("given", "(- held (kept used held (- floor n) limit owes stock))")],
            needs: "(<= n floor)",
            after: ["used", "(kept used held (- floor n) limit owes stock)", "(- floor n)", "limit"],
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
            after: ["0", "0", "0", "0"],
            flags: ["true", "false"],
            debt: None,
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
            after: ["used", "held", "floor", "limit"],
            moves: ["0", "0", "0", "0"],
            flags: ["closed", "owes"],
            excess: "(<= (above new.held new.limit) (above held limit))",
            debt: Some("debt"),
            refuses: Vec::new(),
            never: &[],
            at: Place { child: None, parent: None },
        }
    }
}
