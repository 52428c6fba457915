//! What `cargo xtask conformance` runs.

use std::process::ExitCode;

use wrt_memory_tests::conformance::{self, Outcome};

fn main() -> ExitCode {
    let (mut filter, mut failures) = (String::new(), false);
    for argument in std::env::args().skip(1) {
        if argument == "--failures" {
            failures = true;
        } else {
            filter = argument;
        }
    }
    match conformance::run(&filter) {
        Ok(report) => {
            for file in report.files.iter().filter(|file| failures && file.plain != Outcome::Passed) {
                println!("{}/{}: {}", file.folder, file.name, file.plain);
            }
            print!("{report}");
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("conformance: {error:?}");
            ExitCode::FAILURE
        }
    }
}
