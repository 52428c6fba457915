//! Markdown on stdin, HTML on stdout: CommonMark with tables, strikethrough, task
//! lists and footnotes.
//!
//! ```text
//! markdown [--page TITLE]
//! ```
//!
//! `--page` makes a whole document of the fragment.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use pulldown_cmark::{Options, Parser, html};

fn title(args: &[OsString]) -> Result<Option<&str>, String> {
    match args {
        [] => Ok(None),
        [flag, title] if flag == "--page" => {
            title.to_str().map(Some).ok_or_else(|| format!("title is not Unicode: {}", title.display()))
        }
        _ => Err("usage: markdown [--page TITLE]".to_owned()),
    }
}

fn render(markdown: &str, title: Option<&str>) -> String {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES;
    let mut out = String::with_capacity(markdown.len().saturating_mul(3) / 2);
    if let Some(title) = title {
        let title = title.replace('&', "&amp;").replace('<', "&lt;");
        out.push_str("<!doctype html>\n<meta charset=\"utf-8\">\n<title>");
        out.push_str(&title);
        out.push_str("</title>\n");
    }
    html::push_html(&mut out, Parser::new_ext(markdown, options));
    out
}

fn run() -> Result<(), String> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let title = title(&args)?;
    let markdown = io::read_to_string(io::stdin()).map_err(|e| format!("reading stdin: {e}"))?;
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(render(&markdown, title).as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|e| format!("writing stdout: {e}"))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "markdown: {message}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_on() {
        assert!(render("|a|\n|-|\n|b|", None).contains("<table>"));
        assert!(render("~~gone~~", None).contains("<del>gone</del>"));
        assert!(render("- [x] done", None).contains("checkbox"));
        assert!(render("a[^1]\n\n[^1]: b", None).contains("footnote"));
    }

    #[test]
    fn a_page_escapes_its_title() {
        let page = render("*x*", Some("a < b & c"));
        assert!(page.contains("<title>a &lt; b &amp; c</title>"));
        assert!(page.ends_with("<p><em>x</em></p>\n"));
        assert!(!render("*x*", None).contains("doctype"));
    }

    #[test]
    fn arguments() {
        let parse = |args: &[&str]| {
            let args: Vec<OsString> = args.iter().map(Into::into).collect();
            title(&args).map(|title| title.map(str::to_owned))
        };
        assert_eq!(parse(&[]), Ok(None));
        assert_eq!(parse(&["--page", "T"]), Ok(Some("T".to_owned())));
        assert!(parse(&["--page"]).is_err());
        assert!(parse(&["x", "y"]).is_err());
    }
}
