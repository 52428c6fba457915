//! The specification's tests pass under budgets exactly where they pass without.

use wrt_memory_tests::conformance::{self, Layout};

#[test]
fn budgets_change_no_outcome_of_the_spec_suite_and_keep_no_byte() {
    let report = conformance::run("", Layout::default()).unwrap();
    println!("{report}");
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.bytes_left(), 0);
    // It was the suite, and it was under budgets.
    assert!(report.files.len() >= 600, "{} files", report.files.len());
    assert!(report.passed().1 >= 500, "{} pass", report.passed().1);
    assert!(report.files.iter().all(|file| file.high_water > 0));
}
