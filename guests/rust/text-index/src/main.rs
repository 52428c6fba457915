//! Answers queries about the lines of stdin.
//!
//! ```text
//! text-index QUERY...
//! ```
//!
//! Each argument is a query (see the library for the syntax). The answer is a line
//! `QUERY: n of m lines` and then the lines found, with their numbers from 1.

use std::io::{self, Write};
use std::process::ExitCode;

use text_index::Index;

fn run() -> Result<(), String> {
    let queries = std::env::args_os()
        .skip(1)
        .map(|arg| arg.into_string())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|arg| format!("argument is not Unicode: {}", arg.display()))?;
    if queries.is_empty() {
        return Err("usage: text-index QUERY...".to_owned());
    }
    let text = io::read_to_string(io::stdin()).map_err(|e| format!("reading stdin: {e}"))?;
    let index = Index::new(&text);
    let lines: Vec<&str> = text.lines().collect();
    let mut stdout = io::BufWriter::new(io::stdout().lock());
    for query in &queries {
        let found = index.search(query).map_err(|e| format!("query `{query}`: {e}"))?;
        answer(&mut stdout, query, &found, &lines).map_err(|e| format!("writing stdout: {e}"))?;
    }
    stdout.flush().map_err(|e| format!("writing stdout: {e}"))
}

fn answer(out: &mut impl Write, query: &str, found: &[u32], lines: &[&str]) -> io::Result<()> {
    writeln!(out, "{query}: {} of {} lines", found.len(), lines.len())?;
    for &at in found {
        if let Some(line) = lines.get(at as usize) {
            writeln!(out, "{:>6}  {line}", u64::from(at) + 1)?;
        }
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "text-index: {message}");
            ExitCode::FAILURE
        }
    }
}
