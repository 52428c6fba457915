//! COVERAGE.md says who charges and who releases on every path, and which test shows it: the tests it
//! names are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of the test functions in this folder.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let mut names = BTreeSet::new();
    for source in sources {
        let text = fs::read_to_string(source).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim() != "#[test]" {
                continue;
            }
            let function = lines.next().and_then(|line| line.trim().strip_prefix("fn ")?.split_once('('));
            names.extend(function.map(|(name, _)| name.to_owned()));
        }
    }
    names
}

/// The last cell of each row of the table, with the first to name it by.
fn rows() -> Vec<(String, Vec<String>)> {
    let text = include_str!("../COVERAGE.md");
    let rows = text.lines().filter(|line| line.starts_with("| ")).skip(1);
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{row}");
        let named = cells[3].split('`').skip(1).step_by(2).map(str::to_owned).collect();
        (cells[0].to_owned(), named)
    })
    .collect()
}

#[test]
fn every_path_has_a_test_and_every_test_named_exists() {
    let tests = tests();
    assert!(tests.contains("every_path_has_a_test_and_every_test_named_exists"));
    let rows = rows();
    assert!(rows.len() > 25, "{}", rows.len());
    for (path, named) in rows {
        assert!(!named.is_empty(), "no test for: {path}");
        for name in named {
            assert!(tests.contains(&name), "{path}: there is no test `{name}`");
        }
    }
}

#[test]
fn every_thing_that_bites_has_its_test() {
    let tests = tests();
    for number in 1..=13 {
        let named = format!("trap_{number:02}_");
        assert!(tests.iter().any(|test| test.starts_with(&named)), "no test {named}…");
    }
}
