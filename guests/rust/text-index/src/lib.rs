//! An inverted index over the lines of a text.
//!
//! A term is a maximal run of letters and digits, in lower case. A query is a list of
//! terms that must all occur in a line; `term*` stands for every term that begins so,
//! and `-term` excludes the lines where the term occurs.
//!
//! ```
//! let index = text_index::Index::new("the quick brown fox\nthe lazy dog\nA dog is no fox");
//! assert_eq!(index.search("dog -fox").unwrap(), [1]);
//! assert_eq!(index.search("qui*").unwrap(), [0]);
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

/// Which lines each term occurs in.
#[derive(Debug, Default)]
pub struct Index {
    /// Line numbers, ascending and without repetition.
    postings: BTreeMap<Box<str>, Vec<u32>>,
    lines: u32,
}

/// Why a query has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryError {
    /// Nothing to look for: no term, or only excluded ones.
    NoTerm,
    /// This word is not one term with an optional `-` before it and `*` after it.
    NotATerm(String),
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTerm => f.write_str("the query names no term to look for"),
            Self::NotATerm(word) => write!(f, "`{word}` is not a term"),
        }
    }
}

impl std::error::Error for QueryError {}

impl Index {
    /// Indexes a text, line by line, from line 0.
    pub fn new(text: &str) -> Self {
        let mut index = Self::default();
        for line in text.lines() {
            index.push(line);
        }
        index
    }

    /// Adds the next line. Lines past the 2^32nd are left out.
    pub fn push(&mut self, line: &str) {
        let number = self.lines;
        let Some(next) = number.checked_add(1) else {
            return;
        };
        for term in terms(line) {
            match self.postings.get_mut(term.as_str()) {
                Some(lines) if lines.last() == Some(&number) => {}
                Some(lines) => lines.push(number),
                None => {
                    self.postings.insert(term.into(), vec![number]);
                }
            }
        }
        self.lines = next;
    }

    /// How many lines have been indexed.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// How many distinct terms they have.
    pub fn terms(&self) -> usize {
        self.postings.len()
    }

    /// The lines that answer a query, ascending.
    ///
    /// # Errors
    ///
    /// A query without a term to look for, or with a word that is no term.
    pub fn search(&self, query: &str) -> Result<Vec<u32>, QueryError> {
        let mut found: Option<Vec<u32>> = None;
        let mut excluded = Vec::new();
        for word in query.split_whitespace() {
            let (exclude, pattern) = match word.strip_prefix('-') {
                Some(rest) => (true, rest),
                None => (false, word),
            };
            let (prefix, stem) = match pattern.strip_suffix('*') {
                Some(stem) => (true, stem),
                None => (false, pattern),
            };
            let mut stems = terms(stem);
            let (Some(term), None, true) =
                (stems.next(), stems.next(), stem.chars().all(char::is_alphanumeric))
            else {
                return Err(QueryError::NotATerm(word.to_owned()));
            };
            let lines = self.lines_with(&term, prefix);
            if exclude {
                excluded.extend(lines);
            } else {
                found = Some(match found {
                    Some(found) => intersection(&found, &lines),
                    None => lines,
                });
            }
        }
        let mut found = found.ok_or(QueryError::NoTerm)?;
        excluded.sort_unstable();
        found.retain(|line| excluded.binary_search(line).is_err());
        Ok(found)
    }

    fn lines_with(&self, term: &str, prefix: bool) -> Vec<u32> {
        if !prefix {
            return self.postings.get(term).cloned().unwrap_or_default();
        }
        let from = (Bound::Included(term), Bound::Unbounded);
        let keys = self.postings.range::<str, _>(from);
        let mut lines: Vec<u32> = keys
            .take_while(|(key, _)| key.starts_with(term))
            .flat_map(|(_, lines)| lines.iter().copied())
            .collect();
        lines.sort_unstable();
        lines.dedup();
        lines
    }
}

/// The terms of a text, in lower case, in order, with repetitions.
fn terms(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|term| !term.is_empty()).map(str::to_lowercase)
}

/// What two ascending lists have in common.
fn intersection(a: &[u32], b: &[u32]) -> Vec<u32> {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    short.iter().copied().filter(|line| long.binary_search(line).is_ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Lines of words drawn from a vocabulary, the same on every run.
    fn generated(lines: usize, words: usize, vocabulary: u32) -> String {
        let mut state = 0x2545_f491u32;
        let mut text = String::new();
        for _ in 0..lines {
            for _ in 0..words {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                text.push_str(&format!("w{:x} ", state % vocabulary));
            }
            text.push('\n');
        }
        text
    }

    #[test]
    fn terms_are_words_in_lower_case() {
        let found: Vec<_> = terms("Don't PANIC: 42 Übung—naïve, x_y").collect();
        assert_eq!(found, ["don", "t", "panic", "42", "übung", "naïve", "x", "y"]);
    }

    #[test]
    fn a_line_is_listed_once_however_often_it_has_the_term() {
        assert_eq!(Index::new("a a a\nb\na b a").search("a").unwrap(), [0, 2]);
    }

    #[test]
    fn all_terms_must_hold_and_excluded_ones_must_not() {
        let index = Index::new("red apple\ngreen apple\nred pear\ngreen pear and red apple");
        assert_eq!(index.search("red apple").unwrap(), [0, 3]);
        assert_eq!(index.search("apple -green").unwrap(), [0]);
        assert_eq!(index.search("RED -apple -green").unwrap(), [2]);
        assert_eq!(index.search("apple plum").unwrap(), [0u32; 0]);
    }

    #[test]
    fn a_prefix_stands_for_every_term_that_begins_so() {
        let index = Index::new("car\ncart\ncat\ncarbon cart\nscar");
        assert_eq!(index.search("car*").unwrap(), [0, 1, 3]);
        assert_eq!(index.search("ca* -car*").unwrap(), [2]);
        assert_eq!(index.search("dog*").unwrap(), [0u32; 0]);
    }

    #[test]
    fn queries_without_a_term_are_refused() {
        let index = Index::new("a b");
        assert_eq!(index.search("  "), Err(QueryError::NoTerm));
        assert_eq!(index.search("-a"), Err(QueryError::NoTerm));
        for word in ["*", "-", "--a", "a-b", "a**", "!"] {
            assert_eq!(index.search(word), Err(QueryError::NotATerm(word.to_owned())), "{word}");
        }
    }

    #[test]
    fn empty_lines_keep_the_numbering() {
        let index = Index::new("\n\nx\r\n\nx");
        assert_eq!(index.search("x").unwrap(), [2, 4]);
        assert_eq!((index.lines(), index.terms()), (5, 1));
    }

    #[test]
    fn search_agrees_with_a_scan_of_the_lines() {
        let text = generated(300, 6, 40);
        let index = Index::new(&text);
        let lines: Vec<BTreeSet<_>> = text.lines().map(|line| terms(line).collect()).collect();
        for a in 0..40u32 {
            let (a, b) = (format!("w{a:x}"), format!("w{:x}", (a * 7 + 3) % 40));
            let scan = |keep: &dyn Fn(&BTreeSet<String>) -> bool| -> Vec<u32> {
                (0u32..).zip(&lines).filter(|(_, line)| keep(line)).map(|(at, _)| at).collect()
            };
            let has = |line: &BTreeSet<String>, term: &String| line.contains(term);
            assert_eq!(
                index.search(&format!("{a} {b}")).unwrap(),
                scan(&|line| has(line, &a) && has(line, &b)),
            );
            assert_eq!(
                index.search(&format!("{a} -{b}")).unwrap(),
                scan(&|line| has(line, &a) && !has(line, &b)),
            );
            assert_eq!(
                index.search(&format!("{a}*")).unwrap(),
                scan(&|line| line.iter().any(|term| term.starts_with(&a))),
            );
        }
    }

    /// The one that needs memory: some megabytes of text and of postings.
    #[test]
    fn a_large_text_is_indexed_whole() {
        let text = generated(20_000, 20, 50_000);
        let index = Index::new(&text);
        assert_eq!(index.lines(), 20_000);
        assert!(index.terms() > 49_000, "{} terms", index.terms());
        let everywhere = index.search("w*").unwrap();
        assert!(everywhere.into_iter().eq(0..20_000));
    }
}
