//! What is to be run: guests, their budgets, the pool they share. Made from a command line, a scenario file or the
//! bundled scenario, and checked here, whichever it was.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use wrt_memory::CrateName;
pub use wrt_memory_wasmtime::OnDenial;

use crate::pool::Machine;
use crate::sharing::{self, GroupPlan, LendPlan};
use crate::sizes::show;

/// The pool, unless it is told, or a limit needs more.
pub const DEFAULT_POOL: usize = 512 << 20;

/// Threads that run guests, unless told.
pub const DEFAULT_THREADS: usize = 2;

/// What runs guests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// Compiles: core modules and components
    #[default]
    Wasmtime,
    /// Interprets: core modules, each memory in a region that is charged whole
    Wasmi,
}

/// A checked plan.
#[derive(Debug)]
pub struct Plan {
    /// What runs them.
    pub runtime: Runtime,
    /// Bytes for all guests together.
    pub pool: usize,
    /// The machine, where it decides that, and goes on deciding.
    pub machine: Option<Machine>,
    /// Threads that run them.
    pub threads: usize,
    /// Whether the stacks of guests are charged too.
    pub charge_stacks: bool,
    /// Budgets that guests share.
    pub groups: Vec<GroupPlan>,
    /// What budgets lend one another.
    pub lending: Vec<LendPlan>,
    /// The guests: each is one crate.
    pub guests: Vec<GuestPlan>,
}

/// One guest and its budget.
#[derive(Clone, Debug)]
pub struct GuestPlan {
    /// What its crate is called.
    pub name: String,
    /// Where its code is.
    pub source: Source,
    /// The group it is part of.
    pub group: Option<String>,
    /// Most bytes, or as much as the pool has.
    pub limit: Option<usize>,
    /// Bytes it can always have.
    pub guarantee: usize,
    /// How many run at once.
    pub instances: usize,
    /// How often each runs, one after the other.
    pub repeat: usize,
    /// How long each waits before it begins.
    pub delay: Duration,
    /// How long each waits after each of those, with its memory still held.
    pub pause: Duration,
    /// The arguments after the program's name; those of the function with `invoke`.
    pub args: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Folders: on the host, and as the guest sees them.
    pub dirs: Vec<(PathBuf, String)>,
    /// What it reads.
    pub stdin: Stdin,
    /// What becomes of what it writes.
    pub output: Output,
    /// The export to call instead of its entry point.
    pub invoke: Option<String>,
    /// When an instance is ended.
    pub timeout: Option<Duration>,
    /// What a refused growth does to it.
    pub on_denial: OnDenial,
    /// How long growth that would be denied waits for bytes first.
    pub wait: Option<Duration>,
    /// The peak above which the run counts as failed.
    pub assert_peak: Option<usize>,
}

/// Where a guest's code is.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file: wasm or its text format.
    File(PathBuf),
    /// Bytes of this program.
    Bytes(Cow<'static, [u8]>),
}

/// What a guest reads.
#[derive(Clone, Debug)]
pub enum Stdin {
    /// The host's own stdin.
    Inherit,
    /// Nothing.
    Empty,
    /// A file, from its start for every instance.
    File(PathBuf),
    /// Bytes.
    Bytes(&'static [u8]),
}

/// What becomes of what a guest writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// It is the host's own, byte for byte.
    Inherit,
    /// It is the host's own by whole lines, each with the name of who wrote it.
    Lines,
    /// Nothing.
    Discard,
    /// Its stdout is compared with these bytes, its stderr goes nowhere.
    Expect(&'static [u8]),
}

impl GuestPlan {
    /// One run of one instance, with no budget of its own and nothing given.
    pub fn new(name: impl Into<String>, source: Source) -> Self {
        Self {
            name: name.into(),
            source,
            group: None,
            limit: None,
            guarantee: 0,
            instances: 1,
            repeat: 1,
            delay: Duration::ZERO,
            pause: Duration::ZERO,
            args: Vec::new(),
            env: Vec::new(),
            dirs: Vec::new(),
            stdin: Stdin::Empty,
            output: Output::Lines,
            invoke: None,
            timeout: None,
            on_denial: OnDenial::Refuse,
            wait: None,
            assert_peak: None,
        }
    }
}

impl GuestPlan {
    /// What one of its instances is called, from 1.
    pub fn instance(&self, number: usize) -> String {
        match self.instances {
            1 => self.name.clone(),
            _ => format!("{}#{number}", self.name),
        }
    }
}

impl Plan {
    /// A plan that can be carried out. Without a pool, the default is taken, or as much as the largest limit or the
    /// guarantees need.
    ///
    /// # Errors
    /// Which settings contradict each other, and what would be right.
    pub fn new(pool: Option<usize>, mut guests: Vec<GuestPlan>) -> Result<Self, String> {
        let guaranteed = guests.iter().map(|guest| guest.guarantee as u128).sum::<u128>();
        for guest in &guests {
            let name = &guest.name;
            if CrateName::new(name).is_none() {
                return Err(format!(
                    "`{name}` cannot be a guest's name: it takes 1 to {} bytes and no NUL",
                    CrateName::MAX_LEN
                ));
            }
            if let Some(limit) = guest.limit {
                if limit < guest.guarantee {
                    return Err(format!(
                        "{name}: the limit ({}) is below the guarantee ({}); raise the one or lower the other",
                        show(limit),
                        show(guest.guarantee)
                    ));
                }
                if let Some(pool) = pool.filter(|&pool| limit > pool) {
                    return Err(format!(
                        "{name}: the limit ({}) is above the pool ({}), and nobody can have more than there is; \
                         raise the pool or lower the limit",
                        show(limit),
                        show(pool)
                    ));
                }
            }
            if guest.instances == 0 || guest.repeat == 0 {
                return Err(format!("{name}: there must be at least one instance, running at least once"));
            }
        }
        if let Some(pool) = pool.filter(|&pool| guaranteed > pool as u128) {
            return Err(format!(
                "the guarantees add up to {guaranteed} bytes, and the pool has {}: raise the pool or guarantee less",
                show(pool)
            ));
        }
        if pool == Some(0) {
            return Err("a pool of 0 bytes has nothing for anybody".to_owned());
        }
        let largest = guests.iter().filter_map(|guest| guest.limit).max().unwrap_or(0);
        let guaranteed =
            usize::try_from(guaranteed).map_err(|_| "the guarantees add up to more than there can be")?;
        let pool = pool.unwrap_or(DEFAULT_POOL.max(largest).max(guaranteed));
        name_apart(&mut guests);
        Ok(Self {
            runtime: Runtime::Wasmtime,
            pool,
            machine: None,
            threads: DEFAULT_THREADS,
            charge_stacks: false,
            groups: Vec::new(),
            lending: Vec::new(),
            guests,
        })
    }

    /// The same, with these groups and loans.
    ///
    /// # Errors
    /// What does not agree with the guests there are.
    pub fn share(mut self, groups: Vec<GroupPlan>, lending: Vec<LendPlan>) -> Result<Self, String> {
        sharing::check(&groups, &lending, &self.guests)?;
        (self.groups, self.lending) = (groups, lending);
        Ok(self)
    }

    /// The same, by this runtime.
    ///
    /// # Errors
    /// What it has not.
    pub fn by(mut self, runtime: Runtime) -> Result<Self, String> {
        if runtime == Runtime::Wasmi && self.charge_stacks {
            return Err("charging stacks is a choice under wasmtime only: under wasmi they are always charged; leave it \
                        out"
            .to_owned());
        }
        if runtime == Runtime::Wasmi
            && let Some(guest) = self.guests.iter().find(|guest| guest.wait.is_some())
        {
            return Err(format!(
                "{}: waiting for memory is a choice under wasmtime only: wasmi asks without being able to wait; leave it out",
                guest.name
            ));
        }
        self.runtime = runtime;
        Ok(self)
    }
}

/// Crates of one name get a number, so that a report tells them apart.
fn name_apart(guests: &mut [GuestPlan]) {
    for at in 1..guests.len() {
        let (before, rest) = guests.split_at_mut(at);
        let guest = &mut rest[0];
        let name = guest.name.clone();
        let mut number = 2;
        while before.iter().any(|other| other.name == guest.name) {
            let suffix = format!("-{number}");
            guest.name = format!("{}{suffix}", crate_name(&name, CrateName::MAX_LEN - suffix.len()));
            number += 1;
        }
    }
}

/// As much of a name as a crate's name may have.
pub fn crate_name(name: &str, most: usize) -> &str {
    &name[..name.floor_char_boundary(most)]
}

/// A name for the guest of a file: the file's, without its ending.
pub fn name_of(path: &std::path::Path) -> String {
    let stem = path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy();
    crate_name(&stem, CrateName::MAX_LEN).to_owned()
}

/// `HOST` or `HOST::GUEST`: a folder, and as what the guest sees it.
pub fn parse_dir(text: &str) -> (PathBuf, String) {
    match text.split_once("::") {
        Some((host, guest)) => (host.into(), guest.to_owned()),
        None => (text.into(), text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(name: &str) -> GuestPlan {
        GuestPlan::new(name, Source::Bytes(Cow::Borrowed(b"")))
    }

    #[test]
    fn the_pool_is_as_large_as_a_limit_or_the_guarantees_need() {
        assert_eq!(Plan::new(None, vec![guest("a")]).unwrap().pool, DEFAULT_POOL);
        let large = GuestPlan { limit: Some(4 << 30), ..guest("a") };
        assert_eq!(Plan::new(None, vec![large]).unwrap().pool, 4 << 30);
        let sure = GuestPlan { guarantee: 400 << 20, ..guest("a") };
        assert_eq!(Plan::new(None, vec![sure.clone(), sure]).unwrap().pool, 800 << 20);
    }

    #[test]
    fn contradictions_are_explained() {
        let limited = |limit, guarantee| GuestPlan { limit, guarantee, ..guest("a") };
        for (pool, guests, why) in [
            (None, vec![limited(Some(1), 2)], "the limit (1 B) is below the guarantee (2 B)"),
            (Some(10), vec![limited(Some(11), 0)], "the limit (11 B) is above the pool (10 B)"),
            (Some(10), vec![limited(None, 6), limited(None, 5)], "add up to 11 bytes, and the pool has 10 B"),
            (Some(0), vec![guest("a")], "a pool of 0 bytes"),
            (None, vec![limited(None, usize::MAX), limited(None, usize::MAX)], "more than there can be"),
            (None, vec![guest("")], "1 to 48 bytes"),
            (None, vec![GuestPlan { instances: 0, ..guest("a") }], "at least one instance"),
        ] {
            let message = Plan::new(pool, guests).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn guests_of_one_name_get_numbers() {
        let long = "é".repeat(24);
        let plan = Plan::new(None, ["a", "b", "a", "a", &long, &long].map(guest).into()).unwrap();
        let names: Vec<_> = plan.guests.iter().map(|guest| guest.name.as_str()).collect();
        assert_eq!(names[..4], ["a", "b", "a-2", "a-3"]);
        assert_eq!(names[5], format!("{}-2", "é".repeat(23)));
    }

    #[test]
    fn folders() {
        assert_eq!(parse_dir("data"), ("data".into(), "data".into()));
        assert_eq!(parse_dir("/srv/x::/data"), ("/srv/x".into(), "/data".into()));
    }
}
