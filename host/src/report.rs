//! What came of a run: for a table, for `--json`, for the exit code.

use serde::Serialize;
use wrt_memory::{CrateId, NodeSnapshot, Snapshot};

use crate::outcome::{self, Outcome};
use crate::plan::Runtime;

/// A run that is over.
#[derive(Debug, Serialize)]
pub struct Report {
    /// What ran the guests.
    pub runtime: Runtime,
    /// The budgets after all guests ended, every crate still registered.
    #[serde(flatten)]
    pub snapshot: Snapshot,
    /// The guests.
    pub guests: Vec<GuestReport>,
    /// Whether every crate could be retired and the pool has given out nothing.
    pub all_bytes_back: bool,
    /// What is not back, and where it is.
    pub left: Vec<String>,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
    /// The exit code of this program.
    pub exit_code: u8,
}

/// A guest of a run.
#[derive(Debug, Serialize)]
pub struct GuestReport {
    /// Its crate, as in the snapshot.
    pub id: CrateId,
    /// Its crate's name.
    pub name: String,
    /// `core` or `component`.
    pub kind: &'static str,
    /// How many instances there were.
    pub instances: usize,
    /// Most bytes in use at once, over all of them.
    pub peak: usize,
    /// The assertion about it, in bytes.
    pub assert_peak: Option<usize>,
    /// Whether the peak was above it.
    pub above_peak: bool,
    /// How each instance ended.
    pub runs: Vec<RunReport>,
}

/// An instance of a run.
#[derive(Debug, Serialize)]
pub struct RunReport {
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What it was denied last.
    pub last_denial: Option<String>,
}

impl Report {
    /// A guest's budget.
    pub fn node(&self, guest: &GuestReport) -> Option<&NodeSnapshot> {
        self.snapshot.crates.iter().find(|node| node.id == guest.id)
    }

    /// The exit code: what the first guest that failed says, else whether a peak was too high, else whether
    /// bytes are missing.
    pub fn judge(&self) -> u8 {
        let mut codes = self.guests.iter().flat_map(|guest| &guest.runs).map(|run| run.outcome.code());
        if let Some(code) = codes.find(|&code| code != 0) {
            code
        } else if self.guests.iter().any(|guest| guest.above_peak) {
            outcome::ABOVE_PEAK
        } else if !self.all_bytes_back {
            outcome::NOT_BACK
        } else {
            0
        }
    }
}
