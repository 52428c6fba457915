//! Runs the binary on guests in a folder of the test's own.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Bytes of a page of wasm.
pub const PAGE: u64 = 65536;

/// A folder with guests in it.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn file(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    /// One of the small guests, as text.
    pub fn wat(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.wat"), wrt_memory_guests::wat_text(name).unwrap())
    }

    /// One of the real guests.
    pub fn real(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.wasm"), wrt_memory_guests::real(name).wasm)
    }

    pub fn host(&self, args: &[&str]) -> Ran {
        self.host_with(args, b"")
    }

    /// Runs the host in this folder.
    pub fn host_with(&self, args: &[&str], stdin: &[u8]) -> Ran {
        let mut child = Command::new(env!("CARGO_BIN_EXE_wrt-host"))
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A host that ends without reading is none of this one's business.
        drop(child.stdin.take().unwrap().write_all(stdin));
        Ran::new(args, child.wait_with_output().unwrap())
    }
}

/// What the host did.
pub struct Ran {
    pub what: String,
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Ran {
    fn new(args: &[&str], output: Output) -> Self {
        let code = output.status.code().unwrap_or_else(|| panic!("{args:?}: {output:?}"));
        let stderr = String::from_utf8(output.stderr).unwrap();
        Self { what: args.join(" "), code, stdout: output.stdout, stderr }
    }

    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }

    /// With this exit code, and all of this on stderr.
    #[track_caller]
    pub fn ended(self, code: i32, said: &[&str]) -> Self {
        assert_eq!(
            self.code,
            code,
            "{}\n{}{}",
            self.what,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        for said in said {
            assert!(self.stderr.contains(said), "{}: no `{said}` in\n{}", self.what, self.stderr);
        }
        self
    }

    /// The JSON on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", self.what, self.stdout()))
    }
}

/// What is true of every report, whatever happened to the guests.
#[track_caller]
pub fn sound(report: &Value) {
    assert_eq!(report["all_bytes_back"], true, "{report:#}");
    assert_eq!(report["used"], 0, "{report:#}");
    assert_eq!(report["left"].as_array().unwrap().len(), 0, "{report:#}");
    for node in report["crates"].as_array().unwrap() {
        // What a group has given out stays with its guests while it is guaranteed to them.
        assert!(node["children"] != 0 || node["used"] == 0, "{report:#}");
        // Who borrowed had more.
        let borrows = report["sharing"]["loans"] != 0 && node["name"] == "burst";
        assert!(borrows || node["high_water"].as_u64() <= node["limit"].as_u64(), "{report:#}");
    }
    assert!(report["pool"]["high_water"].as_u64() <= report["pool"]["limit"].as_u64(), "{report:#}");
}

/// How many instances of the first guest ended so.
pub fn count(report: &Value, outcome: &str) -> usize {
    report["guests"][0]["runs"].as_array().unwrap().iter().filter(|run| run["outcome"] == outcome).count()
}
