//! What `cargo xtask conformance` runs.

use std::process::ExitCode;

use wrt_memory_tests::conformance::{self, Layout, Outcome};

fn main() -> ExitCode {
    let (mut filter, mut failures, mut layout) = (String::new(), false, Ok(Layout::default()));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--failures" => failures = true,
            "--layout" => layout = Layout::named(&arguments.next().unwrap_or_default()),
            _ => filter = argument,
        }
    }
    match layout.and_then(|layout| conformance::run(&filter, layout)) {
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
