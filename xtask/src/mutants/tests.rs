use super::switch::{Switched, mutants_at, replaced, switch};
use super::*;

fn mutant() -> Mutant {
    of("", Genre::FnValue, "true", "x")
}

/// One that replaces the first `original` of a source.
fn of(source: &str, genre: Genre, replacement: &str, original: &str) -> Mutant {
    let place = |offset: usize| {
        let before = &source[..offset];
        let line = before.matches('\n').count() + 1;
        Place { line, column: before.chars().rev().take_while(|&letter| letter != '\n').count() + 1 }
    };
    let start = source.find(original).unwrap_or(0);
    let end = if source.is_empty() { 0 } else { start + original.len() };
    Mutant {
        name: "a/b.rs:3:9: replace X::f -> bool with true".to_owned(),
        file: "a/b.rs".to_owned(),
        genre,
        span: Span { start: place(start), end: place(end) },
        function: None,
        replacement: replacement.to_owned(),
    }
}

/// The source with these mutants, as compact as it can be.
fn switched(source: &str, mutants: &[Mutant]) -> (String, Vec<usize>) {
    let numbered: Vec<_> = mutants.iter().enumerate().map(|(at, mutant)| (at + 1, mutant)).collect();
    let Switched { text, left_out } = switch(source, &numbered).unwrap();
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("/*") {
        plain += before;
        rest = after.split_once("*/").unwrap().1;
    }
    (plain + rest, left_out)
}

#[test]
fn a_reason_is_for_one_mutation_of_one_line_wherever_that_is() {
    let text = |text: &str| text.to_owned();
    let reason = Reason {
        file: text("a/b.rs"),
        line: text("self.0 > 1"),
        mutation: text("replace X::f -> bool with true"),
        why: text("because"),
        threads: false,
    };
    assert!(reason.is_for(&mutant(), "self.0 > 1"));
    assert!(!reason.is_for(&mutant(), "self.0 > 2"));
    let other = Mutant { name: text("a/b.rs:3:9: replace X::f -> bool with false"), ..mutant() };
    assert!(!reason.is_for(&other, "self.0 > 1"));
}

#[test]
fn a_part_is_one_of_all() {
    assert_eq!(shard("3/4").map(|shard| (shard.part, shard.of)).unwrap(), (3, 4));
    for text in ["4/4", "0/0", "1", "a/b", "-1/3"] {
        assert!(shard(text).is_err(), "{text}");
    }
}

#[test]
fn mutants_stand_beside_the_original_and_in_one_another() {
    let source = "fn f(a: bool, b: bool) -> bool {\n    !a && b\n}\n";
    let mutants = [
        of(source, Genre::BinaryOperator, "||", "&&"),
        of(source, Genre::UnaryOperator, "", "!"),
        of(source, Genre::FnValue, "true", "!a && b"),
    ];
    let (text, left_out) = switched(source, &mutants);
    let expected = "fn f(a: bool, b: bool) -> bool {
    if crate::mutant::on() == 3 { return true; }\
(match crate::mutant::on() { 1 => { !a || b } _ => { \
(match crate::mutant::on() { 2 => { a } _ => { !a } }) && b } })
}
";
    assert_eq!((text.as_str(), left_out), (expected, vec![]));
    assert_eq!(replaced(source, &mutants[0]), source.replace("&&", "||"));
}

#[test]
fn an_arm_is_deleted_by_a_guard() {
    let source = "fn f(a: u8) -> u8 { match a { 1 => 2, 3 if a > 2 => 4, _ => 0 } }";
    let mutants = [
        of(source, Genre::MatchArm, "", "1 => 2,"),
        of(source, Genre::MatchArm, "", "3 if a > 2 => 4,"),
        of(source, Genre::MatchArmGuard, "true", "a > 2"),
    ];
    let (text, left_out) = switched(source, &mutants);
    let expected = "fn f(a: u8) -> u8 { match a { 1 if crate::mutant::on() != 1  => 2, \
3 if crate::mutant::on() != 2 && (match crate::mutant::on() { 3 => { true } _ => { a > 2 } }) => 4, _ => 0 } }";
    assert_eq!((text.as_str(), left_out), (expected, vec![]));
}

#[test]
fn what_binds_names_and_what_is_no_expression_is_left_for_a_build_of_its_own() {
    let source = "fn f(a: Option<u8>) -> S { if let Some(1) = a && true {} S { a, ..S::new() } }";
    let mutants = [
        of(source, Genre::BinaryOperator, "||", "&&"),
        of(source, Genre::StructField, "", "a, "),
        of(source, Genre::FnValue, "S::default()", "if let"),
    ];
    assert_eq!(switched(source, &mutants).1, [1, 2]);
}

#[test]
fn an_error_is_that_of_the_innermost_mutant() {
    let source = "fn f(a: i8, b: i8) -> i8 { a + -b }";
    let mutants = [of(source, Genre::BinaryOperator, "*", "+"), of(source, Genre::UnaryOperator, "", "-b")];
    let mut mutants = mutants;
    // The operator alone.
    mutants[1].span.end.column -= 1;
    let numbered: Vec<_> = mutants.iter().enumerate().map(|(at, mutant)| (at + 1, mutant)).collect();
    let text = switch(source, &numbered).unwrap().text;
    assert_eq!(mutants_at(&text, text.find("a * -b").unwrap()), [1]);
    assert_eq!(mutants_at(&text, text.find("{ /*<2*/").unwrap() + 10), [2]);
    assert_eq!(mutants_at(&text, text.find("a +").unwrap()), [1]);
    assert!(mutants_at(&text, 3).is_empty());
}
