//! What is put to the solvers: for each transition what its row says, then what follows for a parent
//! with its children.

use crate::relation::{FIELDS, FLAGS, Relation};
use crate::solver::Query;

/// Something that must be so: the solvers look for values for which it is not.
pub(crate) struct Theorem {
    pub(crate) name: String,
    integers: Vec<String>,
    booleans: Vec<String>,
    /// Under these.
    given: Vec<String>,
    goal: String,
}

impl Theorem {
    /// Asks for a counterexample.
    pub(crate) fn refute(&self) -> Query {
        let mut holds = self.given.clone();
        holds.push(format!("(not {})", self.goal));
        let values = self.integers.iter().chain(&self.booleans).cloned().collect();
        Query { integers: self.integers.clone(), booleans: self.booleans.clone(), holds, values }
    }

    /// Asks for any case of it: a theorem about nothing proves nothing.
    pub(crate) fn case(&self) -> Query {
        let holds = self.given.clone();
        Query { integers: self.integers.clone(), booleans: self.booleans.clone(), holds, values: Vec::new() }
    }
}

/// What each transition must keep, for any state that satisfies the invariants.
pub(crate) fn of_transition(relation: &Relation<'_>) -> Vec<Theorem> {
    let row = relation.row;
    let theorem = |name: &str, given: Vec<String>, goal: String| Theorem {
        name: format!("{}/{name}", row.name),
        integers: relation.integers(),
        booleans: relation.booleans(),
        given: relation.known().into_iter().chain(given).collect(),
        goal,
    };
    let step = relation.formula();
    let whenever = |formula: &str| vec![step.clone(), formula.to_owned()];
    let granted = || whenever("(= outcome Granted)");

    let gives = row.gives.iter().map(|(name, is)| format!("(fits {name}) (= {name} {is})"));
    let after = FIELDS.iter().chain(&FLAGS).zip(row.after.iter().chain(&row.flags));
    let after = after.map(|(field, is)| format!("(= new.{field} {is})"));
    let moves = FIELDS.iter().zip(row.moves).map(|(field, by)| format!("(= new.{field} (+ {field} {by}))"));
    let fit = FIELDS.iter().map(|field| format!("(fits new.{field})"));
    let all =
        |parts: &mut dyn Iterator<Item = String>| format!("(and {})", parts.collect::<Vec<_>>().join(" "));
    let figures = row.refuses.iter().map(|refusal| {
        let figure = refusal.figure.map(|is| format!("(fits figure) (= figure {is})")).unwrap_or_default();
        format!("(and (= outcome {}) {} {figure})", refusal.why, refusal.when)
    });
    vec![
        theorem("every value takes a path", vec![], format!("(not {})", relation.no_path())),
        theorem("I1: what is given and what stays is what was", granted(), all(&mut { moves })),
        theorem(
            "I2: no use and no holding above the limit",
            granted(),
            format!(
                "(and (or (<= new.used used) (<= (above new.used new.limit) (above used limit))) {})",
                row.excess
            ),
        ),
        theorem(
            "I3: the floor is held and within the limit",
            granted(),
            "(and (<= new.floor new.held) (<= new.floor new.limit))".to_owned(),
        ),
        theorem("I4: what is used is held", granted(), "(<= new.used new.held)".to_owned()),
        theorem("every field fits", granted(), all(&mut { fit })),
        theorem(
            "granted is what the table says",
            granted(),
            all(&mut after.chain(gives).chain([format!("(= new.version {})", crate::relation::VERSION)])),
        ),
        theorem(
            "granted just where the table says",
            vec![step.clone()],
            format!("(= (= outcome Granted) {})", row.needs),
        ),
    ]
    .into_iter()
    .chain(row.debt.map(|debt| {
        let backed = |held: &str, floor: &str, owes: &str, debt: &str| {
            format!("(and (<= 0 {debt}) (<= (+ {floor} {debt}) {held}) (=> (< 0 {debt}) {owes}))")
        };
        let before = backed("held", "floor", "owes", "debt");
        let mut theorem = theorem(
            "a debt stays backed by what is held above the floor",
            vec![step.clone(), "(= outcome Granted)".to_owned(), before],
            backed("new.held", "new.floor", "new.owes", debt),
        );
        if !row.takes.contains(&"debt") {
            theorem.integers.push("debt".to_owned());
        }
        theorem
    }))
    .chain((!row.refuses.is_empty()).then(|| {
        theorem(
            "a refusal says why, and how much",
            whenever("(not (= outcome Granted))"),
            format!("(or {})", figures.collect::<Vec<_>>().join(" ")),
        )
    }))
    .collect()
}

/// Each way a row may end, as a case that must exist.
pub(crate) fn ends(relation: &Relation<'_>) -> Vec<(String, Query)> {
    let whys = ["Granted"].into_iter().chain(relation.row.refuses.iter().map(|refusal| refusal.why));
    whys.map(|why| {
        let mut holds = relation.known();
        holds.extend([relation.formula(), format!("(= outcome {why})")]);
        let query =
            Query { integers: relation.integers(), booleans: relation.booleans(), holds, values: Vec::new() };
        (format!("{}/{why}", relation.row.name), query)
    })
    .collect()
}

/// A parent `p`, two of its children `a` and `b`, the `rest` of them summed, and what is on its `way`
/// between them. `p.own` is the part of the parent's floor that is its own.
struct Tree {
    integers: Vec<String>,
    booleans: Vec<String>,
    known: Vec<String>,
}

impl Tree {
    fn new() -> Self {
        let mut integers = vec!["p.own".to_owned()];
        let mut known = vec!["(<= 0 p.own)".to_owned()];
        for node in ["p", "a", "b"] {
            integers.extend(FIELDS.iter().map(|field| format!("{node}.{field}")));
            known.push(format!("(valid {node}.used {node}.held {node}.floor {node}.limit)"));
        }
        for sum in ["rest", "way"] {
            integers.extend(FIELDS.iter().map(|field| format!("{sum}.{field}")));
            known.extend(FIELDS.iter().map(|field| format!("(<= 0 {sum}.{field})")));
        }
        // The rest are budgets too.
        known.push(
            "(and (<= rest.used rest.held) (<= rest.floor rest.held) (<= rest.floor rest.limit))".to_owned(),
        );
        let flags = |node| FLAGS.iter().map(move |flag| format!("{node}.{flag}"));
        let booleans = ["p", "a", "b"].into_iter().flat_map(flags).collect();
        known.push(conserved("p", "a", "b", "way", "p.own"));
        Self { integers, booleans, known }
    }

    /// A step of a transition at a node, from `at.x` to `at.new.x`.
    fn step(&mut self, relation: &Relation<'_>, node: &str) {
        let add = |names: Vec<String>, to: &mut Vec<String>| {
            for name in names {
                let name = format!("{node}.{name}");
                if !to.contains(&name) {
                    to.push(name);
                }
            }
        };
        add(relation.integers(), &mut self.integers);
        add(relation.booleans(), &mut self.booleans);
        let known = relation.known();
        self.known.extend(known.iter().map(|formula| relation.at(node, formula)));
        self.known.push(relation.at(node, &relation.formula()));
    }

    fn theorem(self, name: impl Into<String>, given: Vec<String>, goal: String) -> Theorem {
        let Self { integers, booleans, mut known } = self;
        known.extend(given);
        Theorem { name: format!("tree/{}", name.into()), integers, booleans, given: known, goal }
    }
}

/// I1 of a parent and its children, and that its floor is its own and theirs.
fn conserved(p: &str, a: &str, b: &str, way: &str, own: &str) -> String {
    format!(
        "(and (= {p}.used (+ {a}.held {b}.held rest.held {way}.held))
            (= {p}.floor (+ {own} {a}.floor {b}.floor rest.floor {way}.floor)))"
    )
}

/// What follows for a parent with its children.
pub(crate) fn of_tree(relations: &[Relation<'_>]) -> Result<Vec<Theorem>, String> {
    let find = |name: &str| {
        relations.iter().find(|relation| relation.row.name == name).ok_or(format!("no row {name}"))
    };
    let mut theorems = Vec::new();

    theorems.push(
        Tree::new().theorem(
            "the sum of floors never exceeds the total",
            vec![],
            "(and (<= (+ a.floor b.floor rest.floor way.floor p.own) p.limit)
            (<= (+ a.floor b.floor rest.floor way.floor p.own) p.held))"
                .to_owned(),
        ),
    );
    theorems.push(Tree::new().theorem(
        "what children use, their parent holds",
        vec![],
        "(<= (+ a.used b.used rest.used way.held) p.held)".to_owned(),
    ));

    let mut guaranteed = Tree::new();
    guaranteed.step(find("charge")?, "a");
    theorems.push(guaranteed.theorem(
        "a charge within the floor never fails",
        vec!["(not a.closed)".to_owned(), "(<= (+ a.used a.n) a.floor)".to_owned()],
        "(= a.outcome Granted)".to_owned(),
    ));

    for relation in relations {
        let row = relation.row;
        if let Some(known) = row.at.child {
            let mut tree = Tree::new();
            tree.step(relation, "a");
            let moves = |by: &str| relation.at("a", by);
            let mut given: Vec<_> = known.iter().map(|formula| relation.at("a", formula)).collect();
            given.push("(= a.outcome Granted)".to_owned());
            let goal = format!(
                "(let ((new.held (- way.held {})) (new.floor (- way.floor {})))
                    (and (<= 0 new.held) (<= 0 new.floor) {}))",
                moves(row.moves[1]),
                moves(row.moves[2]),
                conserved("p", "a.new", "b", "new", "p.own"),
            );
            theorems.push(tree.theorem(format!("I1 after {} of a child", row.name), given, goal));
        }
        if let Some((known, passed)) = row.at.parent {
            let mut tree = Tree::new();
            tree.step(relation, "p");
            let moves = |by: &str| relation.at("p", by);
            let mut given: Vec<_> = known.iter().map(|formula| relation.at("p", formula)).collect();
            given.push("(= p.outcome Granted)".to_owned());
            let goal = format!(
                "(let ((new.held (+ way.held {})) (new.floor (+ way.floor {passed}))
                       (new.own (+ p.own (- {floor} {passed}))))
                    (and (<= 0 new.held) (<= 0 new.floor) (<= 0 new.own) {}
                        (<= (+ a.floor b.floor rest.floor new.floor new.own) p.new.limit)))",
                moves(row.moves[0]),
                conserved("p.new", "a", "b", "new", "new.own"),
                passed = moves(passed),
                floor = moves(row.moves[2]),
            );
            theorems.push(tree.theorem(format!("I1 after {} of the parent", row.name), given, goal));
        }
    }
    theorems.extend(loans(&Loans {
        lend: find("lend")?,
        borrow: find("borrow")?,
        recall: find("recall")?,
        charge: find("charge")?,
    }));
    Ok(theorems)
}

/// The transitions of a loan.
struct Loans<'r> {
    lend: &'r Relation<'r>,
    borrow: &'r Relation<'r>,
    recall: &'r Relation<'r>,
    charge: &'r Relation<'r>,
}

/// A loan from `a` to `b`, and back.
fn loans(&Loans { lend, borrow, recall, charge }: &Loans<'_>) -> Vec<Theorem> {
    let lent = || {
        let mut tree = Tree::new();
        tree.step(lend, "a");
        tree.step(borrow, "b");
        let given = ["(= a.outcome Granted)", "(= b.outcome Granted)", "(= a.n b.n)"].map(str::to_owned);
        (tree, given.to_vec())
    };
    let mut theorems = Vec::new();
    let (tree, given) = lent();
    let sums = FIELDS.iter().map(|f| format!("(= (+ a.{f} b.{f}) (+ a.new.{f} b.new.{f}))"));
    theorems.push(tree.theorem(
        "a loan conserves bytes, floors and limits",
        given,
        format!("(and {})", sums.collect::<Vec<_>>().join(" ")),
    ));

    // No total, and no limit that is set, is above half a field; what is borrowed comes on top of it, as
    // it does of the floor.
    let mut tree = Tree::new();
    tree.step(borrow, "b");
    tree.integers.extend(["largest", "borrowed"].map(str::to_owned));
    let half = "(and (<= (* 2 largest) top) (<= p.held largest))";
    let terms = "(and (<= b.limit (+ largest borrowed)) (<= 0 borrowed) (<= borrowed b.floor))";
    let on_its_way = "(and (<= b.n way.held) (<= b.n way.floor))";
    let given = [half, terms, on_its_way, "(not b.closed)"].map(str::to_owned).to_vec();
    theorems.push(tree.theorem(
        "what is lent always finds room at the borrower",
        given,
        "(= b.outcome Granted)".to_owned(),
    ));

    // The guarantee moves with the room: each may charge up to the floor it has now.
    for node in ["a", "b"] {
        let (mut tree, mut given) = lent();
        // The charge takes place where the loan left the node.
        tree.step(charge, "then");
        given.extend(FIELDS.iter().map(|field| format!("(= then.{field} {node}.new.{field})")));
        given.extend(FLAGS.iter().map(|flag| format!("(= then.{flag} {node}.new.{flag})")));
        given.push("(<= (+ then.used then.n) then.floor)".to_owned());
        let whose = if node == "a" { "lender" } else { "borrower" };
        theorems.push(tree.theorem(
            format!("after a loan a charge within the {whose}'s floor never fails"),
            given,
            "(= then.outcome Granted)".to_owned(),
        ));
    }

    // What the borrower has idle comes back whole.
    let (mut tree, mut given) = lent();
    given.push("(not b.owes)".to_owned());
    for (now, before, relation) in [("back", "b", recall), ("home", "a", borrow)] {
        tree.step(relation, now);
        given.extend(FIELDS.iter().map(|field| format!("(= {now}.{field} {before}.new.{field})")));
        given.extend(FLAGS.iter().map(|flag| format!("(= {now}.{flag} {before}.new.{flag})")));
        given.push(format!("(= {now}.n a.n)"));
    }
    let same = FIELDS.iter().map(|f| format!("(= home.new.{f} a.{f}) (= back.new.{f} b.{f})"));
    theorems.push(tree.theorem(
        "a loan that is untouched comes back whole, and all is as before",
        given,
        format!(
            "(and (= home.outcome Granted) (= back.outcome Granted) (= back.idle a.n) (= back.new.owes b.owes) {})",
            same.collect::<Vec<_>>().join(" ")
        ),
    ));
    theorems
}
