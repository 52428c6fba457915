//! `docs/verification.md` says which level finds what, by which test: it says it of every invariant, and those tests are there.

use std::collections::BTreeSet;

use super::super::checker::Checker;
use super::*;

const DOCUMENT: &str = include_str!("../../../../docs/verification.md");

/// The names of the tests of this folder.
fn tests() -> BTreeSet<&'static str> {
    let sources = [
        include_str!("../tests.rs"),
        include_str!("concurrent.rs"),
        include_str!("docs.rs"),
        include_str!("followed.rs"),
        include_str!("ledger.rs"),
    ];
    let mut names = BTreeSet::new();
    for source in sources {
        let mut is_test = false;
        for line in source.lines().map(str::trim) {
            is_test |= line == "#[test]";
            if let Some(name) = line.strip_prefix("fn ").and_then(|line| line.split_once('(')) {
                names.extend(is_test.then_some(name.0));
                is_test = false;
            }
        }
    }
    names
}

/// The rows of the tables, each as its cells.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| "));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

fn named(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

#[test]
fn every_invariant_has_its_row_with_its_level_and_no_other() {
    let rows: Vec<_> = rows().filter(|row| row.len() == 4 && row[0] != "level").collect();
    let documented: Vec<_> =
        rows.iter().map(|row| (row[0].to_owned(), named(row[1]).next().unwrap())).collect();
    let invariants = Checker.invariants().iter();
    let checked: Vec<_> = invariants.map(|it| (format!("{:?}", it.level()), it.name())).collect();
    assert_eq!(documented, checked);
}

#[test]
fn every_test_that_is_named_is_there() {
    let tests = tests();
    assert!(tests.contains("every_test_that_is_named_is_there"));
    let mut count = 0;
    for row in rows().filter(|row| row.last().is_some_and(|cell| cell.starts_with('`'))) {
        for name in named(row[row.len() - 1]) {
            assert!(tests.contains(name), "{}: there is no test `{name}`", row[0]);
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

#[test]
#[cfg(feature = "formal-verification")]
fn every_invariant_of_the_shadow_has_its_row() {
    let (manager, _) = heap(Off);
    let invariants = manager.tracker.observers.ghost.invariants();
    assert!(!invariants.is_empty());
    let documented: Vec<_> =
        rows().filter_map(|row| named(row[0]).next()).filter(|it| it.starts_with("ghost")).collect();
    assert_eq!(documented, invariants.iter().map(Invariant::name).collect::<Vec<_>>());
}

#[test]
fn what_the_levels_cost_is_what_was_counted() {
    let counted = include_str!("../../../../benches/instructions.txt");
    let mut count = 0;
    for row in rows().filter(|row| row.len() == 3 && row[2].parse::<u64>().is_ok()) {
        let name = named(row[1]).next().expect("a row names what was counted");
        let line = counted.lines().find(|line| line.split(' ').next() == Some(name));
        let figure = line.and_then(|line| line.split(' ').nth(2)).and_then(|it| it.parse::<u64>().ok());
        assert_eq!(figure.map(|of_1000| (of_1000 + 500) / 1000), row[2].parse().ok(), "{name}");
        count += 1;
    }
    assert_eq!(count, 8);
}
