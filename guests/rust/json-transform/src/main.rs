//! Selects, picks and sums JSON records: a document on stdin, a document on stdout.
//!
//! ```text
//! json-transform [--where FIELD=VALUE]... [--pick FIELD,FIELD...] [--sum FIELD] [--pretty]
//! ```
//!
//! The steps run in this order, whatever the order of the options:
//!
//! 1. `--where` keeps the records whose field equals the value (JSON if it parses as
//!    JSON, else a string); several must all hold;
//! 2. `--sum` replaces the records by `{"count": records, "sum": total of the field}`;
//!    integers are added exactly;
//! 3. without `--sum`, `--pick` keeps only these fields of each record.
//!
//! With any of them, the input must be an array of objects; with none, any document is
//! accepted. A field may be a path (`address.city`). Keys come out sorted.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Map, Number, Value};

const USAGE: &str = "usage: json-transform [--where FIELD=VALUE]... [--pick FIELD,FIELD...] \
                     [--sum FIELD] [--pretty]";

/// What the command line asks for.
#[derive(Debug, Default)]
struct Steps {
    conditions: Vec<(String, Value)>,
    pick: Option<Vec<String>>,
    sum: Option<String>,
    pretty: bool,
}

impl Steps {
    fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let mut steps = Self::default();
        let text = |arg: Option<OsString>| {
            arg.ok_or(USAGE.to_owned())?
                .into_string()
                .map_err(|arg| format!("argument is not Unicode: {}", arg.display()))
        };
        while let Some(arg) = args.next() {
            match text(Some(arg))?.as_str() {
                "--where" => {
                    let condition = text(args.next())?;
                    let (field, value) = condition
                        .split_once('=')
                        .ok_or_else(|| format!("--where wants FIELD=VALUE, not `{condition}`"))?;
                    let value = serde_json::from_str(value).unwrap_or_else(|_| value.into());
                    steps.conditions.push((field.to_owned(), value));
                }
                "--pick" => {
                    let fields = text(args.next())?;
                    steps.pick = Some(fields.split(',').map(str::to_owned).collect());
                }
                "--sum" => steps.sum = Some(text(args.next())?),
                "--pretty" => steps.pretty = true,
                other => return Err(format!("unknown argument `{other}`\n{USAGE}")),
            }
        }
        Ok(steps)
    }

    fn apply(&self, document: Value) -> Result<Value, String> {
        if self.conditions.is_empty() && self.pick.is_none() && self.sum.is_none() {
            return Ok(document);
        }
        let Value::Array(values) = document else {
            return Err("the input must be an array of objects".to_owned());
        };
        let mut records = Vec::new();
        for (at, value) in values.into_iter().enumerate() {
            let Value::Object(record) = value else {
                return Err(format!("element {at} of the input is not an object"));
            };
            let holds = |(field, value): &(String, Value)| lookup(&record, field) == Some(value);
            if self.conditions.iter().all(holds) {
                records.push(record);
            }
        }
        if let Some(field) = &self.sum {
            return sum(&records, field);
        }
        let picked = records.into_iter().map(|record| match &self.pick {
            Some(fields) => Value::Object(pick(&record, fields)),
            None => Value::Object(record),
        });
        Ok(picked.collect())
    }
}

/// The value at a dotted path in a record.
fn lookup<'a>(record: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    let mut steps = path.split('.');
    let first = record.get(steps.next()?)?;
    steps.try_fold(first, |value, step| value.as_object()?.get(step))
}

/// The fields at these paths that the record has, under their paths as keys.
fn pick(record: &Map<String, Value>, paths: &[String]) -> Map<String, Value> {
    paths.iter().filter_map(|path| Some((path.clone(), lookup(record, path)?.clone()))).collect()
}

/// How many records there are, and the total of one field over those that have it.
fn sum(records: &[Map<String, Value>], field: &str) -> Result<Value, String> {
    let (mut exact, mut inexact) = (0i128, None::<f64>);
    for (at, record) in records.iter().enumerate() {
        match lookup(record, field) {
            None | Some(Value::Null) => {}
            Some(Value::Number(number)) => match (number.as_i128(), number.as_f64()) {
                // At most 2^64 each: 2^63 of them would be needed to overflow.
                (Some(integer), _) => exact += integer,
                (None, Some(float)) => *inexact.get_or_insert(0.0) += float,
                (None, None) => return Err(format!("`{field}` of record {at} is out of range")),
            },
            Some(other) => {
                return Err(format!("`{field}` of record {at} is not a number: {other}"));
            }
        }
    }
    let total = match inexact {
        None => Number::from_i128(exact).or_else(|| Number::from_f64(exact as f64)),
        Some(rest) => Number::from_f64(exact as f64 + rest),
    };
    let total = total.ok_or_else(|| format!("the sum of `{field}` is out of range"))?;
    Ok(Value::Object(Map::from_iter([
        ("count".to_owned(), records.len().into()),
        ("sum".to_owned(), Value::Number(total)),
    ])))
}

fn run() -> Result<(), String> {
    let steps = Steps::parse(std::env::args_os().skip(1))?;
    let input = io::read_to_string(io::stdin()).map_err(|e| format!("reading stdin: {e}"))?;
    let document = serde_json::from_str(&input).map_err(|e| format!("not JSON: {e}"))?;
    drop(input);
    let result = steps.apply(document)?;
    let text =
        if steps.pretty { serde_json::to_string_pretty(&result) } else { serde_json::to_string(&result) };
    let mut text = text.map_err(|e| format!("writing JSON: {e}"))?;
    text.push('\n');
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|e| format!("writing stdout: {e}"))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            let _ = writeln!(io::stderr(), "json-transform: {message}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transform(args: &[&str], input: &str) -> Result<String, String> {
        let steps = Steps::parse(args.iter().map(Into::into))?;
        let document = serde_json::from_str(input).map_err(|e| e.to_string())?;
        Ok(steps.apply(document)?.to_string())
    }

    const PEOPLE: &str = r#"[
        {"name": "Ada", "address": {"city": "London"}, "age": 36},
        {"name": "Emmy", "address": {"city": "Erlangen"}, "age": 53},
        {"name": "Alan", "address": {"city": "London"}, "age": 41}
    ]"#;

    #[test]
    fn keys_come_out_sorted() {
        assert_eq!(
            transform(&[], r#"{"b":[{"z":1,"y":2}],"a":null}"#).unwrap(),
            r#"{"a":null,"b":[{"y":2,"z":1}]}"#
        );
    }

    #[test]
    fn where_and_pick_follow_paths() {
        assert_eq!(
            transform(&["--pick", "name", "--where", "address.city=London"], PEOPLE).unwrap(),
            r#"[{"name":"Ada"},{"name":"Alan"}]"#
        );
        assert_eq!(
            transform(&["--where", "age=53", "--pick", "address.city,absent"], PEOPLE).unwrap(),
            r#"[{"address.city":"Erlangen"}]"#
        );
    }

    #[test]
    fn integers_are_added_exactly() {
        let input = r#"[{"n": 9007199254740993}, {"n": 1}, {"m": 5}]"#;
        assert_eq!(transform(&["--sum", "n"], input).unwrap(), r#"{"count":3,"sum":9007199254740994}"#);
    }

    #[test]
    fn sum_may_be_of_a_field_not_picked() {
        assert_eq!(
            transform(&["--where", "address.city=London", "--pick", "name", "--sum", "age"], PEOPLE).unwrap(),
            r#"{"count":2,"sum":77}"#
        );
    }

    #[test]
    fn bad_input_is_an_error() {
        assert!(transform(&["--sum", "name"], PEOPLE).unwrap_err().contains("not a number"));
        assert!(transform(&["--sum", "name"], "{}").unwrap_err().contains("array"));
        assert!(transform(&["--sum", "name"], "[1]").unwrap_err().contains("element 0"));
        assert!(transform(&["--sum"], "[]").unwrap_err().contains("usage"));
        assert!(transform(&["--where", "x"], "[]").unwrap_err().contains("FIELD=VALUE"));
        assert!(transform(&["--sort"], "[]").unwrap_err().contains("unknown argument"));
        assert!(transform(&[], &"[".repeat(100_000)).unwrap_err().contains("recursion"));
    }
}
