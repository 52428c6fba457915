//! Fuzz targets of the manager. A target is a plain function of some bytes, which panics where something is
//! wrong: `cargo xtask fuzz` runs it under libFuzzer, `cargo test` on the seeds in `seeds/`.
//!
//! What a target came to is named in [`Seen`], so that a test can say that the seeds still come to all of it: a
//! change of how bytes are read would otherwise leave seeds that do nothing.

use std::collections::BTreeMap;
use std::path::Path;

// `trace.rs` and `plain.rs` are the manager's own, and know these by their places there.
use wrt_memory::{CrateId, provider};

mod ledger;
#[path = "../../manager/src/budget/tracker/tests/plain.rs"]
#[allow(dead_code, reason = "the manager's tests use all of it")]
mod plain;
mod region;
mod slots;
#[path = "../../manager/src/provider/model/trace.rs"]
mod trace;

/// Something that bytes are tried on.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of the folder with its seeds.
    pub name: &'static str,
    /// Does what the bytes say.
    pub body: fn(&[u8], &mut Seen),
    /// All that its seeds come to.
    pub reaches: &'static [&'static str],
}

/// The targets of the manager.
pub const TARGETS: &[Target] = &[
    Target { name: "ledger", body: ledger::run, reaches: ledger::REACHES },
    Target { name: "region", body: region::run, reaches: region::REACHES },
    Target { name: "slots", body: slots::run, reaches: slots::REACHES },
];

/// What was come to, and how often.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<&'static str, usize>);

impl Seen {
    /// Notes it.
    pub fn note(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    /// How often it was.
    pub fn times(&self, what: &str) -> usize {
        self.0.get(what).copied().unwrap_or_default()
    }
}

impl Target {
    /// Does what the bytes say.
    pub fn run(&self, data: &[u8]) {
        (self.body)(data, &mut Seen::default());
    }

    /// Does what each seed in `folder` says. Panics where something is wrong, where there are none, and where they do
    /// not come to all they should.
    pub fn replay(&self, folder: &Path) {
        let folder = folder.join(self.name);
        let files =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<_> =
            files.map(|file| file.unwrap_or_else(|error| panic!("{error}")).path()).collect();
        paths.sort();
        let mut seen = Seen::default();
        for path in &paths {
            let data = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let shown = OnPanic(path);
            (self.body)(&data, &mut seen);
            drop(shown);
        }
        println!("{}: {} seeds; {:?}", self.name, paths.len(), seen.0);
        let missed: Vec<_> = self.reaches.iter().filter(|what| seen.times(what) == 0).collect();
        assert!(
            missed.is_empty(),
            "{}: no seed comes to {missed:?}; `cargo xtask fuzz --seeds` finds new ones",
            self.name
        );
    }
}

/// Says which seed it was.
struct OnPanic<'a>(&'a Path);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in seed {}", self.0.display());
        }
    }
}

/// The target that the environment names in `WRT_FUZZ_TARGET`.
///
/// # Panics
/// Where it names none of these.
pub fn chosen(targets: &'static [Target]) -> &'static Target {
    static CHOSEN: std::sync::OnceLock<&'static Target> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("WRT_FUZZ_TARGET").unwrap_or_default();
        let found = targets.iter().find(|target| target.name == name);
        found.unwrap_or_else(|| {
            let names: Vec<_> = targets.iter().map(|target| target.name).collect();
            panic!("WRT_FUZZ_TARGET is {name:?}, and has to be one of {names:?}")
        })
    })
}
