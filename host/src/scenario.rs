//! Scenario files: many guests under one pool, as TOML.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};

use crate::plan::{self, GuestPlan, OnDenial, Output, Plan, Runtime, Source, Stdin};
use crate::pool::{self, PoolSize, Reserve};
use crate::sharing::{GroupPlan, LendPlan};
use crate::sizes::{parse_duration, parse_size};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    runtime: Option<Runtime>,
    pool: Option<Pool>,
    reserve: Option<Kept>,
    threads: Option<usize>,
    #[serde(default)]
    charge_stacks: bool,
    #[serde(default)]
    group: Vec<Group>,
    #[serde(default)]
    lend: Vec<Lend>,
    guest: Vec<Guest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Group {
    name: String,
    group: Option<String>,
    limit: Option<Size>,
    guarantee: Option<Size>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Lend {
    from: String,
    to: String,
    most: Size,
    deadline: Option<Time>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Guest {
    wasm: PathBuf,
    name: Option<String>,
    group: Option<String>,
    limit: Option<Size>,
    guarantee: Option<Size>,
    instances: Option<usize>,
    repeat: Option<usize>,
    delay: Option<Time>,
    pause: Option<Time>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    dirs: Vec<String>,
    stdin: Option<PathBuf>,
    output: Option<Written>,
    invoke: Option<String>,
    timeout: Option<Time>,
    on_denial: Option<Denied>,
    wait: Option<Time>,
    assert_peak: Option<Size>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Written {
    Lines,
    Inherit,
    Discard,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Denied {
    Refuse,
    Trap,
}

/// Bytes: a number, or text.
struct Size(usize);

/// Bytes, or `auto`.
struct Pool(PoolSize);

/// Bytes, or a share.
struct Kept(Reserve);

/// Seconds, or text.
struct Time(Duration);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Text("a size, such as \"64MiB\" or 65536", |text| parse_size(text).map(Self)))
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text("a size, such as \"64MiB\", or \"auto\"", |text| {
            pool::parse_pool(text).map(Self)
        }))
    }
}

impl<'de> Deserialize<'de> for Kept {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Text("a size, or a share such as \"10%\"", |text| {
            pool::parse_reserve(text).map(Self)
        }))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_any(Text("a duration, such as \"10s\"", |text| parse_duration(text).map(Self)))
    }
}

/// What is written as text or as a number.
struct Text<T>(&'static str, fn(&str) -> Result<T, String>);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        (self.1)(&number.to_string()).map_err(E::custom)
    }
}

/// The plan in a scenario file, by this runtime whatever it says.
///
/// # Errors
/// What is wrong with it: where, and what would be right.
pub fn read(path: &Path, runtime: Option<Runtime>) -> Result<Plan, String> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{shown}: {error}"))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse(&text, folder, runtime).map_err(|why| format!("{shown}: {why}"))
}

/// The plan in a scenario's text. Files it names are relative to the folder it is in.
fn parse(text: &str, folder: &Path, runtime: Option<Runtime>) -> Result<Plan, String> {
    let file: File = toml::from_str(text).map_err(|error| with_suggestion(error.to_string()))?;
    if file.guest.is_empty() {
        return Err("there is no guest: write `[[guest]]` and below it `wasm = \"FILE\"`".to_owned());
    }
    if file.threads == Some(0) {
        return Err("`threads` must be at least 1".to_owned());
    }
    let guests = file.guest.into_iter().map(|guest| guest.plan(folder)).collect();
    let (pool, machine) =
        pool::resolve(file.pool.map(|Pool(size)| size), file.reserve.map(|Kept(reserve)| reserve))?;
    let bytes = |Size(bytes)| bytes;
    let groups = file.group.into_iter().map(|group| GroupPlan {
        name: group.name,
        group: group.group,
        limit: group.limit.map(bytes),
        guarantee: group.guarantee.map_or(0, bytes),
    });
    let lending = file.lend.into_iter().map(|lend| LendPlan {
        from: lend.from,
        to: lend.to,
        most: bytes(lend.most),
        deadline: lend.deadline.map(|Time(deadline)| deadline),
    });
    let (groups, lending) = (groups.collect(), lending.collect());
    let mut plan = Plan::new(pool, guests)?.share(groups, lending)?;
    plan.machine = machine;
    plan.threads = file.threads.unwrap_or(plan.threads);
    plan.charge_stacks = file.charge_stacks;
    plan.by(runtime.or(file.runtime).unwrap_or_default())
}

impl Guest {
    fn plan(self, folder: &Path) -> GuestPlan {
        let path = folder.join(self.wasm);
        let name = self.name.unwrap_or_else(|| plan::name_of(&path));
        let default = GuestPlan::new(name, Source::File(path));
        let bytes = |size: Option<Size>| size.map(|Size(bytes)| bytes);
        GuestPlan {
            limit: bytes(self.limit),
            guarantee: bytes(self.guarantee).unwrap_or(default.guarantee),
            instances: self.instances.unwrap_or(default.instances),
            repeat: self.repeat.unwrap_or(default.repeat),
            group: self.group,
            delay: self.delay.map_or(default.delay, |Time(delay)| delay),
            pause: self.pause.map_or(default.pause, |Time(pause)| pause),
            args: self.args,
            env: self.env.into_iter().collect(),
            dirs: self
                .dirs
                .iter()
                .map(|text| plan::parse_dir(text))
                .map(|(host, guest)| (folder.join(host), guest))
                .collect(),
            stdin: self.stdin.map_or(Stdin::Empty, |path| Stdin::File(folder.join(path))),
            output: match self.output {
                None | Some(Written::Lines) => Output::Lines,
                Some(Written::Inherit) => Output::Inherit,
                Some(Written::Discard) => Output::Discard,
            },
            invoke: self.invoke,
            timeout: self.timeout.map(|Time(timeout)| timeout),
            on_denial: match self.on_denial {
                None | Some(Denied::Refuse) => OnDenial::Refuse,
                Some(Denied::Trap) => OnDenial::Trap,
            },
            wait: self.wait.map(|Time(wait)| wait),
            assert_peak: bytes(self.assert_peak),
            ..default
        }
    }
}

/// The message of an unknown key or value lists those there are: the nearest is suggested.
fn with_suggestion(message: String) -> String {
    let message = message.trim_end().to_owned();
    let mut quoted = message.lines().last().unwrap_or_default().split('`').skip(1).step_by(2);
    let Some(wrong) = quoted.next().filter(|_| message.contains("unknown ")) else {
        return message;
    };
    let nearest = quoted.map(|known| (distance(wrong, known), known)).min();
    match nearest.filter(|(distance, _)| *distance <= 1 + wrong.len() / 3) {
        Some((_, known)) => format!("{message}\ndid you mean `{known}`?"),
        None => message,
    }
}

/// How many letters must be changed, added or taken away to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let change = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        parse(text, Path::new(""), None).unwrap_err()
    }

    #[test]
    fn all_there_is_to_say() {
        let plan = parse(
            r#"
            pool = "24MiB"
            threads = 3
            charge-stacks = true
            [[group]]
            name = "customer"
            limit = "10MiB"
            guarantee = 1000
            [[lend]]
            from = "customer"
            to = "b"
            most = "1MiB"
            deadline = "3s"
            [[guest]]
            wasm = "a.wasm"
            name = "first"
            limit = "8MiB"
            guarantee = 65536
            instances = 2
            repeat = 3
            delay = "1s"
            group = "customer"
            pause = "5ms"
            args = ["x"]
            env = { K = "V" }
            dirs = ["data::/data", "same"]
            stdin = "in.txt"
            output = "discard"
            invoke = "step"
            timeout = "2s"
            on-denial = "trap"
            wait = "4s"
            assert-peak = "1MiB"
            [[guest]]
            wasm = "b.wat"
            "#,
            Path::new("/scenarios"),
            None,
        )
        .unwrap();
        assert_eq!((plan.pool, plan.threads, plan.charge_stacks), (24 << 20, 3, true));
        let ([group], [lend]) = (plan.groups.as_slice(), plan.lending.as_slice()) else { panic!("{plan:?}") };
        assert_eq!((group.name.as_str(), group.limit, group.guarantee), ("customer", Some(10 << 20), 1000));
        assert_eq!((lend.from.as_str(), lend.to.as_str(), lend.most), ("customer", "b", 1 << 20));
        assert_eq!(lend.deadline, Some(Duration::from_secs(3)));
        let [first, second] = plan.guests.as_slice() else { panic!("{:?}", plan.guests) };
        assert!(matches!(&first.source, Source::File(path) if path == Path::new("/scenarios/a.wasm")));
        assert_eq!((first.name.as_str(), first.limit, first.guarantee), ("first", Some(8 << 20), 65536));
        assert_eq!((first.instances, first.repeat, first.pause), (2, 3, Duration::from_millis(5)));
        assert_eq!((first.delay, first.group.as_deref()), (Duration::from_secs(1), Some("customer")));
        assert_eq!(first.dirs[0], ("/scenarios/data".into(), "/data".to_owned()));
        assert_eq!(first.dirs[1], ("/scenarios/same".into(), "same".to_owned()));
        assert!(matches!(&first.stdin, Stdin::File(path) if path == Path::new("/scenarios/in.txt")));
        assert_eq!((first.output, first.on_denial), (Output::Discard, OnDenial::Trap));
        assert_eq!(first.wait, Some(Duration::from_secs(4)));
        assert_eq!((first.timeout, first.assert_peak), (Some(Duration::from_secs(2)), Some(1 << 20)));
        assert_eq!((second.name.as_str(), second.limit, second.instances), ("b", None, 1));
    }

    #[test]
    fn a_pool_may_be_the_machines() {
        let plan =
            parse("pool = \"auto\"\nreserve = \"50%\"\n[[guest]]\nwasm = \"a\"\n", Path::new(""), None)
                .unwrap();
        let read = plan.machine.unwrap().read;
        assert_eq!((plan.pool, read.reserve), (read.total, read.limit.div_ceil(2)));
        let plan = parse("pool = 65536\n[[guest]]\nwasm = \"a\"\n", Path::new(""), None).unwrap();
        assert!(plan.machine.is_none() && plan.pool == 65536);
        let message = error("reserve = \"50%\"\n[[guest]]\nwasm = \"a\"\n");
        assert!(message.contains("needs a pool of `auto`"), "{message}");
        let message = error("pool = \"auto\"\nreserve = \"200%\"\n[[guest]]\nwasm = \"a\"\n");
        assert!(message.contains("line 2") && message.contains("0% to 100%"), "{message}");
    }

    #[test]
    fn a_typo_is_located_and_what_would_be_right_is_suggested() {
        let message = error("pool = \"1MiB\"\n[[guest]]\nwasm = \"a.wasm\"\nlimt = \"8MiB\"\n");
        assert!(message.contains("line 4"), "{message}");
        assert!(message.contains("unknown field `limt`"), "{message}");
        assert!(message.contains("did you mean `limit`?"), "{message}");
        let message = error("[[guest]]\nwasm = \"a\"\noutput = \"line\"\n");
        assert!(message.contains("did you mean `lines`?"), "{message}");
        assert!(!error("[[guest]]\nwasm = \"a\"\nzzzzzz = 1\n").contains("did you mean"));
    }

    #[test]
    fn bad_values_are_located_and_explained() {
        let message = error("[[guest]]\nwasm = \"a\"\nlimit = \"8 sacks\"\n");
        assert!(message.contains("line 3") && message.contains("no unit `sacks`"), "{message}");
        let message = error("[[guest]]\nwasm = \"a\"\nlimit = -1\n");
        assert!(message.contains("line 3") && message.contains("is not a size"), "{message}");
        let message = error("[[guest]]\nwasm = \"a\"\nlimit = true\n");
        assert!(message.contains("a size, such as"), "{message}");
        let message = error("[[guest]]\nwasm = \"a\"\ntimeout = \"soon\"\n");
        assert!(message.contains("line 3") && message.contains("not a duration"), "{message}");
        assert!(error("[[guest]]\nname = \"a\"\n").contains("missing field `wasm`"));
        assert!(error("pool = \"1MiB\"\n").contains("missing field `guest`"));
        assert!(error("guest = []\n").contains("there is no guest"));
        let message = error("runtime = \"wasmi\"\ncharge-stacks = true\n[[guest]]\nwasm = \"a\"\n");
        assert!(message.contains("under wasmi they are always charged"), "{message}");
        let message = error("runtime = \"wasmi\"\n[[guest]]\nwasm = \"a\"\nwait = \"1s\"\n");
        assert!(message.contains("waiting for memory is a choice under wasmtime"), "{message}");
        assert!(error("runtime = \"wasm\"\n[[guest]]\nwasm = \"a\"\n").contains("did you mean `wasmi`?"));
        assert!(error("threads = 0\n[[guest]]\nwasm = \"a\"\n").contains("at least 1"));
    }
}
